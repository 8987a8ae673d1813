package handin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/sources"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// newBatch returns a change of at most limit peers for an instance that carries IP and Ethernet.
func newBatch(limit int) *Batch {
	c := &config.Config{Instance: "office", Path: "/etc/tund/office.toml", Tun: &config.Tun{}, Tap: &config.Tap{}}
	return New(c.NewPeerReader(), limit, now)
}

func key(n byte) keys.PublicKey { return keys.PublicKey{9, n} }

func peer(n byte, more ...any) map[string]any {
	values := map[string]any{"public_key": key(n).String(), "allowed_ips": []any{fmt.Sprintf("10.0.%d.0/24", n)}}
	for i := 0; i < len(more); i += 2 {
		values[more[i].(string)] = more[i+1]
	}
	return values
}

// refused returns what was refused, as list, index and code.
func refused(b *Batch) string {
	list, total := b.Rejections()
	var text []string
	for _, r := range list {
		text = append(text, fmt.Sprintf("%s/%d:%s", r.List, r.Index, r.Code))
	}
	if total != len(list) {
		text = append(text, fmt.Sprintf("of %d", total))
	}
	return strings.Join(text, " ")
}

func TestPeer_refusedOnesStayAsTheyWere(t *testing.T) {
	t.Parallel()
	b := newBatch(2)
	b.Peer(peer(1))
	b.Peer(peer(2, "preshared_key", strings.Repeat("A", 43)+"="))
	b.Peer(peer(3, "allowed_ips", []any{"10.0.0.0/33"}))
	b.Peer(map[string]any{"public_key": "nonsense"})
	b.Peer(map[string]any{"public_key": int64(7)})
	b.Peer(peer(4))
	b.Peer(peer(5)) // the third
	if got, want := refused(b), "peers/1:secret peers/2:invalid peers/3:invalid peers/4:invalid peers/6:limit"; got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
	var set []byte
	for _, c := range b.Peers.Set {
		set = append(set, c.Peer.PublicKey[1], byte(c.Index))
	}
	if string(set) != string([]byte{1, 0, 4, 5}) {
		t.Errorf("took %v", set)
	}
	if fmt.Sprint(b.Peers.Keep) != fmt.Sprint([]keys.PublicKey{key(2), key(3), key(5)}) {
		t.Errorf("keeps %v", b.Peers.Keep)
	}
	list, _ := b.Rejections()
	for _, r := range list {
		if strings.Contains(r.Message, strings.Repeat("A", 20)) {
			t.Errorf("a secret is in %q", r.Message)
		}
	}
}

func TestRemove_onlyWhatCanBeThere(t *testing.T) {
	t.Parallel()
	b := newBatch(2)
	b.Remove(key(1).String())
	b.Remove("nonsense")
	b.RemoveHost(control.HostID{MAC: "02:00:00:00:00:01", VLAN: 7})
	b.RemoveHost(control.HostID{MAC: "02:00:00:00:00", VLAN: 7})
	b.RemoveNeighbor(control.NeighborID{IP: "10.0.0.1"})
	b.RemoveNeighbor(control.NeighborID{IP: "10.0.0"})
	if len(b.Peers.Remove) != 1 || len(b.Hosts.Remove) != 1 || len(b.Hosts.RemoveAddrs) != 1 || refused(b) != "" {
		t.Errorf("removes %v, %v, %v; refused %q", b.Peers.Remove, b.Hosts.Remove, b.Hosts.RemoveAddrs, refused(b))
	}
}

func TestHost_readsAndRefuses(t *testing.T) {
	t.Parallel()
	const mac = "02:00:00:00:00:01"
	b := newBatch(2)
	for _, e := range []control.HostEntry{
		{HostID: control.HostID{MAC: mac}, Peer: key(1).String(), Seq: 3, Sticky: true},
		{HostID: control.HostID{MAC: mac, VLAN: -1}, Peer: key(1).String()},
		{HostID: control.HostID{MAC: mac, VLAN: 65536}, Peer: key(1).String()},
		{HostID: control.HostID{MAC: "03:00:00:00:00:01"}, Peer: key(1).String()}, // a group
		{HostID: control.HostID{MAC: mac, VLAN: 9}, Peer: "nonsense"},
		{HostID: control.HostID{MAC: mac, VLAN: 7}, Peer: key(2).String(), TTLS: 1.5},
		{HostID: control.HostID{MAC: mac, VLAN: 8}, Peer: key(2).String(), TTLS: 1e18},
		{HostID: control.HostID{MAC: mac, VLAN: 10}, Peer: key(2).String(), TTLS: -1},
	} {
		b.Host(e)
	}
	if got, want := refused(b), "fdb/1:invalid fdb/2:invalid fdb/3:invalid fdb/4:invalid"; got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
	if len(b.Hosts.Hosts) != 4 {
		t.Fatalf("took %v", b.Hosts.Hosts)
	}
	first := b.Hosts.Hosts[0]
	if first.Index != 0 || first.Host.Seq != 3 || !first.Host.Sticky || first.Host.Peer != key(1) || !first.Host.Expires.IsZero() {
		t.Errorf("read %+v", first)
	}
	for i, want := range []time.Time{1: now.Add(1500 * time.Millisecond), 2: {}, 3: {}} {
		if got := b.Hosts.Hosts[i].Host.Expires; !got.Equal(want) {
			t.Errorf("host %d expires at %v, want %v", i, got, want)
		}
	}
	// One whose peer cannot be read stays where it was; one that has no address cannot.
	if len(b.Hosts.Keep) != 1 || b.Hosts.Keep[0].VLAN != 9 {
		t.Errorf("keeps %v", b.Hosts.Keep)
	}
}

func TestNeighbor_readsAndRefuses(t *testing.T) {
	t.Parallel()
	const mac = "02:00:00:00:00:01"
	b := newBatch(2)
	for _, e := range []control.NeighborEntry{
		{NeighborID: control.NeighborID{IP: "::ffff:10.0.0.1", VLAN: 7}, MAC: mac, Peer: key(1).String(), Router: true},
		{NeighborID: control.NeighborID{IP: "10.0.0.0/24"}, MAC: mac, Peer: key(1).String()},
		{NeighborID: control.NeighborID{IP: "fd00::1"}, MAC: "nonsense", Peer: key(1).String()},
		{NeighborID: control.NeighborID{IP: "fd00::2"}, MAC: mac, Peer: "nonsense"},
	} {
		b.Neighbor(e)
	}
	if got, want := refused(b), "neighbors/1:invalid neighbors/2:invalid neighbors/3:invalid"; got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
	if len(b.Hosts.Neighbors) != 1 || b.Hosts.Neighbors[0].At.IP.String() != "10.0.0.1" || !b.Hosts.Neighbors[0].Neighbor.Router {
		t.Errorf("took %v", b.Hosts.Neighbors)
	}
	if len(b.Hosts.KeepAddrs) != 2 {
		t.Errorf("keeps %v", b.Hosts.KeepAddrs)
	}
}

func TestRejections_areBoundedAndSorted(t *testing.T) {
	t.Parallel()
	b := newBatch(2)
	for range control.MaxRejected {
		b.Host(control.HostEntry{})
	}
	b.Peer(nil) // counted, and too late to be listed
	list, total := b.Rejections()
	if len(list) != control.MaxRejected || total != control.MaxRejected+1 {
		t.Errorf("lists %d of %d", len(list), total)
	}
	b = newBatch(2)
	b.Host(control.HostEntry{})
	b.Neighbor(control.NeighborEntry{})
	b.Peer(nil)
	b.Peer(nil)
	if got, want := refused(b), "peers/0:invalid peers/1:invalid neighbors/0:invalid fdb/0:invalid"; got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
}

// present returns hosts that are there before a change: one host and one neighbour.
func present(t *testing.T) *sources.Hosts {
	t.Helper()
	h := sources.NewHosts()
	d := h.Change(sources.HostChange{
		Hosts:     []sources.HostCandidate{{At: sources.Station{MAC: config.MAC{2, 1}}, Host: sources.Host{Peer: key(1)}}},
		Neighbors: []sources.NeighborCandidate{{At: sources.Address{IP: netip.MustParseAddr("10.0.0.1")}, Neighbor: sources.Neighbor{MAC: config.MAC{2, 1}, Peer: key(1)}}},
	}, &config.Agent{Ethernet: true}, &sources.Lookup{
		Own:    key(1), // our own LAN needs no peer
		Peer:   func(keys.PublicKey) *config.Peer { return nil },
		Pinned: func(config.MAC) *config.Peer { return nil },
	})
	if hosts, neighbors := h.Len(); hosts != 1 || neighbors != 1 {
		t.Fatalf("%+v", d)
	}
	return h
}

// A list that a whole state does not name stays as it is: the absence of data removes nothing.
func TestCompleteHosts_listsThatAreNotNamedStay(t *testing.T) {
	t.Parallel()
	hosts := present(t)
	for _, test := range []struct {
		whole           bool
		head            control.SourceHead
		about           bool
		keep, keepAddrs int
	}{
		{whole: true, head: control.SourceHead{}, about: false},
		{whole: true, head: control.SourceHead{Hosts: true}, about: true, keepAddrs: 1},
		{whole: true, head: control.SourceHead{Neighbors: true}, about: true, keep: 1},
		{whole: true, head: control.SourceHead{Hosts: true, Neighbors: true}, about: true},
		{whole: false, head: control.SourceHead{Hosts: true}, about: false},
	} {
		b := newBatch(2)
		if got := b.HasHosts(test.whole, test.head); got != test.about {
			t.Errorf("whole %v, %+v: about hosts: %v", test.whole, test.head, got)
		}
		if !test.about {
			continue
		}
		b.CompleteHosts(hosts, test.whole, test.head)
		if b.Hosts.Whole != test.whole || len(b.Hosts.Keep) != test.keep || len(b.Hosts.KeepAddrs) != test.keepAddrs {
			t.Errorf("whole %v, %+v: %+v", test.whole, test.head, b.Hosts)
		}
	}
	b := newBatch(2)
	b.RemoveHost(control.HostID{MAC: "02:00:00:00:00:01"})
	if !b.HasHosts(false, control.SourceHead{}) {
		t.Error("a removal is not about hosts")
	}
}

func TestState_generationsAndSilence(t *testing.T) {
	t.Parallel()
	var s State
	put := control.SourceHead{Epoch: "e", Generation: 3, Hold: time.Minute}
	patch := control.SourceHead{Epoch: "e", IfGeneration: 3, Generation: 4}
	if s.Follows(patch) == nil || !s.Renumbers(put) {
		t.Error("a patch of nothing is taken")
	}
	s.Applied(put, true, 2, now)
	if err := s.Follows(patch); err != nil || s.Renumbers(patch) {
		t.Errorf("the next patch: %v", err)
	}
	var refused *control.Error
	for _, head := range []control.SourceHead{{Epoch: "other", IfGeneration: 3}, {Epoch: "e", IfGeneration: 2}, {Epoch: "e", IfGeneration: 4}} {
		if err := s.Follows(head); !errors.As(err, &refused) || refused.Code != control.CodeGeneration || !strings.Contains(refused.Message, "PUT") {
			t.Errorf("%+v: %v", head, err)
		}
	}
	if s.Silent(now.Add(time.Minute)) || !s.Silent(now.Add(time.Minute+1)) {
		t.Error("silence does not count from the last change, or not to the end of hold")
	}
	s.Applied(patch, false, 0, now.Add(time.Minute)) // a patch says nothing of hold
	if s.Silent(now.Add(2*time.Minute)) || !s.Silent(now.Add(3*time.Minute)) {
		t.Error("a patch changed for how long the agent may be silent")
	}
	s.Touched()
	next := control.SourceHead{Epoch: "e", IfGeneration: 4, Generation: 5}
	if s.Follows(next) == nil {
		t.Error("a patch is taken although somebody else has changed the agent's peers")
	}
	s.Applied(put, true, 0, now)
	if err := s.Follows(patch); err != nil {
		t.Errorf("after a PUT: %v", err)
	}
	if got := s.Source(sources.NewPeers(), present(t)); got.Generation != 3 || got.Epoch != "e" || got.HoldS != 60 || got.FDB != 1 || got.Neighbors != 1 {
		t.Errorf("described as %+v", got)
	}
	s.Cleared(now)
	if s.Silent(now.Add(time.Hour)) || s.Follows(patch) == nil {
		t.Error("something is left of the agent")
	}
}
