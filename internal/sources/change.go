package sources

import (
	"net/netip"
	"reflect"
	"slices"

	"tund/config"
	"tund/crypto/keys"
)

// Change is what an agent wants of its peers.
type Change struct {
	Set    []Candidate // in this order; one that is refused leaves the peer as it was
	Remove []keys.PublicKey
	// Whole: peers that are neither in Set nor in Keep go, too.
	Whole bool
	Keep  []keys.PublicKey
}

// Candidate is a peer that an agent hands in.
type Candidate struct {
	Index int // by which a Rejection refers to it
	Peer  *config.Peer
}

// Diff is what a change did. The zero Diff did nothing.
type Diff struct {
	// Steps are the peers for which something is to be done, each once.
	Steps    []Step
	Rejected []Rejection // in order of their candidates

	before map[keys.PublicKey]*entry // what the change took out; nil entries were not there
}

// Step is the change of one peer in force.
type Step struct {
	Key     keys.PublicKey
	Was, Is *config.Peer // nil: not in force
}

// Peers returns the peers that are in force after the change, of those that it changed, and the
// keys of those that are not.
func (d Diff) Peers() (set []*config.Peer, gone []keys.PublicKey) {
	for _, s := range d.Steps {
		if s.Is == nil {
			gone = append(gone, s.Key)
			continue
		}
		set = append(set, s.Is)
	}
	return set, gone
}

// Change judges what an agent wants, applies what is permitted, and says what follows. Its cost is
// that of the change, unless it is whole.
func (a *Peers) Change(c Change, b *config.Agent, o *Others) Diff {
	d := Diff{before: make(map[keys.PublicKey]*entry, len(c.Set)+len(c.Remove))}
	named := make(map[keys.PublicKey]bool, len(c.Set))
	order := make([]keys.PublicKey, 0, len(c.Set)+len(c.Remove))
	take := func(key keys.PublicKey) {
		if _, done := d.before[key]; !done {
			d.before[key] = a.take(key)
			order = append(order, key)
		}
	}
	for _, s := range c.Set {
		take(s.Peer.PublicKey)
	}
	for _, key := range c.Remove {
		take(key)
	}
	if c.Whole {
		for _, key := range a.others(c.Keep) {
			take(key)
		}
	}
	var refused []keys.PublicKey
	for _, s := range c.Set {
		key := s.Peer.PublicKey
		if named[key] {
			d.Rejected = append(d.Rejected, Rejection{s.Index, Duplicate, "the request has this public key already"})
			continue
		}
		named[key] = true
		e, code, why := a.judge(s.Peer, b, o)
		if code != "" {
			d.Rejected = append(d.Rejected, Rejection{s.Index, code, why})
			refused = append(refused, key)
			continue
		}
		a.put(e)
	}
	for _, key := range refused {
		a.restore(d.before[key], b, o)
	}
	a.noteRemoved(order, named, d.before)
	d.steps(a, order)
	return d
}

// others returns the keys of all peers but those to keep, in ascending order.
func (a *Peers) others(keep []keys.PublicKey) []keys.PublicKey {
	kept := make(map[keys.PublicKey]bool, len(keep))
	for _, key := range keep {
		kept[key] = true
	}
	var list []keys.PublicKey
	for key := range a.byKey {
		if !kept[key] {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(x, y keys.PublicKey) int { return slices.Compare(x[:], y[:]) })
	return list
}

// restore puts a peer back whose successor was refused, if what it has is still free.
func (a *Peers) restore(was *entry, b *config.Agent, o *Others) {
	if was == nil {
		return
	}
	if e, code, _ := a.judge(was.asGiven(), b, o); code == "" {
		a.put(e)
	}
}

// asGiven returns the peer as it was handed in.
func (e *entry) asGiven() *config.Peer {
	if e.given == e.peer.Name {
		return e.peer
	}
	p := *e.peer
	p.Name = e.given
	return &p
}

// steps fills in d.Steps, for peers in the given order.
func (d *Diff) steps(a *Peers, order []keys.PublicKey) {
	for _, key := range order {
		old := d.before[key]
		was, is := old.inForce(), a.byKey[key].inForce()
		if is != nil && was != nil && !old.touched && reflect.DeepEqual(was, is) {
			a.byKey[key].peer = was // the newer copy is garbage
			continue
		}
		if was != nil || is != nil {
			d.Steps = append(d.Steps, Step{key, was, is})
		}
	}
}

// Prefixes returns the allowed IPs that nobody had before d, the last change, and those that nobody
// has after it, in no particular order. One that passes from a peer to another is in neither.
func (a *Peers) Prefixes(d Diff) (come, leave []netip.Prefix) {
	count := make(map[netip.Prefix]int) // how many more peers have it than before
	for _, s := range d.Steps {
		if s.Is != nil {
			for _, p := range s.Is.AllowedIPs {
				count[p]++
			}
		}
		if s.Was != nil {
			for _, p := range s.Was.AllowedIPs {
				count[p]--
			}
		}
	}
	for p, n := range count {
		holders := a.holders(p)
		switch {
		case n > 0 && holders == n:
			come = append(come, p)
		case n < 0 && holders == 0:
			leave = append(leave, p)
		}
	}
	return come, leave
}

// Undo takes back the change that led to d, the last one.
func (a *Peers) Undo(d Diff) {
	for key := range d.before {
		a.take(key)
	}
	for _, e := range d.before {
		if e != nil {
			a.put(e)
		}
	}
}

// Rejudge judges all peers again, after the file, its bounds or the peers of others have changed.
// Those that are no longer permitted go.
func (a *Peers) Rejudge(b *config.Agent, o *Others) Diff {
	var c Change
	for i, key := range a.others(nil) {
		c.Set = append(c.Set, Candidate{i, a.byKey[key].asGiven()})
	}
	return a.Change(c, b, o)
}
