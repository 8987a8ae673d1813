// Package l2 carries Ethernet over WireGuard sessions: it defines how a frame is encapsulated
// inside a session, and implements the learning switch that decides which peers receive it.
//
// The switch has one local port, the TAP device (port 0), and one port per Ethernet peer. It learns
// which MAC address is behind which port, sends known unicast to a single port and replicates
// everything else. It refuses what must not cross a stretched LAN: spoofed MAC addresses, VLANs the
// port does not carry, spanning tree, storms, loops, and (unless the peer is trusted to send them)
// DHCP server replies and router advertisements. Every refusal is a drop.Reason.
//
// # Unit of work
//
// One decision is made per superpacket, because all its segments share a single Ethernet header.
// Counters and limits that count frames (storm control, drop counters) weigh a superpacket by its
// number of segments.
//
// # What it does not do
//
// The package has no goroutine, socket, clock, logger or source of randomness of its own: bytes,
// values and the current time go in, and values come out. It does not encrypt, segment or write
// anything. It does not take part in spanning tree, and it is not an IGMP or MLD querier: it asks
// only single hosts that have moved (move.go).
//
// # Concurrency
//
// All methods of Switch are safe for concurrent use; the lanes call FromDevice and FromPeer, and
// the slow plane calls Control and Tick. Forwarding known unicast takes no lock: the configuration
// is an immutable view behind an atomic pointer, the forwarding database is read through per-bucket
// sequence counters, and storm limits are a single compare-and-swap. A lock is taken to learn or
// move a MAC address, for ARP and neighbour discovery, once a second per source when neighbour
// suppression is on, and (shared) for multicast. No lock is acquired while another is held, so
// there is no lock order to observe. Reassembler is not safe for concurrent use: each lane has its
// own.
//
// # Sources
//
// IEEE 802.1Q-2018 (8.6 reserved addresses, 8.7 learning, 9 tags), RFC 7432 §15.1 (MAC mobility and
// damping), RFC 4541 (IGMP and MLD snooping), RFC 2236, RFC 3376, RFC 3810, RFC 2113 and RFC 2711
// (router alert), RFC 826, RFC 5227, RFC 4861, RFC 6980 and RFC 7113 (fragmented neighbour
// discovery, RA guard), RFC 1624 (incremental checksum update), RFC 9161 (ARP and ND proxy). The
// formats are drawn in docs/protocol-ethernet.md.
package l2
