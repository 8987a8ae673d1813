package sources

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"tund/config"
	"tund/crypto/keys"
)

// lan permits frames; peers 1 to 3 carry them, and 3 has one MAC only.
func lan() (*config.Agent, *Lookup) {
	peers := map[keys.PublicKey]*config.Peer{}
	for n := 1; n <= 4; n++ {
		p := site(n)
		p.Ethernet = n != 4
		peers[p.PublicKey] = p
	}
	peers[key(2)].VLANs, peers[key(2)].MaxMACs = []uint16{0, 7}, 2
	peers[key(3)].MACs, peers[key(3)].PVID = []config.MAC{{2, 3}}, 9
	return &config.Agent{Ethernet: true}, &Lookup{
		Own:  key(200),
		Peer: func(k keys.PublicKey) *config.Peer { return peers[k] },
		Pinned: func(m config.MAC) *config.Peer {
			if m == (config.MAC{2, 3}) {
				return peers[key(3)]
			}
			return nil
		},
	}
}

func host(i int, mac config.MAC, vlan uint16, peer int, seq uint32) HostCandidate {
	return HostCandidate{i, Station{vlan, mac}, Host{Peer: key(peer), Seq: seq}}
}

func hostCodes(d HostDiff) string {
	text := ""
	for _, r := range append(d.RejectedHosts, d.RejectedNeighbors...) {
		text += fmt.Sprintf("%d:%s ", r.Index, r.Code)
	}
	return text
}

func TestHosts_bounds(t *testing.T) {
	t.Parallel()
	b, l := lan()
	h := NewHosts()
	d := h.Change(HostChange{Hosts: []HostCandidate{
		host(0, config.MAC{2, 1}, 0, 1, 5), host(1, config.MAC{2, 1}, 7, 1, 0), host(2, config.MAC{2, 1}, 7, 2, 0), host(3, config.MAC{2, 2}, 0, 2, 0),
		host(4, config.MAC{2, 4}, 0, 2, 0), host(5, config.MAC{2, 3}, 0, 1, 0), host(6, config.MAC{2, 3}, 9, 3, 0), host(7, config.MAC{2, 9}, 9, 3, 0),
		host(8, config.MAC{2, 5}, 0, 4, 0), host(9, config.MAC{2, 5}, 0, 99, 0), host(10, config.MAC{3, 5}, 0, 1, 0), host(11, config.MAC{2, 8}, 4095, 1, 0),
		host(12, config.MAC{2, 3}, 0, 200, 0), host(13, config.MAC{2, 7}, 4000, 200, 0), host(14, config.MAC{2, 1}, 0, 2, 6),
		host(15, config.MAC{0, 0, 0x5e, 0, 1, 7}, 0, 1, 0), // of a group of routers
	}}, b, l)
	// Of 0 and 14, which name one address, the higher number counts; it is peer 2's third.
	want := "0:duplicate 1:vlan 4:limit 5:mac 7:mac 8:ethernet 9:peer 10:invalid 11:invalid 12:mac 15:invalid "
	if got := hostCodes(d); got != want && got != "0:duplicate 1:vlan 3:limit 4:limit 5:mac 7:mac 8:ethernet 9:peer 10:invalid 11:invalid 12:mac 15:invalid " {
		t.Errorf("refused %q, want %q", got, want)
	}
	if hosts, _ := h.Len(); hosts != 4 {
		t.Errorf("%d hosts", hosts)
	}
	ip := netip.MustParseAddr
	neighbor := func(i int, text string, mac config.MAC, peer int) NeighborCandidate {
		return NeighborCandidate{i, Address{0, ip(text)}, Neighbor{MAC: mac, Peer: key(peer)}}
	}
	d = h.Change(HostChange{Neighbors: []NeighborCandidate{
		neighbor(0, "10.0.0.1", config.MAC{2, 1}, 1), neighbor(1, "::ffff:10.0.0.1", config.MAC{2, 1}, 1), neighbor(2, "127.0.0.1", config.MAC{2, 1}, 1),
		neighbor(3, "fe80::1", config.MAC{2, 1}, 1), neighbor(4, "255.255.255.255", config.MAC{2, 1}, 1), neighbor(5, "10.0.0.2", config.MAC{2, 3}, 1),
		neighbor(6, "fe80::1%eth0", config.MAC{2, 1}, 1),
	}}, b, l)
	if got := hostCodes(d); got != "1:invalid 2:invalid 4:invalid 5:mac 6:invalid " || len(d.SetAddrs) != 2 {
		t.Errorf("neighbours: refused %q", got)
	}
	// Another peer cannot have the MAC with a lower number, unless the numbers start over.
	stale := HostChange{Hosts: []HostCandidate{host(0, config.MAC{2, 1}, 0, 1, 3)}}
	if got := hostCodes(h.Change(stale, b, l)); got != "0:sequence " {
		t.Errorf("an older number: refused %q", got)
	}
	stale.NewSequences = true
	if d := h.Change(stale, b, l); hostCodes(d) != "" || d.Set[Station{0, config.MAC{2, 1}}].Peer != key(1) {
		t.Errorf("an older number of another count: %+v", d)
	}
	b.Ethernet = false
	if d := h.Rejudge(b, l, map[keys.PublicKey]bool{key(1): true}); len(d.Gone) != 1 || len(d.GoneAddrs) != 2 {
		t.Errorf("no frames for peer 1: %+v", d)
	}
	if h.Rejudge(b, l, nil); len(h.hosts)+len(h.neighbors)+len(h.perPeer) != 0 {
		t.Errorf("no frames at all: %+v", h)
	}
}

func TestHosts_wholeKeepAndTime(t *testing.T) {
	t.Parallel()
	b, l := lan()
	h, now := NewHosts(), time.Unix(1000, 0)
	for i := range 3 {
		c := host(0, config.MAC{2, byte(i)}, 0, 1, 0)
		if i == 0 {
			c.Host.Expires = now.Add(time.Minute)
		}
		h.Change(HostChange{Hosts: []HostCandidate{c}}, b, l)
	}
	same := HostChange{Hosts: []HostCandidate{host(0, config.MAC{2, 0}, 0, 1, 0)}}
	same.Hosts[0].Host.Expires = now.Add(2 * time.Minute)
	if d := h.Change(same, b, l); len(d.Set) != 0 {
		t.Errorf("a longer life is a change for the switch: %+v", d)
	}
	if d := h.Expire(now.Add(time.Minute)); len(d.Gone) != 0 {
		t.Errorf("gone too early: %+v", d)
	}
	if d := h.Expire(now.Add(2 * time.Minute)); len(d.Gone) != 1 || h.Timed() {
		t.Errorf("at the end of its life: %+v", d)
	}
	d := h.Change(HostChange{Whole: true, Keep: []Station{{0, config.MAC{2, 1}}}}, b, l)
	if hosts, _ := h.Len(); hosts != 1 || len(d.Gone) != 1 {
		t.Errorf("a whole change that keeps one: %d hosts, %+v", hosts, d)
	}
}

// Whatever is asked for: a mirror that follows the differences is the same, and what is counted is
// right.
func TestHosts_random(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	b, l := lan()
	h, mirror := NewHosts(), map[Station]Host{}
	at := func() Station { return Station{uint16(r.IntN(2)) * 7, config.MAC{2, byte(r.IntN(12))}} }
	for step := range 3000 {
		c := HostChange{Whole: r.IntN(6) == 0, NewSequences: r.IntN(3) == 0}
		for i := range r.IntN(6) {
			x := HostCandidate{i, at(), Host{Peer: key(1 + r.IntN(4)), Seq: uint32(r.IntN(3))}}
			if r.IntN(3) == 0 {
				x.Host.Expires = time.Unix(int64(r.IntN(3000)), 0)
			}
			c.Hosts = append(c.Hosts, x)
		}
		for range r.IntN(3) {
			c.Remove, c.Keep = append(c.Remove, at()), append(c.Keep, at())
		}
		var d HostDiff
		switch r.IntN(8) {
		case 0:
			d = h.Expire(time.Unix(int64(step), 0))
		case 1:
			l.Peer(key(2)).MaxMACs = r.Int32N(4)
			d = h.Rejudge(b, l, nil)
		default:
			d = h.Change(c, b, l)
		}
		for _, s := range d.Gone {
			delete(mirror, s)
		}
		for s, x := range d.Set {
			mirror[s] = x
		}
		count, timedOnes := map[keys.PublicKey]int{}, 0
		for s, x := range h.hosts {
			count[x.Peer]++
			timedOnes += timed(x.Expires)
			if m := mirror[s]; m.Peer != x.Peer || m.Seq != x.Seq {
				t.Fatalf("step %d: %+v is %+v in the mirror", step, x, m)
			}
		}
		if len(mirror) != len(h.hosts) || timedOnes != h.timed || len(count) != len(h.perPeer) {
			t.Fatalf("step %d: %d hosts, %d in the mirror; %d timed, %d counted", step, len(h.hosts), len(mirror), timedOnes, h.timed)
		}
		for k, n := range count {
			if h.perPeer[k] != n || k == key(2) && l.Peer(k).MaxMACs > 0 && n > int(l.Peer(k).MaxMACs) {
				t.Fatalf("step %d: %d hosts of a peer, %d counted", step, n, h.perPeer[k])
			}
		}
	}
}
