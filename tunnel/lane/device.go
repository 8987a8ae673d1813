package lane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// Device is a device from the point of view of the loops.
type Device struct {
	// Constant once a loop runs.
	Name     string
	Index    uint8 // among the tunnel's devices
	Link     offload.Link
	Prefix   int // number of bytes that we put before each packet inside the session
	Features tundev.Features
	Queues   []tundev.Queue
	Progress []*watchdog.Progress // of the send loops, by queue
	// NewForwarder gives each loop its own forwarder, with its own scratch state.
	NewForwarder func(*Lane, tundev.Queue) Forwarder

	drops    drop.Counters // also counted in the tunnel's
	mtu      atomic.Int32
	padLimit atomic.Int32 // see SetPadLimit
	// MTUs that routes through the device set, ascending; nil: none.
	routeMTUs atomic.Pointer[[]int]

	// A packet from a peer that goes on to the Internet: source and destination; 0: none.
	outward atomic.Uint64

	// Counted as in `ip -s link`: rx is what peers sent.
	rxPackets, rxBytes, txPackets, txBytes atomic.Uint64
}

// MTU returns the device's MTU in bytes of an IP packet.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// SetMTU notes a new MTU of the device.
func (d *Device) SetMTU(mtu int) { d.mtu.Store(int32(mtu)) }

// SetPadLimit sets the IP length, in bytes, up to which packets read here may be padded: at layer 3
// the MTU, at layer 2 what the path carries.
func (d *Device) SetPadLimit(n int) { d.padLimit.Store(int32(n)) }

// SetRouteMTUs sets those MTUs of routes through the device that are smaller than its own. A packet
// is never padded beyond the MTU of its route, because the kernel used that MTU for the outer path.
func (d *Device) SetRouteMTUs(mtus []int) {
	sorted := slices.Clone(mtus)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	d.routeMTUs.Store(&sorted)
}

// CountDrop counts n dropped packets that were read from the device or intended for it.
func (d *Device) CountDrop(r drop.Reason, n uint64) { d.drops.Add(r, n) }

// noteOutward remembers an IPv4 packet from a peer with a private source and a public destination,
// unless there is one since the last TakeOutward.
func (d *Device) noteOutward(src, dst netip.Addr) {
	if d.outward.Load() != 0 || !src.Is4() || !private(src) || private(dst) {
		return
	}
	s, t := src.As4(), dst.As4()
	d.outward.Store(uint64(binary.BigEndian.Uint32(s[:]))<<32 | uint64(binary.BigEndian.Uint32(t[:])))
}

// TakeOutward returns the source and destination of an IPv4 packet that a peer has sent from a
// private address to a public one since the last call; ok is false if there was none.
func (d *Device) TakeOutward() (src, dst netip.Addr, ok bool) {
	both := d.outward.Swap(0)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], both)
	return netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom4([4]byte(b[4:])), both != 0
}

// sharedSpace is that of carriers' NAT (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// private reports whether an IPv4 address is none of a host on the Internet.
func private(a netip.Addr) bool {
	return a.IsPrivate() || !a.IsGlobalUnicast() || sharedSpace.Contains(a)
}

// DeviceCounts is what a device has transferred and lost.
type DeviceCounts struct {
	// Received is what peers sent to this host.
	RxPackets, RxBytes, TxPackets, TxBytes uint64
	// Drops counts packets read from it or intended for it; the map belongs to the caller.
	Drops map[string]uint64
}

// Counts reads the counters, one after another.
func (d *Device) Counts() DeviceCounts {
	return DeviceCounts{
		RxPackets: d.rxPackets.Load(), RxBytes: d.rxBytes.Load(),
		TxPackets: d.txPackets.Load(), TxBytes: d.txBytes.Load(), Drops: d.drops.Snapshot(),
	}
}

// minUDP is the least size of the headers of a UDP packet: IPv4 and UDP.
const minUDP = 20 + 8

// padLimitOf returns the MTU at which padding of what was read into buf stops: the device's, or
// that of the smallest route MTU that the packet fits. A packet is never longer than the MTU of its
// route, so that MTU is at least the value returned, whichever route the packet took. For a
// superpacket, the least possible length of its segments is used, which errs towards less padding.
func (d *Device) padLimitOf(buf []byte) int {
	limit := int(d.padLimit.Load())
	routes := d.routeMTUs.Load()
	if routes == nil || len(*routes) == 0 || len(buf) < offload.VirtioHeaderLen {
		return limit
	}
	size := len(buf) - offload.VirtioHeaderLen
	if buf[1] != offload.GSONone { // gso_type, and gso_size: offload.VirtioHeader
		size = int(binary.NativeEndian.Uint16(buf[4:])) + minUDP
	}
	if i, _ := slices.BinarySearch(*routes, size); i < len(*routes) {
		return min((*routes)[i], limit)
	}
	return limit
}
