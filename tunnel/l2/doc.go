// Package l2 is Ethernet over WireGuard sessions: what a frame looks like inside a session, and a learning
// switch that decides who receives it.
//
// The switch has one local port, the TAP (port 0), and one port per Ethernet peer. It learns which MAC lives
// behind which port, sends known unicast to one port and replicates the rest, and refuses what a stretched LAN
// must not carry: stolen MACs, foreign VLANs, spanning tree, storms, loops, and (unless the peer is trusted
// with it) DHCP answers and router advertisements. Every refusal is a drop.Reason.
//
// # The unit
//
// A decision is made once per superpacket: all its segments share one Ethernet header. Limits that count frames
// (storm control, drop counters) weigh it by its number of segments.
//
// # What it does not do
//
// No goroutine, socket, clock, logger or randomness of its own: bytes, values and now go in, values come out.
// It does not seal, split or write anything. It does not speak spanning tree, and it is no IGMP querier.
//
// # Concurrency
//
// All methods of Switch are safe for concurrent use; the lanes call FromDevice and FromPeer, the
// slow plane calls Control and Tick. Known unicast takes no lock: configuration is an immutable
// view behind an atomic pointer, the forwarding database is read through per-bucket sequence
// counters, storm limits are one compare-and-swap. A lock is taken to learn a new MAC, to move one,
// for ARP and neighbour discovery, with neighbour suppression once a second for each source, and
// (shared) for multicast. No lock is held while another is taken, so there is no order to keep.
// Reassembler is not safe for concurrent use: each lane has its own.
//
// # Sources
//
// IEEE 802.1Q-2018 (8.6 reserved addresses, 8.7 learning, 9 tags), RFC 7432 §15.1 (MAC mobility and
// damping), RFC 4541 (IGMP and MLD snooping), RFC 2236, RFC 3376, RFC 3810, RFC 2113 and RFC 2711
// (router alert), RFC 826, RFC 5227, RFC 4861, RFC 6980 and RFC 7113 (fragmented neighbour
// discovery, RA guard), RFC 1624 (incremental checksum), RFC 9161 (ARP and ND proxy). The formats
// are drawn in docs/protocol-ethernet.md.
package l2
