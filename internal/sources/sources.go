// Package sources knows which peers belong to whom: to the configuration file, to those who change
// a running instance by hand (tunctl, wg), or to an agent, a program that hands in peers from
// elsewhere. It keeps the agent's peers and judges them: what they may be is bounded by [agent] in
// the file, and what the file or an operator says comes first.
//
// A peer of the agent whose key the file or an operator has is shadowed: it is kept, has no effect,
// and comes into force when the other goes. What would take an allowed IP or a pinned MAC from
// another peer is refused; peers of the agent may have one allowed IP if their priorities differ.
//
// The package computes: it changes no tunnel and no kernel, which internal/daemon does with the
// Diff that it returns. It has no lock; the caller serializes. Peers are not changed once they are
// handed over or returned.
package sources

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tund/config"
	"tund/crypto/keys"
)

// The names of the sources.
const (
	File    = "file"
	Runtime = "runtime"
	Agent   = "agent"
)

// Bounds on what the agent may have, beside config.Agent.Peers.
const (
	// maxPrefixes bounds the allowed IPs of all its peers, each of which is a route and a guard in
	// the kernel.
	maxPrefixes = 1 << 18
	// maxHolders bounds the peers that share one allowed IP, all of which are compared whenever one
	// of them comes.
	maxHolders = 64
	maxMACs    = 1 << 16 // bounds the MACs pinned to all its peers
	// maxEndpoints bounds the endpoints of one peer: each is tried for 5 s when the peer is lost.
	maxEndpoints = 16
)

// Code says why a peer was refused.
type Code string

// The codes of a Rejection.
const (
	Invalid      Code = "invalid"       // no [[peer]] could say this
	Secret       Code = "secret"        // it brings a preshared key
	Duplicate    Code = "duplicate"     // its key is in the request already
	Outside      Code = "outside"       // an allowed IP is not within the agent's networks
	DefaultRoute Code = "default-route" // a default route, which is not permitted
	Ethernet     Code = "ethernet"      // frames, which are not permitted
	Prefix       Code = "prefix"        // an allowed IP is that of another peer
	MAC          Code = "mac"           // a MAC is pinned to another peer
	Limit        Code = "limit"         // the agent has as much as it may have
)

// Rejection is a peer that was refused.
type Rejection struct {
	Index   int // of the candidate
	Code    Code
	Message string
}

// Others are the peers that are not the agent's.
type Others struct {
	keys     map[keys.PublicKey]bool
	names    map[string]bool
	prefixes map[netip.Prefix]bool
	macs     map[config.MAC]bool
}

// NewOthers collects what the agent cannot have: all that peers has, and the keys of further peers.
func NewOthers(peers []config.Peer, further map[keys.PublicKey]bool) *Others {
	o := &Others{
		keys: make(map[keys.PublicKey]bool, len(peers)), names: make(map[string]bool, len(peers)),
		prefixes: make(map[netip.Prefix]bool, len(peers)), macs: make(map[config.MAC]bool),
	}
	for i := range peers {
		p := &peers[i]
		o.keys[p.PublicKey], o.names[p.Name] = true, true
		for _, a := range p.AllowedIPs {
			o.prefixes[a] = true
		}
		for _, m := range p.MACs {
			o.macs[m] = true
		}
	}
	for key := range further {
		o.keys[key] = true
	}
	return o
}

// Peers are those of the agent.
type Peers struct {
	byKey    map[keys.PublicKey]*entry
	names    map[string]*entry // of peers in force
	prefixes map[netip.Prefix]*entry
	// Further peers that have a prefix: each with another priority.
	also     map[netip.Prefix][]*entry
	sharing  int // peers in also
	macs     map[config.MAC]keys.PublicKey
	shadowed int
	former   []former // which it has removed, the latest last
}

// entry is one peer of the agent.
type entry struct {
	peer     *config.Peer // with the name under which it is known here
	given    string       // its name as handed in; "": none
	shadowed bool
	touched  bool // somebody has changed the peer in the tunnel since
}

// NewPeers returns an agent's peers, of which there are none yet.
func NewPeers() *Peers {
	return &Peers{
		byKey: make(map[keys.PublicKey]*entry), names: make(map[string]*entry),
		prefixes: make(map[netip.Prefix]*entry), macs: make(map[config.MAC]keys.PublicKey),
		also: make(map[netip.Prefix][]*entry),
	}
}

// holders returns how many peers in force have an allowed IP.
func (a *Peers) holders(p netip.Prefix) int {
	if _, held := a.prefixes[p]; !held {
		return 0
	}
	return 1 + len(a.also[p])
}

// hold notes that a peer has a prefix, and release that it no longer has.
func (a *Peers) hold(p netip.Prefix, e *entry) {
	if _, held := a.prefixes[p]; held {
		a.also[p] = append(a.also[p], e)
		a.sharing++
		return
	}
	a.prefixes[p] = e
}

func (a *Peers) release(p netip.Prefix, e *entry) {
	others := a.also[p]
	before := len(others)
	defer func() { a.sharing += len(a.also[p]) - before }()
	switch {
	case a.prefixes[p] != e:
		others = slices.DeleteFunc(slices.Clone(others), func(o *entry) bool { return o == e })
	case len(others) > 0:
		a.prefixes[p], others = others[0], others[1:]
	default:
		delete(a.prefixes, p)
	}
	if a.also[p] = others; len(others) == 0 {
		delete(a.also, p)
	}
}

// rival returns the peer because of which another of that priority cannot have a prefix; nil: it
// can.
func (a *Peers) rival(p netip.Prefix, priority int32) *config.Peer {
	first, held := a.prefixes[p]
	if !held {
		return nil
	}
	for _, e := range append([]*entry{first}, a.also[p]...) {
		if e.peer.Priority == priority {
			return e.peer
		}
	}
	return nil
}

// Len returns how many peers the agent has, and how many of them are shadowed.
func (a *Peers) Len() (all, shadowed int) { return len(a.byKey), a.shadowed }

// Has reports whether a peer is the agent's and, if so, whether it is shadowed.
func (a *Peers) Has(key keys.PublicKey) (has, shadowed bool) {
	e := a.byKey[key]
	return e != nil, e != nil && e.shadowed
}

// Peer returns the peer in force with a key; nil: there is none.
func (a *Peers) Peer(key keys.PublicKey) *config.Peer { return a.byKey[key].inForce() }

// Pinned returns the peer in force that a MAC is pinned to; nil: it is pinned to none.
func (a *Peers) Pinned(m config.MAC) *config.Peer {
	if key, ok := a.macs[m]; ok {
		return a.Peer(key)
	}
	return nil
}

// InForce returns the peers that are not shadowed, in no particular order. The slice is the
// caller's.
func (a *Peers) InForce() []*config.Peer {
	list := make([]*config.Peer, 0, len(a.byKey)-a.shadowed)
	for _, e := range a.byKey {
		if !e.shadowed {
			list = append(list, e.peer)
		}
	}
	return list
}

// AllowedIPs returns those of all peers in force, in no particular order. One that several of them
// have is there several times.
func (a *Peers) AllowedIPs() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range a.InForce() {
		list = append(list, p.AllowedIPs...)
	}
	return list
}

// DefaultRoutes returns those of the allowed IPs in force that are default routes.
func (a *Peers) DefaultRoutes() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		if _, ok := a.prefixes[p]; ok {
			list = append(list, p)
		}
	}
	return list
}

// Touch notes that somebody has changed a peer in the tunnel, so that the agent's next word about
// it is applied even when it is the same as before. It reports whether the peer is the agent's.
func (a *Peers) Touch(key keys.PublicKey) bool {
	e := a.byKey[key]
	if e == nil || e.shadowed {
		return false
	}
	e.touched = true
	return true
}

// TouchAll is Touch of all peers.
func (a *Peers) TouchAll() {
	for _, e := range a.byKey {
		e.touched = !e.shadowed
	}
}

// inForce returns the peer of an entry that has an effect; nil: it has none.
func (e *entry) inForce() *config.Peer {
	if e == nil || e.shadowed {
		return nil
	}
	return e.peer
}

// take removes an entry and what belongs to it.
func (a *Peers) take(key keys.PublicKey) *entry {
	e := a.byKey[key]
	if e == nil {
		return nil
	}
	delete(a.byKey, key)
	if e.shadowed {
		a.shadowed--
		return e
	}
	delete(a.names, e.peer.Name)
	for _, p := range e.peer.AllowedIPs {
		a.release(p, e)
	}
	for _, m := range e.peer.MACs {
		delete(a.macs, m)
	}
	return e
}

// put adds an entry that was judged.
func (a *Peers) put(e *entry) {
	key := e.peer.PublicKey
	a.byKey[key] = e
	if e.shadowed {
		a.shadowed++
		return
	}
	a.names[e.peer.Name] = e
	for _, p := range e.peer.AllowedIPs {
		a.hold(p, e)
	}
	for _, m := range e.peer.MACs {
		a.macs[m] = key
	}
}

// judge makes an entry of a peer, or says why it cannot be. The peer's key is not in a.
func (a *Peers) judge(p *config.Peer, b *config.Agent, o *Others) (*entry, Code, string) {
	if code, why := permitted(p, b); code != "" {
		return nil, code, why
	}
	switch {
	case len(a.byKey) >= b.Peers:
		return nil, Limit, fmt.Sprintf("the agent has %d peers, as many as [agent] peers allows", len(a.byKey))
	case len(a.prefixes)+a.sharing+len(p.AllowedIPs) > maxPrefixes:
		return nil, Limit, fmt.Sprintf("the agent's peers have more than %d allowed IPs", maxPrefixes)
	case len(a.macs)+len(p.MACs) > maxMACs:
		return nil, Limit, fmt.Sprintf("the agent's peers have more than %d pinned MACs", maxMACs)
	}
	if o.keys[p.PublicKey] {
		return &entry{peer: p, given: p.Name, shadowed: true}, "", ""
	}
	for _, prefix := range p.AllowedIPs {
		if o.prefixes[prefix] {
			return nil, Prefix, fmt.Sprintf("%v is an allowed IP of another peer, which the agent did not hand in", prefix)
		}
		if a.holders(prefix) >= maxHolders {
			return nil, Limit, fmt.Sprintf("%v is shared by %d peers, as many as may share one", prefix, maxHolders)
		}
		if other := a.rival(prefix, p.Priority); other != nil {
			return nil, Prefix, fmt.Sprintf("%v is an allowed IP of %s, which has the same priority", prefix, other.Name)
		}
	}
	for _, m := range p.MACs {
		if _, taken := a.macs[m]; taken || o.macs[m] {
			return nil, MAC, fmt.Sprintf("%v is pinned to another peer", m)
		}
	}
	given := p.Name
	if name := a.name(p, o); name != given {
		named := *p
		named.Name, p = name, &named
	}
	return &entry{peer: p, given: given}, "", ""
}

// permitted returns why the agent may not hand in a peer; "": it may.
func permitted(p *config.Peer, b *config.Agent) (Code, string) {
	if p.Ethernet && !b.Ethernet {
		return Ethernet, "[agent] ethernet does not permit frames"
	}
	if len(p.Endpoints) > maxEndpoints {
		return Invalid, fmt.Sprintf("%d endpoints, of at most %d", len(p.Endpoints), maxEndpoints)
	}
	for _, prefix := range p.AllowedIPs {
		switch {
		case mayHave(b, prefix):
		case prefix.Bits() == 0:
			return DefaultRoute, fmt.Sprintf("%v: [agent] default_route does not permit it", prefix)
		default:
			return Outside, fmt.Sprintf("%v is not in a network of [agent] within", prefix)
		}
	}
	return "", ""
}

// MayHave returns those of the networks that may be allowed IPs of an agent's peers. Without an
// agent (nil), that is none. The slice is the caller's.
func MayHave(b *config.Agent, networks []netip.Prefix) (list []netip.Prefix) {
	for _, p := range networks {
		if b != nil && mayHave(b, p) {
			list = append(list, p)
		}
	}
	return list
}

// mayHave reports whether a network may be an allowed IP of the agent's peers.
func mayHave(b *config.Agent, network netip.Prefix) bool {
	if network.Bits() == 0 {
		return b.DefaultRoute
	}
	return slices.ContainsFunc(b.Within, func(w netip.Prefix) bool { return w.Bits() <= network.Bits() && w.Contains(network.Addr()) })
}

// name returns the name of a peer here: as handed in or, where that is missing or taken, the
// beginning of its key.
func (a *Peers) name(p *config.Peer, o *Others) string {
	free := func(name string) bool {
		_, taken := a.names[name]
		return !taken && !o.names[name]
	}
	if p.Name != "" && free(p.Name) {
		return p.Name
	}
	text := p.PublicKey.String()
	for n := len(p.PublicKey.Short()); n < len(text); n++ {
		if free(text[:n]) {
			return strings.Clone(text[:n])
		}
	}
	return text
}
