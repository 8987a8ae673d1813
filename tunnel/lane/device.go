package lane

import (
	"encoding/binary"
	"slices"
	"sync/atomic"

	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// Device is a device as the loops see it.
type Device struct {
	// Constant once a loop runs.
	Name     string
	Link     offload.Link
	Prefix   int // bytes of ours before each packet inside the session
	Features tundev.Features
	Queues   []tundev.Queue
	Progress []*watchdog.Progress // of the send loops, by queue
	// NewForwarder gives each loop its own forwarder, with its own scratch state.
	NewForwarder func(*Lane, tundev.Queue) Forwarder

	drops    drop.Counters // also counted in the tunnel's
	mtu      atomic.Int32
	padLimit atomic.Int32 // see SetPadLimit
	// Those that routes through the device set, ascending; nil: none do.
	routeMTUs atomic.Pointer[[]int]

	// As `ip -s link` counts: rx is what peers sent.
	rxPackets, rxBytes, txPackets, txBytes atomic.Uint64
}

// MTU returns the device's MTU in bytes of an IP packet.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// SetMTU notes that the device has another MTU.
func (d *Device) SetMTU(mtu int) { d.mtu.Store(int32(mtu)) }

// SetPadLimit says up to which IP length, in bytes, packets read here may be padded: at layer 3 the
// MTU, at layer 2 what the path takes.
func (d *Device) SetPadLimit(n int) { d.padLimit.Store(int32(n)) }

// SetRouteMTUs says which MTUs routes through the device set below its own. A packet is never
// padded past the MTU of its route: the kernel chose the outer path by it.
func (d *Device) SetRouteMTUs(mtus []int) {
	sorted := slices.Clone(mtus)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	d.routeMTUs.Store(&sorted)
}

// CountDrop counts n packets read from the device, or for it, that were dropped.
func (d *Device) CountDrop(r drop.Reason, n uint64) { d.drops.Add(r, n) }

// DeviceCounts is what a device has carried and lost.
type DeviceCounts struct {
	// Received is what peers sent to this host.
	RxPackets, RxBytes, TxPackets, TxBytes uint64
	// Of what was read from it or written to it; the caller's.
	Drops map[string]uint64
}

// Counts reads the counters, one after another.
func (d *Device) Counts() DeviceCounts {
	return DeviceCounts{
		RxPackets: d.rxPackets.Load(), RxBytes: d.rxBytes.Load(),
		TxPackets: d.txPackets.Load(), TxBytes: d.txBytes.Load(), Drops: d.drops.Snapshot(),
	}
}

// minUDP is the least that headers of a UDP packet take: IPv4 and UDP.
const minUDP = 20 + 8

// padLimitOf returns the MTU at which padding of what was read into buf stops: the device's, or
// that of the smallest route into which the packet fits. A packet never is longer than its route's
// MTU, so whichever route it took, its MTU is no smaller than that. Of a superpacket's segments the
// least possible length is taken, which errs towards less padding.
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
