package tunnel

import (
	"sync"
	"sync/atomic"
	"testing"

	"tund/tunnel/peer"
)

// A prefix that moves from a peer that leaves to one that comes in the same change has an owner at
// every moment, and never one that is removed already: no packet is answered with "unreachable".
func TestConfigure_allowedIPsThatMoveAlwaysHaveAnOwner(t *testing.T) {
	t.Parallel()
	prefix := network(1)
	one, other := numbered(1, prefix), numbered(2, prefix)
	gone := func(c PeerChange) PeerChange { return PeerChange{PublicKey: c.PublicKey, Remove: true} }
	for name, change := range map[string]func(comes, leaves PeerChange) Change{
		"removed after": func(comes, leaves PeerChange) Change {
			return Change{Peers: []PeerChange{comes, gone(leaves)}}
		},
		"removed before": func(comes, leaves PeerChange) Change {
			return Change{Peers: []PeerChange{gone(leaves), comes}}
		},
		"replaced": func(comes, _ PeerChange) Change {
			return Change{ReplacePeers: true, Peers: []PeerChange{comes}}
		},
	} {
		tun := withPeers(t, 0)
		configure := func(c Change) {
			if err := tun.Configure(c); err != nil {
				t.Fatal(err)
			}
		}
		configure(Change{Peers: []PeerChange{other}})
		var done atomic.Bool
		var nobody, removed atomic.Int64
		var reader sync.WaitGroup
		reader.Go(func() {
			owner := func() *peer.Peer {
				p, _ := tun.routes.Lookup(prefix.Addr().Next())
				return p
			}
			for !done.Load() {
				if p := owner(); p == nil {
					nobody.Add(1)
				} else if p.Removed() && owner() == p {
					removed.Add(1)
				}
			}
		})
		for range 1000 {
			configure(change(one, other))
			configure(change(other, one))
		}
		done.Store(true)
		reader.Wait()
		if n, m := nobody.Load(), removed.Load(); n+m != 0 {
			t.Errorf("%s: %d look-ups found no owner, %d one that was removed", name, n, m)
		}
		if n := len(tun.peers.All()); n != 1 {
			t.Errorf("%s: %d peers are left", name, n)
		}
	}
}

// A peer that a change removes and names again starts over, in whatever order and however often,
// and keeps nothing of what it had.
func TestConfigure_removedAndNamedAgainBeginsAnew(t *testing.T) {
	t.Parallel()
	one, other := numbered(1, network(1)), numbered(2, network(2))
	gone := func(c PeerChange) PeerChange { return PeerChange{PublicKey: c.PublicKey, Remove: true} }
	update := PeerChange{PublicKey: one.PublicKey, UpdateOnly: true}
	again := numbered(1, network(3))
	for name, c := range map[string]struct {
		change Change
		peers  int
		owners [4]int // by network: the number of its peer; 0: none
	}{
		"removed, named":          {Change{Peers: []PeerChange{gone(one), again}}, 2, [4]int{2: 2, 3: 1}},
		"named, removed, named":   {Change{Peers: []PeerChange{one, gone(one), again, other}}, 2, [4]int{2: 2, 3: 1}},
		"removed, named, removed": {Change{Peers: []PeerChange{gone(one), again, gone(one)}}, 1, [4]int{2: 2}},
		"removed, updated":        {Change{Peers: []PeerChange{gone(one), update}}, 1, [4]int{2: 2}},
		"all removed, one named":  {Change{RemovePeers: true, Peers: []PeerChange{again}}, 1, [4]int{3: 1}},
		"all removed, one updated": {
			Change{RemovePeers: true, Peers: []PeerChange{update, other}}, 1, [4]int{2: 2},
		},
		"replaced by one that is removed": {
			Change{ReplacePeers: true, Peers: []PeerChange{again, gone(again)}}, 0, [4]int{},
		},
	} {
		tun := withPeers(t, 0)
		for _, change := range []Change{{Peers: []PeerChange{one, other}}, c.change} {
			if err := tun.Configure(change); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(tun.peers.All()); n != c.peers {
			t.Errorf("%s: %d peers, want %d", name, n, c.peers)
		}
		prefixes := 0
		for i, want := range c.owners {
			owner, _ := tun.routes.Lookup(network(i).Addr().Next())
			switch {
			case want == 0 && owner != nil:
				t.Errorf("%s: network %d belongs to %v", name, i, owner.PublicKey())
			case want != 0:
				prefixes++
				p := tun.peers.Get(numbered(want, network(0)).PublicKey)
				if owner != p || owner == nil || owner.Removed() {
					t.Errorf("%s: network %d does not belong to peer %d", name, i, want)
				}
			}
		}
		if n := tun.routes.Len(); n != prefixes {
			t.Errorf("%s: %d allowed IPs, want %d", name, n, prefixes)
		}
	}
}
