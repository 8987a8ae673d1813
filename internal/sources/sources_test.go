package sources

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tund/config"
	"tund/crypto/keys"
)

var bounds = &config.Agent{
	Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, Peers: 12,
}

func key(n int) keys.PublicKey { return keys.PublicKey{1, byte(n)} }

// site returns the peer of a number with some allowed IPs.
func site(n int, allowed ...string) *config.Peer {
	p := &config.Peer{Name: fmt.Sprintf("site-%d", n), PublicKey: key(n)}
	for _, a := range allowed {
		p.AllowedIPs = append(p.AllowedIPs, netip.MustParsePrefix(a))
	}
	return p
}

func set(peers ...*config.Peer) Change {
	var c Change
	for i, p := range peers {
		c.Set = append(c.Set, Candidate{i, p})
	}
	return c
}

func whole(peers ...*config.Peer) Change {
	c := set(peers...)
	c.Whole = true
	return c
}

// codes returns why candidates were refused.
func codes(d Diff) string {
	text := ""
	for _, r := range d.Rejected {
		text += fmt.Sprintf("%d:%s ", r.Index, r.Code)
	}
	return text
}

func TestChange_boundsOfTheFile(t *testing.T) {
	t.Parallel()
	others := NewOthers([]config.Peer{*site(90, "10.90.0.0/16")}, map[keys.PublicKey]bool{key(91): true})
	others.macs[config.MAC{2}] = true
	frames, pinned := site(4), site(10, "10.10.0.0/16")
	frames.Ethernet, pinned.MACs = true, []config.MAC{{2}}
	a := NewPeers()
	d := a.Change(set(
		site(1, "10.1.0.0/16", "fd00:1::/64"), site(2, "192.0.2.0/24"), site(3, "0.0.0.0/0"), frames, site(5, "10.0.0.0/7"),
		site(6, "10.1.0.0/16"), site(1, "10.7.0.0/16"), site(8, "10.90.0.0/16"), site(9, "10.90.1.0/24"), pinned, site(90, "10.90.0.0/16"), site(91),
	), bounds, others)
	want := "1:outside 2:default-route 3:ethernet 4:outside 5:prefix 6:duplicate 7:prefix 9:mac "
	if got := codes(d); got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
	if all, shadowed := a.Len(); all != 4 || shadowed != 2 || len(d.Steps) != 2 {
		t.Errorf("%d peers, %d shadowed, %d steps; want 4, 2, 2", all, shadowed, len(d.Steps))
	}
	free := *bounds
	free.DefaultRoute, free.Ethernet = true, true
	if d := a.Change(set(site(3, "0.0.0.0/0", "::/0"), frames), &free, others); len(d.Rejected) != 0 || len(a.DefaultRoutes()) != 2 {
		t.Errorf("refused although permitted: %v", d.Rejected)
	}
	if d := a.Rejudge(bounds, others); codes(d) != "1:default-route 2:ethernet " || len(d.Steps) != 2 || d.Steps[0].Is != nil {
		t.Errorf("after the permission has gone: %q, %+v", codes(d), d.Steps)
	}
}

// A list that is empty or full of faults removes nothing that it does not leave out.
func TestChange_aRefusedPeerStaysAsItWas(t *testing.T) {
	t.Parallel()
	a, nobody := NewPeers(), NewOthers(nil, nil)
	a.Change(whole(site(1, "10.1.0.0/16"), site(2, "10.2.0.0/16")), bounds, nobody)
	d := a.Change(whole(site(1, "8.8.8.0/24"), site(2, "10.2.0.0/16")), bounds, nobody)
	if codes(d) != "0:outside " || len(d.Steps) != 0 || len(a.InForce()) != 2 {
		t.Errorf("refused %q, steps %+v", codes(d), d.Steps)
	}
	c := whole(site(2, "10.2.0.0/16"))
	c.Keep = []keys.PublicKey{key(1)} // its successor could not be read
	if d := a.Change(c, bounds, nobody); len(d.Steps) != 0 {
		t.Errorf("steps %+v", d.Steps)
	}
	// The same in the other order: site 2 is to have what site 1 gives up.
	d = a.Change(set(site(2, "10.1.0.0/16"), site(1, "10.3.0.0/16")), bounds, nobody)
	if len(d.Rejected) != 0 || len(d.Steps) != 2 {
		t.Errorf("refused %v, steps %+v", d.Rejected, d.Steps)
	}
	if d := a.Change(whole(), bounds, nobody); len(d.Steps) != 2 || len(a.InForce()) != 0 {
		t.Errorf("an empty list of everything leaves %v", a.InForce())
	}
}

// Who was removed is remembered by name, until he is handed in again: not whom the file excludes,
// and not whose successor was refused.
func TestRemoved(t *testing.T) {
	t.Parallel()
	a, nobody := NewPeers(), NewOthers(nil, nil)
	a.Change(whole(site(1, "10.1.0.0/16"), site(2, "10.2.0.0/16"), site(3, "10.3.0.0/16"), site(4, "10.4.0.0/16")), bounds, nobody)
	a.Change(Change{Remove: []keys.PublicKey{key(1), key(9)}}, bounds, nobody)
	a.Change(whole(site(3, "8.8.8.0/24"), site(4, "10.4.0.0/16")), bounds, nobody)
	a.Rejudge(bounds, NewOthers([]config.Peer{*site(7, "10.4.0.0/16")}, nil))
	if got := a.Removed(); len(got) != 2 || got[key(1)] != "site-1" || got[key(2)] != "site-2" {
		t.Errorf("removed: %v", got)
	}
	a.Change(set(site(1, "10.1.0.0/16")), bounds, nobody)
	if got := a.Removed(); len(got) != 1 {
		t.Errorf("after one was handed in again: %v", got)
	}
	for i := range maxFormer + 10 {
		p := *site(1)
		p.PublicKey = keys.PublicKey{1, byte(i >> 8), byte(i)}
		a.Change(set(&p), bounds, nobody)
		a.Change(Change{Remove: []keys.PublicKey{p.PublicKey}}, bounds, nobody)
	}
	if got := a.Removed(); len(got) != maxFormer {
		t.Errorf("%d are remembered", len(got))
	}
}

func TestRejudge_fileComesAndGoes(t *testing.T) {
	t.Parallel()
	a, nobody := NewPeers(), NewOthers(nil, nil)
	a.Change(whole(site(1, "10.1.0.0/16"), site(2, "10.2.0.0/16")), bounds, nobody)
	named := *site(7)
	named.Name = "site-2"
	file := NewOthers([]config.Peer{*site(1, "10.1.0.0/16"), named}, nil)
	d := a.Rejudge(bounds, file)
	if len(d.Steps) != 2 || d.Steps[0].Is != nil || d.Steps[1].Is.Name != key(2).Short() {
		t.Errorf("with a file: %+v", d.Steps)
	}
	if has, shadowed := a.Has(key(1)); !has || !shadowed {
		t.Error("the peer of the file does not shadow that of the agent")
	}
	if d := a.Rejudge(bounds, nobody); len(d.Steps) != 2 || d.Steps[0].Was != nil || d.Steps[1].Is.Name != "site-2" {
		t.Errorf("without it: %+v", d.Steps)
	}
	a.Touch(key(1))
	if d := a.Change(whole(site(1, "10.1.0.0/16"), site(2, "10.2.0.0/16")), bounds, nobody); len(d.Steps) != 1 || d.Steps[0].Key != key(1) {
		t.Errorf("after a change by somebody else: %+v", d.Steps)
	}
}

// Whatever an agent asks for: what is in force is permitted and excludes nothing, a mirror that
// follows the steps is the same, and Undo leads back.
func TestChange_random(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	a, mirror := NewPeers(), map[keys.PublicKey]*config.Peer{}
	others := NewOthers(nil, nil)
	random := func() *config.Peer {
		p := site(r.IntN(20))
		p.Priority = r.Int32N(3) / 2
		for range r.IntN(3) {
			p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{[]byte{10, 9}[r.IntN(12)/11], byte(r.IntN(24))}), 16))
		}
		p.AllowedIPs = slices.CompactFunc(p.AllowedIPs, func(x, y netip.Prefix) bool { return x == y })
		p.Name = fmt.Sprint("n", r.IntN(12))
		return p
	}
	for step := range 3000 {
		var d Diff
		if r.IntN(10) == 0 {
			others = NewOthers([]config.Peer{*random(), *random()}, nil)
			d = a.Rejudge(bounds, others)
		} else {
			c := Change{Whole: r.IntN(8) == 0, Remove: []keys.PublicKey{key(r.IntN(20))}}
			for i := range r.IntN(6) {
				c.Set = append(c.Set, Candidate{i, random()})
			}
			before := maps.Clone(a.byKey)
			names, prefixes := maps.Clone(a.names), a.holdings()
			a.Undo(a.Change(c, bounds, others))
			if !maps.Equal(before, a.byKey) || !maps.Equal(names, a.names) || !maps.Equal(prefixes, a.holdings()) {
				t.Fatalf("step %d: Undo leaves something behind", step)
			}
			d = a.Change(c, bounds, others)
		}
		for _, s := range d.Steps {
			if !reflect.DeepEqual(mirror[s.Key], s.Was) {
				t.Fatalf("step %d: was %+v, and not %+v", step, mirror[s.Key], s.Was)
			}
			if mirror[s.Key] = s.Is; s.Is == nil {
				delete(mirror, s.Key)
			}
		}
		prefixes, names := map[string]bool{}, map[string]bool{}
		distinct := map[netip.Prefix]bool{}
		list := a.InForce()
		for _, p := range list {
			if names[p.Name] || others.names[p.Name] || others.keys[p.PublicKey] || !reflect.DeepEqual(mirror[p.PublicKey], p) {
				t.Fatalf("step %d: %+v, of which %+v is known", step, p, mirror[p.PublicKey])
			}
			names[p.Name] = true
			for _, x := range p.AllowedIPs {
				id := fmt.Sprint(x, p.Priority)
				if prefixes[id] || others.prefixes[x] || x.Addr().As4()[0] != 10 {
					t.Fatalf("step %d: %v is in force", step, x)
				}
				prefixes[id], distinct[x] = true, true
			}
		}
		if all, _ := a.Len(); len(list) != len(mirror) || len(distinct) != len(a.prefixes) || !maps.Equal(prefixes, a.holdings()) || all > bounds.Peers {
			t.Fatalf("step %d: %d in force, %d known; %d peers", step, len(list), len(mirror), all)
		}
	}
}

// holdings names every prefix with the priority of each peer that has it.
func (a *Peers) holdings() map[string]bool {
	out := map[string]bool{}
	for p, first := range a.prefixes {
		for _, e := range append([]*entry{first}, a.also[p]...) {
			id := fmt.Sprint(p, e.peer.Priority)
			if a.byKey[e.peer.PublicKey] != e {
				id += ", by a peer that is gone"
			}
			out[id] = true
		}
	}
	return out
}

// Peers of the agent share an allowed IP if their priorities differ.
func TestChange_priorities(t *testing.T) {
	t.Parallel()
	a, nobody := NewPeers(), NewOthers([]config.Peer{*site(90, "10.90.0.0/16")}, nil)
	with := func(n, priority int, allowed ...string) *config.Peer {
		p := site(n, allowed...)
		p.Priority = int32(priority)
		return p
	}
	d := a.Change(set(with(1, 10, "10.1.0.0/16"), with(2, 20, "10.1.0.0/16"), with(3, 10, "10.1.0.0/16"), with(4, 5, "10.90.0.0/16")), bounds, nobody)
	p := netip.MustParsePrefix("10.1.0.0/16")
	if codes(d) != "2:prefix 3:prefix " || a.holders(p) != 2 {
		t.Errorf("refused %q, %d have it", codes(d), a.holders(p))
	}
	for i, want := range []int{1, 0} {
		if a.Change(Change{Remove: []keys.PublicKey{key(i + 1)}}, bounds, nobody); a.holders(p) != want {
			t.Errorf("without %d: %d have it, want %d", i+1, a.holders(p), want)
		}
	}
	if len(a.prefixes)+len(a.also)+a.sharing != 0 {
		t.Errorf("left behind: %v %v, %d", a.prefixes, a.also, a.sharing)
	}
	var many []*config.Peer
	for i := range maxHolders + 5 {
		many = append(many, with(10+i, i, "10.2.0.0/16"))
	}
	d = a.Change(set(many...), &config.Agent{Peers: 1000, Within: bounds.Within}, nobody)
	if p = netip.MustParsePrefix("10.2.0.0/16"); strings.Count(codes(d), ":limit") != 5 || a.holders(p) != maxHolders || a.sharing != maxHolders-1 {
		t.Errorf("refused %q, %d have it, %d share", codes(d), a.holders(p), a.sharing)
	}
}

// Routes follow an allowed IP that comes or goes, and not one that passes between peers.
func TestPrefixes_comeAndLeave(t *testing.T) {
	t.Parallel()
	text := func(come, leave []netip.Prefix) string {
		for _, list := range [][]netip.Prefix{come, leave} {
			slices.SortFunc(list, func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
		}
		return fmt.Sprintf("+%v -%v", come, leave)
	}
	shared := func(n, priority int, allowed ...string) *config.Peer {
		p := site(n, allowed...)
		p.Priority = int32(priority)
		return p
	}
	a := NewPeers()
	nobody := NewOthers(nil, nil)
	for i, step := range []struct {
		change Change
		want   string
	}{
		{set(shared(1, 1, "10.1.0.0/16", "10.2.0.0/16")), "+[10.1.0.0/16 10.2.0.0/16] -[]"},
		{set(shared(2, 2, "10.1.0.0/16")), "+[] -[]"},
		{set(shared(1, 1, "10.2.0.0/16", "10.3.0.0/16")), "+[10.3.0.0/16] -[]"},
		{Change{Remove: []keys.PublicKey{key(2)}}, "+[] -[10.1.0.0/16]"},
		{whole(shared(3, 1, "10.2.0.0/16")), "+[] -[10.3.0.0/16]"},
		{whole(), "+[] -[10.2.0.0/16]"},
	} {
		d := a.Change(step.change, bounds, nobody)
		if got := text(a.Prefixes(d)); got != step.want || len(d.Rejected) > 0 {
			t.Errorf("step %d: %s, want %s; refused %q", i, got, step.want, codes(d))
		}
		want, gone := 0, 0
		for _, s := range d.Steps {
			if s.Is != nil {
				want++
			} else {
				gone++
			}
		}
		if peers, keys := d.Peers(); len(peers) != want || len(keys) != gone {
			t.Errorf("step %d: %d peers in force and %d gone, want %d and %d", i, len(peers), len(keys), want, gone)
		}
	}
}
