package tunnel

import (
	"errors"
	"net/netip"

	"tund/crypto/keys"
	"tund/internal/drop"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// SetUp tells the tunnel whether its device is up; it begins as up. While it is down nothing is
// sent or answered: as in the kernel (wg_stop), sessions end, timers stand still and what waited is
// dropped, while peers, counters and sockets stay. Peers that run tund are told, so that they need
// not wait for a timeout to find out. When the device comes up, peers with a persistent
// keepalive hear from us at once. Saying the same again does nothing. A tunnel of two devices that
// share the sessions is down only when both are: that is for the caller to judge.
func (t *Tunnel) SetUp(up bool) {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	changed := t.toldDown == up
	if changed && !up {
		t.goodbye()
	}
	t.env.Link.Set(up)
	if !changed {
		return
	}
	t.toldDown = !up
	now := t.env.Clock.Now()
	for _, p := range t.peers.All() {
		if !up {
			t.quiet(p)
			continue
		}
		// Of a lane that had looked just before the device went down: the timers were deaf to it.
		if p.Timers.Granted() {
			t.env.WantHandshake(p, now)
		}
		if p.Timers.Persistent() != 0 {
			t.env.WantKeepalive(p, now)
			t.env.Arm(p)
		}
	}
}

// Handshake asks for a new session with a peer, as soon as the rules of the protocol allow one. It
// returns false if there is no such peer.
func (t *Tunnel) Handshake(key keys.PublicKey) bool {
	p := t.peers.Get(key)
	if p == nil {
		return false
	}
	t.env.WantHandshake(p, t.env.Clock.Now())
	return true
}

// quiet ends everything under way with p.
func (t *Tunnel) quiet(p *peer.Peer) {
	p.DropSessions(t.env.Index)
	p.StopTimers()
	p.Timers.Granted()
	t.env.SessionChanged(p)
	t.env.Drop(p, drop.DeviceDown, uint64(p.Staged.Purge(t.env.Waiting)))
}

// SetMark sets the fwmark of our datagrams (SO_MARK); 0 removes it.
func (t *Tunnel) SetMark(mark uint32) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	var errs []error
	for _, l := range t.lanes {
		errs = append(errs, l.Conn().SetMark(mark))
	}
	return errors.Join(errs...)
}

// SetMTU tells the tunnel the MTU of one of its devices, in bytes, which bounds the padding of what
// it reads.
func (t *Tunnel) SetMTU(device string, mtu int) {
	for _, d := range t.devices {
		if d.Name != device || mtu <= 0 {
			continue
		}
		d.SetMTU(mtu)
		if d.Link == offload.Ethernet {
			t.lan.SetMTU(mtu)
		} else {
			d.SetPadLimit(mtu)
		}
	}
}

// SetRouteMTUs tells the tunnel the MTUs that routes through a device set below the device's own
// (`ip route add … mtu 1300`).
func (t *Tunnel) SetRouteMTUs(device string, mtus []int) {
	for _, d := range t.devices {
		if d.Name == device {
			d.SetRouteMTUs(mtus)
		}
	}
}

// SetPathMTU tells the tunnel how large an IP packet the path to its peers takes, in bytes. Frames
// that would need a larger one are cut.
func (t *Tunnel) SetPathMTU(mtu int) { t.lan.SetPath(mtu) }

// SetInterfaceMTUs tells the tunnel the MTU, in bytes, of the interface by which each endpoint is
// reached, from which the search for the path MTU of tund peers begins. The map must not change
// afterwards.
func (t *Tunnel) SetInterfaceMTUs(mtus map[netip.Addr]int) { t.extensions.SetInterfaceMTUs(mtus) }

// SetLocalAddresses tells the tunnel which addresses this host has, by which it knows its own
// datagrams from those of hosts behind it. Until it is told, any address may be ours.
func (t *Tunnel) SetLocalAddresses(addrs []netip.Addr) { t.env.Routes.SetLocal(addrs) }

// PathsChanged is called when addresses or routes under the tunnel changed. For the peers whose
// path has changed according to stale, and for those whose path is not known, the source address is
// forgotten, and those with a session hear from us at once, so that they learn our new address. All
// others continue as they are: a peer that has chosen one of our addresses goes on hearing from
// that one. stale is given endpoints with a Source.
func (t *Tunnel) PathsChanged(stale func(udp.Endpoint) bool) {
	now := t.env.Clock.Now()
	for _, p := range t.peers.All() {
		ep := p.Endpoint()
		if ep != nil && ep.Source.IsValid() && !stale(*ep) {
			continue
		}
		p.ClearSource()
		p.RenewZone()
		if kp := p.Current(); kp != nil && kp.Usable(now) {
			t.env.WantKeepalive(p, now)
		}
	}
}
