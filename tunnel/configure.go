package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/tunnel/datasession"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
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
	u := t.updatePeers(&c)
	t.updateRoutes(&c, u)
	t.removePeers(u.gone)
	maps.Copy(u.gone, u.left)
	if err := t.lan.SetPorts(u.ports, u.gone); err != nil { // fits would have refused it
		t.log.Error("bug: ports of the switch not configured", zap.Error(err))
	}
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

// SetCiphers sets the ciphers that data sessions may use from the next session on, with what each
// costs this host: at least one, for a tunnel that was made with some.
func (t *Tunnel) SetCiphers(costs []datasession.Cost) {
	if t.negotiator != nil {
		t.negotiator.SetCosts(costs)
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
		t.routes.Update(func(tx *l3.Tx[*peer.Peer]) { tx.RemoveOwner(p) })
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
