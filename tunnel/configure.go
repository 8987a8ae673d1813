package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// maxPeers bounds the configured peers, as the kernel does (MAX_PEERS_PER_DEVICE).
const maxPeers = 1 << 20

// Change says what to change of a running tunnel. What it does not name stays: sessions, counters and endpoints of
// the other peers are not touched.
type Change struct {
	// PrivateKey replaces our identity when not nil: every session ends, and a peer with our own public key is
	// removed. The same key again changes nothing.
	PrivateKey *keys.PrivateKey
	// RemovePeers removes every peer before anything else, so that those which Peers names begin anew
	// (replace_peers of WireGuard's configuration socket).
	RemovePeers bool
	// ReplacePeers removes every peer that Peers does not name.
	ReplacePeers bool
	// Peers are applied in this order; one peer may be named several times.
	Peers []PeerChange
}

// PeerChange says what to change of one peer, which is made when it is not there.
type PeerChange struct {
	PublicKey  keys.PublicKey
	Remove     bool // remove the peer; nothing else of the change counts
	UpdateOnly bool // do nothing when the peer is not there

	Name         *string
	PresharedKey *keys.PresharedKey // takes effect with the next handshake
	// Endpoints, when not nil, are where to find the peer, in order of preference. The peer moves to the first
	// unless it has a working session.
	Endpoints []netip.AddrPort
	// Endpoint, when valid, moves the peer at once (wg set … endpoint).
	Endpoint netip.AddrPort
	// Keepalive is the interval of the persistent keepalive when not nil; 0 turns it off.
	Keepalive         *time.Duration
	ReplaceAllowedIPs bool // forget the allowed IPs so far
	RemoveAllowedIPs  []netip.Prefix
	AllowedIPs        []netip.Prefix // added after those of RemoveAllowedIPs were removed
	// Ethernet, when not nil, is the peer as the switch sees it. It is ignored by a tunnel without a TAP device.
	Ethernet *l2.PortConfig
}

// ErrTooManyPeers is returned by Configure when a change would exceed the bound on peers.
var ErrTooManyPeers = errors.New("too many peers")

// Configure applies a change. It either refuses the change as a whole, having changed nothing, or applies it all.
// Changes are serialized; packets flow meanwhile.
func (t *Tunnel) Configure(c Change) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	if err := t.fits(&c); err != nil {
		return err
	}
	if c.PrivateKey != nil {
		t.rekey(*c.PrivateKey)
	}
	touched := t.updatePeers(&c)
	t.updateRoutes(&c, touched)
	now := t.clock.Now()
	for i, p := range touched {
		if p != nil && c.Peers[i].Keepalive != nil && p.greet.Swap(false) && !t.down.Load() {
			t.keepalive(p, now) // says at once that we are here, and begins a handshake if need be
		}
	}
	return nil
}

// Fits returns the error with which Configure would refuse a change, so that a caller can ask before it changes
// something else.
func (t *Tunnel) Fits(c Change) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	return t.fits(&c)
}

// fits is Fits with configMu held.
func (t *Tunnel) fits(c *Change) error {
	n := len(c.Peers)
	if !c.RemovePeers {
		n += len(t.order)
	}
	if n > maxPeers {
		return fmt.Errorf("configure: %w: %d of at most %d", ErrTooManyPeers, n, maxPeers)
	}
	return nil
}

// updatePeers makes, changes and removes peers. It returns the peer of each change, nil where there is none.
func (t *Tunnel) updatePeers(c *Change) []*Peer {
	touched := make([]*Peer, len(c.Peers))
	own := t.identity.Load().Public()
	gone := map[*Peer]bool{} // removed together, since each removal copies the table of allowed IPs
	if c.RemovePeers || c.ReplacePeers {
		stay := make(map[keys.PublicKey]bool, len(c.Peers))
		for i := range c.Peers {
			stay[c.Peers[i].PublicKey] = !c.RemovePeers && !c.Peers[i].Remove
		}
		for _, p := range t.order {
			if !stay[p.key] {
				gone[p] = true
			}
		}
		t.removePeers(gone) // before others want what they had, such as a pinned MAC
		clear(gone)
	}
	for i := range c.Peers {
		if p, port := t.peer(c.Peers[i].PublicKey), c.Peers[i].Ethernet; p != nil && port != nil && t.ethernet != nil {
			t.ethernet.release(p, port.MACs)
		}
	}
	for i := range c.Peers {
		pc := &c.Peers[i]
		p := t.peer(pc.PublicKey)
		if p != nil && gone[p] {
			t.removePeers(gone)
			clear(gone)
			p = nil
		}
		switch {
		case pc.Remove, pc.PublicKey == own && !own.IsZero():
			if p != nil {
				gone[p] = true
			}
			continue
		case p == nil && pc.UpdateOnly:
			continue
		case p == nil:
			p = t.addPeer(pc.PublicKey)
		}
		t.changePeer(p, pc)
		touched[i] = p
	}
	t.removePeers(gone)
	return touched
}

func (t *Tunnel) addPeer(key keys.PublicKey) *Peer {
	t.peersMu.Lock()
	defer t.peersMu.Unlock()
	p := &Peer{key: key, heapAt: -1}
	t.peers[key] = p
	t.order = append(t.order, p)
	return p
}

// removePeers takes peers out of every table. A lane that holds one finishes its batch.
func (t *Tunnel) removePeers(gone map[*Peer]bool) {
	if len(gone) == 0 {
		return
	}
	t.routes.Update(func(tx *l3.Tx[*Peer]) { tx.RemoveOwners(func(p *Peer) bool { return gone[p] }) })
	t.peersMu.Lock()
	kept := make([]*Peer, 0, len(t.order))
	for _, p := range t.order {
		if gone[p] {
			delete(t.peers, p.key)
		} else {
			kept = append(kept, p)
		}
	}
	t.order = kept
	t.peersMu.Unlock()
	for p := range gone {
		p.removed.Store(true)
		t.timers.remove(p)
		p.mu.Lock()
		p.dropSessions(t)
		p.timers.Stop()
		p.mu.Unlock()
		p.endpoint.Store(nil)
		if t.ethernet != nil {
			t.ethernet.removePort(p)
		}
		p.staged.close(&t.budget, &t.drops, drop.NoPeer)
	}
}

func (t *Tunnel) changePeer(p *Peer, c *PeerChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := t.clock.Now()
	if c.Name != nil {
		p.name = *c.Name
	}
	if c.PresharedKey != nil {
		p.psk = *c.PresharedKey
	}
	if c.Endpoints != nil {
		p.candidates = append([]netip.AddrPort(nil), c.Endpoints...)
		p.candidate = 0
		s := p.current.Load()
		if len(p.candidates) > 0 && (p.endpoint.Load() == nil || s == nil || !s.usable(now)) {
			p.setEndpoint(udp.Endpoint{Addr: p.candidates[0]})
		}
	}
	if c.Endpoint.IsValid() {
		p.setEndpoint(udp.Endpoint{Addr: c.Endpoint})
	}
	if c.Keepalive != nil {
		if p.timers.Persistent() == 0 && *c.Keepalive != 0 {
			p.greet.Store(true)
		}
		p.timers.SetPersistent(*c.Keepalive, now)
		t.armed(p)
	}
	if c.Ethernet != nil && t.ethernet != nil {
		p.ethernet.Store(c.Ethernet.Ethernet)
		if err := t.ethernet.setPort(p, *c.Ethernet); err != nil {
			t.log.Error("port of the switch not configured", zap.String("peer", p.display()), zap.Error(err))
		}
	}
}

// updateRoutes changes the table of allowed IPs for all peers of a change at once.
func (t *Tunnel) updateRoutes(c *Change, touched []*Peer) {
	any := false
	for i := range c.Peers {
		pc := &c.Peers[i]
		any = any || touched[i] != nil && (pc.ReplaceAllowedIPs || len(pc.AllowedIPs)+len(pc.RemoveAllowedIPs) > 0)
	}
	if !any {
		return
	}
	t.routes.Update(func(tx *l3.Tx[*Peer]) {
		replaced := map[*Peer]bool{}
		for i, p := range touched {
			if p != nil && c.Peers[i].ReplaceAllowedIPs {
				replaced[p] = true
			}
		}
		if len(replaced) > 0 {
			tx.RemoveOwners(func(p *Peer) bool { return replaced[p] })
		}
		fresh := map[*Peer][]netip.Prefix{} // added by this change, in case it names the peer again to replace them
		for i, p := range touched {
			if p == nil || p.removed.Load() {
				continue
			}
			pc := &c.Peers[i]
			if pc.ReplaceAllowedIPs {
				removeAll(tx, fresh[p], p)
				delete(fresh, p)
			}
			removeAll(tx, pc.RemoveAllowedIPs, p)
			for _, prefix := range pc.AllowedIPs {
				tx.Insert(prefix, p)
			}
			if replaced[p] && len(touched) > 1 {
				fresh[p] = append(fresh[p], pc.AllowedIPs...)
			}
		}
	})
}

func removeAll(tx *l3.Tx[*Peer], prefixes []netip.Prefix, owner *Peer) {
	for _, prefix := range prefixes {
		tx.Remove(prefix, owner)
	}
}

// rekey replaces our identity: all sessions and handshakes belong to the old one.
func (t *Tunnel) rekey(k keys.PrivateKey) {
	old := t.identity.Load()
	if old.Public() == k.Public() {
		return
	}
	if p := t.peer(k.Public()); p != nil && !k.IsZero() {
		t.removePeers(map[*Peer]bool{p: true})
	}
	t.setIdentity(k)
	for _, p := range t.order {
		p.mu.Lock()
		p.dropSessions(t)
		p.timers.Stop() // or the next handshake waits for the response to the one that ended here
		p.remote, p.macs = nil, nil
		p.handshakeSent.Store(0)
		p.wantHandshake.Store(false)
		p.mu.Unlock()
		if p.staged.count.Load() != 0 {
			t.wantHandshake(p, t.clock.Now())
		}
	}
}

// Rebind replaces the sockets, one for each lane, and closes the old ones. On an error nothing has changed, and the new ones
// remain the caller's. Peers learn the new port from the next
// datagram they get, which is sent at once to those with a session.
func (t *Tunnel) Rebind(conns []udp.Conn) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	if len(conns) != len(t.lanes) {
		return fmt.Errorf("rebind: %d sockets for %d lanes", len(conns), len(t.lanes))
	}
	if t.closed.Load() {
		return errors.New("rebind: tunnel is closed")
	}
	for i, l := range t.lanes {
		conns[i].OnHint(t.hints.put)
		old := l.binding.Swap(&binding{conns[i]})
		select {
		case l.reboundC <- struct{}{}:
		default:
		}
		t.drops.Add(drop.QueueOverflow, old.conn.Overflows()) // the new one counts from zero
		if err := old.conn.Close(); err != nil {
			t.log.Debug("old socket", zap.Error(err))
		}
	}
	t.UnderlayChanged()
	return nil
}

// SetMark sets the fwmark of our datagrams (SO_MARK); 0 removes it.
func (t *Tunnel) SetMark(mark uint32) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	var errs []error
	for _, l := range t.lanes {
		errs = append(errs, l.binding.Load().conn.SetMark(mark))
	}
	return errors.Join(errs...)
}

// SetMTU tells the tunnel the MTU of its device of one link, which bounds the padding of what it reads.
func (t *Tunnel) SetMTU(device string, mtu int) {
	for _, d := range t.devices {
		if d.name != device || mtu <= 0 {
			continue
		}
		d.mtu.Store(int32(mtu))
		if d.kind == tundev.TAP {
			t.ethernet.setMTU(mtu)
		} else {
			d.paddingLimit.Store(int32(mtu))
		}
	}
}

// SetPathMTU tells the tunnel how large an IP packet the path to its peers takes, in bytes. Frames that would need a
// larger one are cut.
func (t *Tunnel) SetPathMTU(mtu int) {
	if t.ethernet != nil {
		t.ethernet.setPath(mtu)
	}
}
