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

// Device is a device from the point of view of the loops.
type Device struct {
	// Constant once a loop runs.
	Name     string
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
