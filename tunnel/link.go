package tunnel

import (
	"encoding/binary"
	"slices"

	"tund/internal/drop"
	"tund/tunnel/offload"
)

// SetUp tells the tunnel whether its device is up; it begins as up. While it is down nothing is sent or answered: as in
// the kernel (wg_stop), sessions end, timers stand still and what waited is dropped, while peers, counters and
// sockets stay. When it comes up, peers with a persistent keepalive hear from us at once. Saying the same again
// does nothing. A tunnel of two devices that share the sessions is down only when both are: that is for the caller
// to judge.
func (t *Tunnel) SetUp(up bool) {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	t.down.Store(!up)
	if t.toldDown == !up {
		return
	}
	t.toldDown = !up
	now := t.clock.Now()
	for _, p := range t.order {
		if !up {
			t.quiet(p)
			continue
		}
		if p.wantHandshake.Swap(false) { // of a lane that had looked just before the device went down: look was deaf to it
			t.wantHandshake(p, now)
		}
		if p.timers.Persistent() != 0 {
			t.keepalive(p, now)
			t.armed(p)
		}
	}
}

// isDown reports whether nothing is to be sent or answered. Before it says yes it asks the device, so that what comes in
// the moment after the link went up is not lost because SetUp has not been called yet.
func (t *Tunnel) isDown() bool {
	if !t.down.Load() {
		return false
	}
	for _, d := range t.devices {
		if d.up != nil && d.up() {
			t.down.Store(false)
			return false
		}
	}
	return true
}

// quiet ends everything under way with p.
func (t *Tunnel) quiet(p *Peer) {
	p.mu.Lock()
	p.dropSessions(t)
	p.timers.Stop()
	p.handshakeSent.Store(0)
	p.wantHandshake.Store(false)
	p.greet.Store(false)
	p.mu.Unlock()
	p.staged.purge(&t.budget, &t.drops, drop.DeviceDown)
}

// SetRouteMTUs tells the tunnel the MTUs that routes through a device set below the device's own (`ip route add …
// mtu 1300`). A packet is never padded past the MTU of its route: the kernel chose the outer path by it.
func (t *Tunnel) SetRouteMTUs(device string, mtus []int) {
	sorted := slices.Clone(mtus)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	for _, d := range t.devices {
		if d.name == device {
			d.routeMTUs.Store(&sorted)
		}
	}
}

// minUDP is the least that headers of a UDP packet take: IPv4 and UDP.
const minUDP = 20 + 8

// padLimit returns the MTU at which padding of what was read into buf stops: the device's, or that of the smallest route
// into which the packet fits. A packet never is longer than its route's MTU, so whichever route it took, its MTU
// is no smaller than that. Of a superpacket's segments the least possible length is taken, which errs towards less
// padding.
func (d *device) padLimit(buf []byte) int {
	limit := int(d.paddingLimit.Load())
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
