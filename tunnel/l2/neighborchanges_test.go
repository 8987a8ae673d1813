package l2

import (
	"net/netip"
	"testing"
	"time"
)

// reported returns what the switch has reported of the address ip since the last call, within the
// time d from now on.
func (w *town) reported(d time.Duration, ip string) (list []NeighborChange) {
	w.pass(d)
	for _, c := range w.changes {
		if c.IP == netip.MustParseAddr(ip) {
			list = append(list, c)
		}
	}
	w.changes = nil
	return list
}

func TestNeighborChanges_tellWhoHasAnAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		w := newTown(t)
		old, young := hostMAC(1), hostMAC(2)
		addr := netip.MustParseAddr(ip)
		expect := func(what string, got []NeighborChange, want ...NeighborChange) {
			t.Helper()
			if len(got) != len(want) {
				t.Fatalf("%s: %+v, want %+v", what, got, want)
			}
			for n := range want {
				if got[n] != want[n] {
					t.Errorf("%s: %+v, want %+v", what, got[n], want[n])
				}
			}
		}
		h := w.appear(old, 2, ip)
		expect("new", w.reported(50*ms, ip), NeighborChange{NeighborLearned, addr, 0, old, 2, 0})
		w.claim(old, 2, ip)
		expect("the same again", w.reported(50*ms, ip))
		w.claim(young, 3, ip)
		expect("two hosts", w.reported(2*time.Second, ip), NeighborChange{NeighborDisputed, addr, 0, old, 2, young})
		w.claim(young, 3, ip)
		expect("still the same two", w.reported(2*time.Second, ip))
		w.pass(2 * contestTime)
		h.silent = true
		w.claim(young, 3, ip)
		expect("replaced", w.reported(2*time.Second, ip), NeighborChange{NeighborMoved, addr, 0, young, 3, old})
		w.s.SetPortUp(3, false, at(w.now))
		expect("its peer is gone", w.reported(50*ms, ip), NeighborChange{NeighborGone, addr, 0, young, 3, 0})
	})
}

func TestNeighborChanges_areInActionsAndBounded(t *testing.T) {
	t.Parallel()
	s := suppressing(t)
	fromPeer(s, start, 1, gratuitous(t, hostMAC(1), "10.0.0.1"))
	if a := s.Tick(at(time.Second)); len(a.Neighbors) != 1 || a.Lost != 0 {
		t.Errorf("%+v, %d lost", a.Neighbors, a.Lost)
	}
	var b binding
	for range maxChanges + 3 {
		s.hosts.changed(NeighborGone, neighborKey{}, &b, 0)
	}
	if a := s.Tick(at(2 * time.Second)); len(a.Neighbors) != maxChanges || a.Lost != 3 {
		t.Errorf("%d changes, %d lost", len(a.Neighbors), a.Lost)
	}
}
