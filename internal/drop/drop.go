// Package drop names every reason for which a packet is dropped.
//
// A drop is not an error: the packet is counted and discarded. The packet path returns a Reason
// instead of an error, so a hostile datagram costs no allocation and no log line, and operators
// read the names in `tunctl status`. The package does not log, and its only state are the counters
// that its callers own.
package drop

import "sync/atomic"

// Reason says why a packet was discarded. None means it was not.
type Reason uint8

// The reasons. Add one at the end of its group, with its name in names below; a test checks that
// each has one.
const (
	None Reason = iota

	// Device to peer.
	NoPeer     // no allowed IP covers the destination
	NoEndpoint // the peer's endpoint is not known (yet)
	// Waiting for a session, pushed out by newer packets (128 per peer, 16 MiB in all)
	StagedFull
	StagedTimeout // waited for a session that never came
	SendError     // the kernel refused our datagram (EPERM, ENOBUFS, ENETUNREACH, …)
	TooBig        // the datagram is larger than the path to the endpoint takes (EMSGSIZE)
	// The device handed us something that is not a packet of its kind, or a stale virtio header.
	BadDevicePacket
	// A superpacket of which far more would leave than was read: its segments are too small.
	TinySegments
	RoutingLoop // a datagram of our own that a route led back into the tunnel

	// Peer to device, before authentication.
	Malformed       // no known type, or a length its type does not have
	BadMAC1         // mac1 does not match: made for another public key, or noise
	UnknownIndex    // no session or handshake has this receiver index
	HandshakeQueue  // the handshake queue was full
	DuplicateInit   // an initiation seen before, byte for byte
	RateLimited     // one source sent handshakes faster than 20 a second
	UnderLoad       // answered with a cookie reply instead
	CookieBudget    // under load, and the budget for cookie replies was used up
	HandshakeFailed // did not decrypt, unknown peer, stale timestamp or a failed cookie reply
	BadTag          // transport data whose tag does not verify
	Expired         // transport data for a session past RejectAfterTime or RejectAfterMessages

	// Peer to device, after authentication.
	Replay         // counter already seen, or older than the window
	BadInnerPacket // neither IPv4, IPv6 nor one of ours, or an inner length that does not fit
	ForeignSource  // the inner source belongs to another peer, or to none
	NoDevice       // an Ethernet frame without [tap] here, or an IP packet without [tun]
	DeviceWrite    // the device refused the write (down, or full)
	// Its datagram met congestion, of which only a loss tells its sender (RFC 6040)
	Congestion
	// A packet outside data sessions from a peer with post_quantum = "require"
	NotPostQuantum
	ControlQueue // a control message of a tund peer found the queue to the switch full
	ControlRate  // a control message over the rate that one peer may send them at

	// Ethernet (tunnel/l2).
	ShortFrame       // shorter than its own headers
	OversizeFrame    // longer than the device's MTU and its headers
	SourceMulticast  // source MAC with the group bit, or all zero
	SourceForeign    // source MAC pinned or local elsewhere
	MACLimit         // source MAC over the peer's max_macs while pinning is on
	MACFrozen        // source MAC moved too often and is frozen elsewhere
	LinkLocalFrame   // 01:80:c2:00:00:0x, which a bridge never forwards
	BPDU             // a spanning tree frame, by the bpdu policy
	VLANRefused      // tagged with a VLAN this port does not carry
	DoubleTag        // tagged twice where that is not allowed
	StormBroadcast   // over the port's broadcast limit
	StormMulticast   // over the port's multicast limit
	StormUnknown     // over the port's unknown-unicast limit
	GuardDHCP        // DHCP server message from a port not trusted with it
	GuardRA          // router advertisement or redirect from a port not trusted with it
	LoopBlocked      // the port is blocked by the loop guard
	HopLimit         // hub mode: the frame has passed too many hubs
	SplitHorizon     // from a peer, known behind another peer, and not a hub
	SamePort         // the destination is behind the port it came from
	NoEthernetPeer   // no peer carries Ethernet (yet)
	NotEthernetPeer  // an Ethernet frame from a peer that may not send one
	ReassemblyFull   // fragment table full, oldest pushed out
	ReassemblyBad    // fragment that contradicts its frame
	ReassemblyLost   // frame given up: a fragment did not come
	SuppressedARP    // ARP or ND answered here and not flooded (not a loss)
	SnoopedMulticast // no listener behind any port (not a loss)
	Isolated         // between two isolated ports
	NotFlooded       // broadcast, multicast or to an unknown MAC, and no port takes such frames

	// Handshake and lanes, in general.
	ReceiveError  // the socket failed to receive
	QueueOverflow // the kernel's receive buffer overflowed (SO_RXQ_OVFL)
	DeviceDown    // the device is down, so nothing is sent or answered
	// One packet of a bulk TCP flow, to tell it that a queue before us does not empty (RFC 8289)
	StandingQueue
	Internal // a bug of ours, caught; the log has the stack

	count // number of reasons
)

var names = [count]string{
	None: "none",

	NoPeer: "no-peer", NoEndpoint: "no-endpoint", StagedFull: "staged-full", StagedTimeout: "staged-timeout",
	SendError: "send-error", TooBig: "too-big", BadDevicePacket: "bad-device-packet",
	TinySegments: "tiny-segments", RoutingLoop: "routing-loop",

	Malformed: "malformed", BadMAC1: "bad-mac1", UnknownIndex: "unknown-index", HandshakeQueue: "handshake-queue",
	DuplicateInit: "duplicate-initiation", RateLimited: "rate-limited", UnderLoad: "under-load",
	CookieBudget: "cookie-budget", HandshakeFailed: "handshake-failed", BadTag: "bad-tag", Expired: "expired",

	Replay: "replay", BadInnerPacket: "bad-inner-packet", ForeignSource: "foreign-source", NoDevice: "no-device",
	DeviceWrite: "device-write", Congestion: "congestion", NotPostQuantum: "not-post-quantum", ControlQueue: "control-queue",
	ControlRate: "control-rate",

	ShortFrame: "short-frame", OversizeFrame: "oversize-frame", SourceMulticast: "source-multicast",
	SourceForeign: "source-foreign", MACLimit: "mac-limit", MACFrozen: "mac-frozen", LinkLocalFrame: "link-local-frame",
	BPDU: "bpdu", VLANRefused: "vlan-refused", DoubleTag: "double-tag", StormBroadcast: "storm-broadcast",
	StormMulticast: "storm-multicast", StormUnknown: "storm-unknown-unicast", GuardDHCP: "guard-dhcp", GuardRA: "guard-ra",
	LoopBlocked: "loop-blocked", HopLimit: "hop-limit", SplitHorizon: "split-horizon", SamePort: "same-port",
	NoEthernetPeer: "no-ethernet-peer", NotEthernetPeer: "not-ethernet-peer", ReassemblyFull: "reassembly-full",
	ReassemblyBad: "reassembly-bad", ReassemblyLost: "reassembly-lost", SuppressedARP: "suppressed-neighbor",
	SnoopedMulticast: "snooped-multicast", Isolated: "isolated", NotFlooded: "not-flooded",

	ReceiveError: "receive-error", QueueOverflow: "queue-overflow", StandingQueue: "standing-queue", DeviceDown: "device-down", Internal: "internal",
}

// String returns the name shown in status, in metrics and in the documentation.
func (r Reason) String() string {
	if r >= count {
		return "unknown"
	}
	return names[r]
}

// Names returns the names of all reasons but None. The slice belongs to the caller.
func Names() []string { return append([]string(nil), names[None+1:]...) }

// IsLoss reports whether drops with a name, as String returns it, are losses to somebody. The
// others are counted because a frame went nowhere, which is where it belongs.
func IsLoss(name string) bool {
	return name != SuppressedARP.String() && name != SnoopedMulticast.String() && name != NotFlooded.String()
}

// Losses sums those of counts by name, as Snapshot returns them, that are losses.
func Losses(counts map[string]uint64) (sum uint64) {
	for name, n := range counts {
		if IsLoss(name) {
			sum += n
		}
	}
	return sum
}

// Counters counts drops by reason. The zero value is ready; it is safe for concurrent use and must
// not be copied.
type Counters struct {
	n [count]atomic.Uint64
}

// Add counts n packets dropped for r. Adding None does nothing.
func (c *Counters) Add(r Reason, n uint64) {
	if r != None && r < count {
		c.n[r].Add(n)
	}
}

// Get returns the count for r.
func (c *Counters) Get(r Reason) uint64 { return c.n[r].Load() }

// Snapshot returns the reasons that have occurred, by name. The map is the caller's.
func (c *Counters) Snapshot() map[string]uint64 {
	m := make(map[string]uint64)
	for r := None + 1; r < count; r++ {
		if n := c.n[r].Load(); n != 0 {
			m[r.String()] = n
		}
	}
	return m
}
