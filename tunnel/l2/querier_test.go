package l2

import (
	"testing"
	"time"

	"tund/internal/drop"
)

// queriesTo returns the general queries of a tick, by VLAN as on the LAN, and to a port.
func queriesTo(s *Switch, d time.Duration, id PortID) (lan, peer [][]byte) {
	isQuery := func(frame []byte) bool {
		h, ok := Parse(frame)
		var m membershipMessage
		return ok && h.Dst.Group() && parseMembership(frame, &h, &m) && m.query
	}
	a := s.Tick(at(d))
	for _, b := range a.ToDevice {
		if isQuery(b) {
			lan = append(lan, b)
		}
	}
	for _, m := range a.ToPeers {
		if m.Port == id && PayloadKind(m.Payload) == KindFrame {
			if _, frame, _ := ParseFrame(m.Payload); isQuery(frame) {
				peer = append(peer, frame)
			}
		}
	}
	return lan, peer
}

// The querier asks in each VLAN, at its LAN and at the peers that carry it, twice soon and then
// every 125 s; its queries are believed by another switch, even where MACs are pinned.
func TestQuerier_asks(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Querier: true})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 10}})
	lan, peer := queriesTo(s, 32*time.Second, 1) // the second time: addPeer lets the first pass
	if len(lan) != 4 || len(peer) != 4 {         // two VLANs, IPv4 and IPv6
		t.Fatalf("%d queries to the LAN, %d to the peer, want 4 each", len(lan), len(peer))
	}
	b, err := New(Config{}, newRandom(9))
	if err != nil {
		t.Fatal(err)
	}
	addPeer(t, b, 1, PortConfig{VLANs: []uint16{0, 10}, MACs: []MAC{hostMAC(1)}})
	sayNode(t, b, 32*time.Second, 1, s.node)
	for i, frame := range peer {
		v, r := fromPeer(b, at(32*time.Second), 1, frame)
		if r != drop.None || !v.ToDevice {
			t.Errorf("query %d at a port with pinned MACs: %v", i, r)
		}
	}
	stream := MAC(0x01005e_010203)
	if _, r := fromDevice(b, at(44*time.Second), eth(stream, hostMAC(8), typeIPv4)); r != drop.SnoopedMulticast {
		t.Errorf("nobody joined, and the other switch does not prune: %v", r)
	}
	if v, r := fromDevice(s, at(44*time.Second), eth(stream, hostMAC(8), typeIPv4)); r != drop.SnoopedMulticast {
		t.Errorf("nobody joined, and the querier does not prune: %v %v", r, v.Out)
	}
	frame := append([]byte(nil), peer[0]...)
	frame[len(frame)-1] = 1 // padding
	if _, r := fromPeer(b, at(time.Second), 1, append(frame[:14:14], make([]byte, 46)...)); r != drop.SourceForeign {
		t.Errorf("something else from the switch's MAC: %v", r)
	}
	asked := 0
	for i := 33; i < 400; i++ {
		lan, _ := queriesTo(s, time.Duration(i)*time.Second, 1)
		asked += len(lan) / 4
	}
	if asked != 3 { // after 63, 188 and 313 s
		t.Errorf("asked %d times more in 400 s, want 3", asked)
	}
}

// The querier is silent as long as another one is heard, and asks again when that has gone.
func TestQuerier_yields(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Querier: true})
	addPeer(t, s, 1, PortConfig{})
	other := appendQuery(nil, s.mac-1, 0, false, false) // another switch, whose MAC is lower
	higher := appendQuery(nil, s.mac+1, 0, false, true)
	asked := func(d time.Duration) (v4, v6 int) {
		lan, _ := queriesTo(s, d, 1)
		for _, b := range lan {
			if h, _ := Parse(b); h.EtherType == typeIPv6 {
				v6++
			} else {
				v4++
			}
		}
		return v4, v6
	}
	for _, b := range [][]byte{other, higher} {
		if _, r := fromDevice(s, at(0), b); r != drop.None {
			t.Fatalf("a query from the LAN: %v", r)
		}
	}
	if v4, v6 := asked(32 * time.Second); v4 != 0 || v6 != 1 {
		t.Errorf("beside a better IGMP querier and a worse MLD querier: asked %d and %d times", v4, v6)
	}
	total := 0
	for i := 33; i < 400; i++ {
		v4, _ := asked(time.Duration(i) * time.Second)
		if total += v4; v4 > 0 && i < querierInterval {
			t.Errorf("asked after %d s, while the other was there", i)
		}
	}
	if total == 0 {
		t.Error("the other has gone, and nobody asks")
	}
	router := appendQuery(nil, hostMAC(7), 0, false, false)
	copy(router[14+12:], []byte{10, 0, 0, 1})
	router[14+10], router[14+11] = 0, 0
	sum := ^checksum(router[14:14+24], 0)
	router[14+10], router[14+11] = byte(sum>>8), byte(sum)
	if _, r := fromDevice(s, at(500*time.Second), router); r != drop.None {
		t.Fatalf("the query of a router: %v", r)
	}
	for i := 501; i < 700; i++ {
		if v4, _ := asked(time.Duration(i) * time.Second); v4 > 0 {
			t.Fatalf("asked beside a router, after %d s", i)
		}
	}
}
