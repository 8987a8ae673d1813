package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// maxPeers bounds the configured peers, as the kernel does (MAX_PEERS_PER_DEVICE).
const maxPeers = 1 << 20

// Change says what to change of a running tunnel. What it does not name stays: sessions, counters
// and endpoints of the other peers are not touched.
type Change struct {
	// PrivateKey replaces our identity when not nil: sessions of other identities end, and a peer
	// with our own public key is removed. The same key again changes nothing.
	PrivateKey *keys.PrivateKey
	// PreviousKey is an identity under which peers may still know us, zero if there is none. It
	// counts only beside PrivateKey. Its sessions stay, and new ones are made with peers that know
	// us by it.
	PreviousKey keys.PrivateKey
	// CallPeers calls peers at once that lose their session because of PrivateKey: they may know
	// the new key already. Without it they are called when there is something to send, as in the
	// kernel: who calls before the peer knows the key has to wait for RekeyTimeout.
	CallPeers bool
	// RemovePeers removes every peer before anything else, so that those which Peers names begin
	// anew (replace_peers of WireGuard's configuration socket).
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
	// Endpoints, when not nil, are where to find the peer, in order of preference. The peer moves
	// to the first unless it has a working session.
	Endpoints []netip.AddrPort
	// Endpoint, when valid, moves the peer at once (wg set … endpoint).
	Endpoint netip.AddrPort
	// Keepalive is the interval of the persistent keepalive when not nil; 0 turns it off.
	Keepalive         *time.Duration
	ReplaceAllowedIPs bool // forget the allowed IPs so far
	RemoveAllowedIPs  []netip.Prefix
	// AllowedIPs are added after those of RemoveAllowedIPs were removed. Another peer loses what it
	// had of them.
	AllowedIPs []netip.Prefix
	// SharedIPs are added as AllowedIPs are, but other peers keep them, too: the one of the highest
	// Priority carries among those that work.
	SharedIPs []netip.Prefix
	Priority  *int // when not nil
	// Extensions, when not nil, says whether to ask the peer for what tund peers do beyond
	// WireGuard. A new peer is not asked.
	Extensions *peer.ExtensionMode
	// Liveness is the interval of the echo requests that tell whether the peer is alive, when not
	// nil; 0 turns them off.
	Liveness *time.Duration
	// PostQuantum, when not nil, says whether data sessions have a post-quantum secret. It takes
	// effect with the next session, except that datasession.Require stops other packets at once.
	PostQuantum *datasession.PostQuantum
	// Ethernet, when not nil, is the peer as the switch sees it. It is ignored by a tunnel without
	// a TAP device.
	Ethernet *l2.PortConfig
}

// ErrTooManyPeers is returned by Configure when a change would exceed the bound on peers.
var ErrTooManyPeers = errors.New("too many peers")

// Configure applies a change. It either refuses the change as a whole, having changed nothing, or
// applies it all. Changes are serialized; packets flow meanwhile.
func (t *Tunnel) Configure(c Change) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	if err := t.fits(&c); err != nil {
		return err
	}
	if c.PrivateKey != nil {
		t.rekey(*c.PrivateKey, c.PreviousKey, c.CallPeers)
	}
	touched := t.updatePeers(&c)
	t.updateRoutes(&c, touched)
	t.applyVia()
	return nil
}

// Fits returns the error with which Configure would refuse a change, so that a caller can ask
// before it changes something else.
func (t *Tunnel) Fits(c Change) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	return t.fits(&c)
}

// fits is Fits with configMu held.
func (t *Tunnel) fits(c *Change) error {
	n := len(c.Peers)
	if !c.RemovePeers {
		n += len(t.peers.All())
	}
	if n > maxPeers {
		return fmt.Errorf("configure: %w: %d of at most %d", ErrTooManyPeers, n, maxPeers)
	}
	if err := t.fitsPorts(c); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}

// fitsPorts is the part of fits that concerns the switch. A change that leaves the other peers
// alone is judged without looking at them.
func (t *Tunnel) fitsPorts(c *Change) error {
	if t.lan == nil {
		return nil
	}
	if !c.RemovePeers && !c.ReplacePeers && c.PrivateKey == nil {
		if set, gone := t.portsNamed(c); t.lan.Takes(set, gone) {
			return nil
		}
	}
	return t.lan.Check(t.portsAfter(c))
}

// portsAfter returns the ports of the switch as they will be after a change, by key of the peer.
func (t *Tunnel) portsAfter(c *Change) map[keys.PublicKey]l2.PortConfig {
	ports := make(map[keys.PublicKey]l2.PortConfig)
	if !c.RemovePeers {
		t.lan.Configs(ports)
	}
	if c.ReplacePeers {
		named := make(map[keys.PublicKey]bool)
		for i := range c.Peers {
			named[c.Peers[i].PublicKey] = !c.Peers[i].Remove
		}
		maps.DeleteFunc(ports, func(key keys.PublicKey, _ l2.PortConfig) bool { return !named[key] })
	}
	delete(ports, t.ownAfter(c))
	set, gone := t.portsNamed(c)
	maps.DeleteFunc(ports, func(key keys.PublicKey, _ l2.PortConfig) bool { return gone[key] })
	maps.Copy(ports, set)
	return ports
}

// portsNamed returns what a change makes of the ports of the peers that it names: a configuration,
// or nothing. A peer whose port it leaves alone is in neither map.
func (t *Tunnel) portsNamed(c *Change) (set map[keys.PublicKey]l2.PortConfig, gone map[keys.PublicKey]bool) {
	set, gone = make(map[keys.PublicKey]l2.PortConfig), make(map[keys.PublicKey]bool)
	own := t.ownAfter(c)
	there := make(map[keys.PublicKey]bool) // what is known of the peers that the change names
	for i := range c.Peers {
		pc := &c.Peers[i]
		exists, known := there[pc.PublicKey]
		if !known {
			exists = !c.RemovePeers && t.peers.Get(pc.PublicKey) != nil
		}
		stays := !pc.Remove && (pc.PublicKey != own || own.IsZero()) && (exists || !pc.UpdateOnly)
		there[pc.PublicKey] = stays
		if !stays {
			delete(set, pc.PublicKey)
			gone[pc.PublicKey] = true
		} else if pc.Ethernet != nil {
			set[pc.PublicKey] = *pc.Ethernet
			delete(gone, pc.PublicKey)
		}
	}
	return set, gone
}

// ownAfter returns our public key as it will be after a change.
func (t *Tunnel) ownAfter(c *Change) keys.PublicKey {
	if c.PrivateKey != nil {
		return c.PrivateKey.Public()
	}
	return t.handshakes.PublicKey()
}

// updatePeers makes, changes and removes peers. It returns the peer of each change, nil where there
// is none.
func (t *Tunnel) updatePeers(c *Change) []*peer.Peer {
	touched := make([]*peer.Peer, len(c.Peers))
	own := t.handshakes.PublicKey()
	// Removed together, since each removal copies the list of peers.
	gone := map[*peer.Peer]bool{}
	left := map[*peer.Peer]bool{} // all that were removed
	ports := map[*peer.Peer]l2.PortConfig{}
	if c.RemovePeers || c.ReplacePeers {
		stay := make(map[keys.PublicKey]bool, len(c.Peers))
		for i := range c.Peers {
			stay[c.Peers[i].PublicKey] = !c.RemovePeers && !c.Peers[i].Remove
		}
		for _, p := range t.peers.All() {
			if !stay[p.PublicKey()] {
				gone[p] = true
			}
		}
		t.removePeers(gone)
		maps.Copy(left, gone)
		clear(gone)
	}
	for i := range c.Peers {
		pc := &c.Peers[i]
		p := t.peers.Get(pc.PublicKey)
		if p != nil && gone[p] {
			t.removePeers(gone)
			maps.Copy(left, gone)
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
			p = t.peers.Add(pc.PublicKey)
		}
		t.changePeer(p, pc)
		touched[i] = p
		if pc.Ethernet != nil {
			ports[p] = *pc.Ethernet
		}
	}
	t.removePeers(gone)
	maps.Copy(left, gone)
	if err := t.lan.SetPorts(ports, left); err != nil { // fits would have refused it
		t.log.Error("bug: ports of the switch not configured", zap.Error(err))
	}
	return touched
}

// removePeers takes peers out of every table but the switch's. A lane that holds one finishes its
// batch.
func (t *Tunnel) removePeers(gone map[*peer.Peer]bool) {
	if len(gone) == 0 {
		return
	}
	t.routes.Update(func(tx *l3.Tx[*peer.Peer]) {
		for p := range gone {
			tx.RemoveOwner(p)
		}
	})
	t.peers.Remove(gone)
	t.extensions.Removed(t.lanes[0], slices.Collect(maps.Keys(gone)))
	for p := range gone {
		p.Remove(t.env.Index)
		t.env.Deadlines.Remove(&p.Deadline)
		t.extensions.SessionChanged(p)
		t.env.Drops.Add(drop.NoPeer, uint64(p.Staged.Close(t.env.Waiting)))
	}
}

// SetCiphers sets the ciphers that data sessions may use from the next session on, with what each
// costs this host: at least one, for a tunnel that was made with some.
func (t *Tunnel) SetCiphers(costs []datasession.Cost) {
	if t.negotiator != nil {
		t.negotiator.SetCosts(costs)
	}
}

func (t *Tunnel) changePeer(p *peer.Peer, c *PeerChange) {
	now := t.env.Clock.Now()
	if c.Name != nil {
		p.SetName(*c.Name)
	}
	if c.Priority != nil {
		p.SetPriority(*c.Priority)
	}
	if c.PresharedKey != nil {
		p.SetPresharedKey(*c.PresharedKey)
	}
	if c.Endpoints != nil {
		p.SetCandidates(c.Endpoints, now)
	}
	if c.Endpoint.IsValid() {
		p.SetEndpoint(udp.Endpoint{Addr: c.Endpoint})
	}
	if c.PostQuantum != nil && p.SetPostQuantum(*c.PostQuantum) && p.Current() != nil {
		t.env.WantHandshake(p, now)
	}
	changed := c.Extensions != nil && p.Extension.SetMode(*c.Extensions)
	if c.Liveness != nil && p.Extension.SetLiveness(*c.Liveness) || changed {
		t.extensions.SessionChanged(p)
	}
	if c.Keepalive != nil {
		if p.SetKeepalive(*c.Keepalive, now) && !t.env.Link.KnownDown() {
			// Says at once that we are here, and begins a handshake if need be.
			t.env.WantKeepalive(p, now)
		}
		t.env.Arm(p)
	}
}

// updateRoutes changes the table of allowed IPs for all peers of a change at once.
func (t *Tunnel) updateRoutes(c *Change, touched []*peer.Peer) {
	any := false
	for i := range c.Peers {
		pc := &c.Peers[i]
		any = any || touched[i] != nil && pc.changesRoutes()
	}
	if !any {
		return
	}
	t.routes.Update(func(tx *l3.Tx[*peer.Peer]) {
		// First, so that a prefix can move from one peer of the change to another.
		for i, p := range touched {
			if p != nil && c.Peers[i].ReplaceAllowedIPs {
				tx.RemoveOwner(p)
			}
		}
		for i, p := range touched {
			if p == nil || p.Removed() {
				continue
			}
			pc := &c.Peers[i]
			if pc.ReplaceAllowedIPs { // if the change has named the peer before
				tx.RemoveOwner(p)
			}
			removeAll(tx, pc.RemoveAllowedIPs, p)
			for _, prefix := range pc.AllowedIPs {
				tx.Insert(prefix, p)
			}
			for _, prefix := range pc.SharedIPs {
				tx.Share(prefix, p)
			}
		}
		t.chooseActive(tx)
	})
	select {
	case t.sharing <- struct{}{}:
	default: // it is about to look
	}
}

// changesRoutes reports whether c touches the table of allowed IPs, or who carries them.
func (c *PeerChange) changesRoutes() bool {
	return c.ReplaceAllowedIPs || c.Priority != nil || len(c.AllowedIPs)+len(c.SharedIPs)+len(c.RemoveAllowedIPs) > 0
}

func removeAll(tx *l3.Tx[*peer.Peer], prefixes []netip.Prefix, owner *peer.Peer) {
	for _, prefix := range prefixes {
		tx.Remove(prefix, owner)
	}
}

// Call begins a handshake with a peer, as soon as the rules allow one.
func (t *Tunnel) Call(key keys.PublicKey) {
	if p := t.peers.Get(key); p != nil {
		t.env.WantHandshake(p, t.env.Clock.Now())
	}
}

// rekey replaces our identities. What was made with those that are gone ends; call says whether
// peers that lose their session are called at once.
func (t *Tunnel) rekey(k, previous keys.PrivateKey, call bool) {
	before := t.handshakes.PublicKey()
	if before == k.Public() && t.handshakes.PreviousKey() == previous.Public() {
		return
	}
	if p := t.peers.Get(k.Public()); p != nil && !k.IsZero() {
		gone := map[*peer.Peer]bool{p: true}
		t.removePeers(gone)
		_ = t.lan.SetPorts(nil, gone) // nothing of a removal is refused
	}
	t.handshakes.SetIdentity(k, previous)
	now := t.env.Clock.Now()
	for _, p := range t.peers.All() {
		ended, lost := p.KeepIdentities(t.env.Index, t.handshakes.Holds)
		if !ended {
			continue
		}
		p.Timers.Granted()
		t.env.SessionChanged(p)
		if call && lost || p.Staged.Len() != 0 {
			t.env.WantHandshake(p, now)
		}
	}
}
