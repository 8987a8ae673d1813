package l2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// where sends a frame to a MAC from our LAN and says who gets it.
func where(s *Switch, now time.Duration, mac MAC) string {
	v, r := fromDevice(s, at(now), eth(mac, hostMAC(999), 0x0800))
	if r != drop.None {
		return r.String()
	}
	return fmt.Sprint(outPorts(v))
}

func entryOf(s *Switch, now time.Duration, mac MAC) string {
	for _, e := range s.Entries(at(now)) {
		if e.MAC == mac {
			return fmt.Sprintf("%d %s %d %v", e.Port, e.Kind, e.Seq, e.Sticky)
		}
	}
	return ""
}

// An assigned MAC stays where it is, whatever other peers send, and moves when it is assigned anew
// or appears on our own LAN.
func TestAssign_moves(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	m := hostMAC(1)
	fromPeer(s, at(0), 2, eth(Broadcast, m, 0x0800)) // learned behind 2
	s.Assign(at(time.Second), Assignment{Set: []Assigned{{MAC: m, Port: 1, Seq: 4}}})
	if got := where(s, time.Second, m); got != "[1]" {
		t.Errorf("assigned to 1, learned behind 2: %s", got)
	}
	for _, port := range []PortID{2, 3} {
		if _, r := fromPeer(s, at(2*time.Second), port, eth(Broadcast, m, 0x0800)); r != drop.SourceForeign {
			t.Errorf("a frame of the host from peer %d: %v", port, r)
		}
	}
	for now := 3 * time.Second; now < 20*time.Second; now += time.Second { // and it stays so
		fromPeer(s, at(now), 2, eth(Broadcast, m, 0x0800))
		s.Tick(at(now))
	}
	if _, r := fromPeer(s, at(20*time.Second), 1, eth(Broadcast, m, 0x0800)); r != drop.None || where(s, 20*time.Second, m) != "[1]" {
		t.Errorf("the peer that has it: %v; %s", r, where(s, 20*time.Second, m))
	}
	announce := append(appendControl(nil, controlAnnounce, announceEntryLen), 0, 0, 0, 0, 0, 0, 0, 0)
	m.Put(announce[ControlHeaderLen+2:])
	if r := s.Control(at(21*time.Second), 3, announce); r != drop.SourceForeign {
		t.Errorf("another peer announces it: %v", r)
	}
	// It appears here; the same assignment again is no news, one with a higher number is.
	fromDevice(s, at(22*time.Second), eth(Broadcast, m, 0x0800))
	for _, seq := range []uint32{4, 4, 3} {
		s.Assign(at(23*time.Second), Assignment{Set: []Assigned{{MAC: m, Port: 1, Seq: seq}}})
		if got := entryOf(s, 23*time.Second, m); got != "0 local 0 false" {
			t.Errorf("on our LAN, and assigned to 1 with %d: %s", seq, got)
		}
	}
	s.Assign(at(24*time.Second), Assignment{Whole: true, Set: []Assigned{{MAC: m, Port: 3, Seq: 6}}})
	if got := entryOf(s, 24*time.Second, m); got != "3 control 6 false" || where(s, 24*time.Second, m) != "[3]" {
		t.Errorf("assigned with a higher number: %s", got)
	}
	// What the bridge has not heard since is no appearance.
	s.AddStations(at(25*time.Second), []Station{{MAC: m, Idle: 10 * time.Second}})
	if got := where(s, 25*time.Second, m); got != "[3]" {
		t.Errorf("a stale station: %s", got)
	}
	s.AddStations(at(26*time.Second), []Station{{MAC: m}})
	if got := entryOf(s, 26*time.Second, m); got != "0 local 0 false" {
		t.Errorf("a fresh station: %s", got)
	}
	s.Assign(at(27*time.Second), Assignment{Remove: []Assigned{{MAC: m}}})
	if s.assigned.count.Load() != 0 {
		t.Error("it is still assigned")
	}
}

func TestAssign_stickyOnesStay(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	m := hostMAC(1)
	s.Assign(start, Assignment{Set: []Assigned{{MAC: m, Port: 1, Sticky: true}}})
	if _, r := fromDevice(s, at(time.Second), eth(Broadcast, m, 0x0800)); r != drop.SourceForeign {
		t.Errorf("it appears here: %v", r)
	}
	s.SetPortUp(1, false, at(2*time.Second))
	if _, r := fromPeer(s, at(3*time.Second), 2, eth(Broadcast, m, 0x0800)); r != drop.SourceForeign || where(s, 3*time.Second, m) != "no-ethernet-peer" {
		t.Errorf("its port is down: %v, %s", r, where(s, 3*time.Second, m))
	}
	// An address of the gateway itself comes before what an agent says, and so does a pinned one.
	own, pinned := hostMAC(2), hostMAC(3)
	s.AddStations(start, []Station{{MAC: own, Fixed: true}})
	if err := s.Pin(start, 0, pinned, 2); err != nil {
		t.Fatal(err)
	}
	s.Assign(start, Assignment{Set: []Assigned{{MAC: own, Port: 1, Sticky: true}, {MAC: pinned, Port: 1, Sticky: true}}})
	if a, b := where(s, 4*time.Second, own), where(s, 4*time.Second, pinned); a != "same-port" || b != "[2]" {
		t.Errorf("the gateway's own address: %s; a pinned one: %s", a, b)
	}
}

// As long as a port is down, its hosts may appear elsewhere; when it comes back they are there.
func TestAssign_portsThatAreDown(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	m := hostMAC(1)
	s.Assign(start, Assignment{Set: []Assigned{{MAC: m, Port: 1}}})
	s.SetPortUp(1, false, at(time.Second))
	if got := where(s, time.Second, m); got != "[2]" { // flooded
		t.Errorf("its port is down: %s", got)
	}
	fromPeer(s, at(2*time.Second), 2, eth(Broadcast, m, 0x0800))
	if got := entryOf(s, 2*time.Second, m); got != "1 control 0 false" || where(s, 2*time.Second, m) != "[2]" {
		t.Errorf("it has appeared behind 2: %s, %s", got, where(s, 2*time.Second, m))
	}
	s.RemovePort(1)
	if s.assigned.count.Load() != 0 {
		t.Error("the port is gone, and its hosts are not")
	}
}

// What a hub relays to everybody passes, and moves nothing.
func TestAssign_relayedByAHub(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	m, here := hostMAC(1), hostMAC(2)
	fromDevice(s, start, eth(Broadcast, here, 0x0800))
	s.Assign(start, Assignment{Set: []Assigned{{MAC: m, Port: 1}}})
	v := new(Verdict)
	if r := s.FromPeer(at(time.Second), 2, 1, Superpacket{Frame: eth(Broadcast, m, 0x0800)}, v); r != drop.None || !v.ToDevice {
		t.Errorf("a relayed broadcast: %v", r)
	}
	if r := s.FromPeer(at(time.Second), 2, 1, Superpacket{Frame: eth(here, m, 0x0800)}, v); r != drop.SourceForeign {
		t.Errorf("a relayed frame to a host that is known: %v", r)
	}
	if got := where(s, time.Second, m); got != "[1]" {
		t.Errorf("afterwards: %s", got)
	}
	ours := hostMAC(3)
	s.Assign(at(2*time.Second), Assignment{Set: []Assigned{{MAC: ours, Port: LocalPort}}})
	if r := s.FromPeer(at(2*time.Second), 2, 1, Superpacket{Frame: eth(Broadcast, ours, 0x0800)}, v); r != drop.SourceForeign || v.ToDevice {
		t.Errorf("a broadcast of a host of our own LAN, as if relayed: %v", r)
	}
}

// Nothing is flooded and nothing is learned: what is assigned works, and everything else goes
// nowhere.
func TestAssign_withoutLearningAndFlooding(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{NoLearning: true, NeighborSuppression: true, UnknownLimit: 1})
	addPeer(t, s, 1, PortConfig{NoBUM: true})
	addPeer(t, s, 2, PortConfig{NoBUM: true})
	far, here := hostMAC(1), hostMAC(2)
	for what, frame := range map[string][]byte{
		"broadcast": eth(Broadcast, here, 0x0800), "unknown": eth(far, here, 0x0800), "multicast": eth(0x01005e000001, here, 0x0800),
		"a question": arp(t, 1, Broadcast, here, "10.0.0.2", 0, "10.0.0.1"),
	} {
		if v, r := fromDevice(s, start, frame); r != drop.NotFlooded || len(v.Out) != 0 {
			t.Errorf("%s: %v to %v", what, r, outPorts(v))
		}
	}
	s.Assign(start, Assignment{
		Set:      []Assigned{{MAC: far, Port: 1}, {MAC: here, Port: LocalPort}},
		SetAddrs: []AssignedAddr{{Addr: netip.MustParseAddr("10.0.0.1"), MAC: far, Port: 1}},
	})
	for now := range 5 { // the host asks again although it was answered
		v, r := fromDevice(s, at(time.Duration(now)*time.Second), arp(t, 1, Broadcast, here, "10.0.0.2", 0, "10.0.0.1"))
		if r != drop.SuppressedARP || len(v.Reply) == 0 || MACFromBytes(v.Reply[6:]) != far {
			t.Errorf("question %d: %v, %x", now, r, v.Reply)
		}
	}
	if got := where(s, time.Second, far); got != "[1]" {
		t.Errorf("to the assigned host: %s", got)
	}
	for range 2000 { // more than the limit of unknown unicast
		if v, r := fromPeer(s, at(time.Second), 1, eth(here, far, 0x0800)); r != drop.None || !v.ToDevice || !v.Known {
			t.Fatalf("from the assigned host to that of our LAN: %v", r)
		}
	}
	if _, r := fromPeer(s, at(time.Second), 2, eth(here, far, 0x0800)); r != drop.SourceForeign {
		t.Errorf("another peer speaks for it: %v", r)
	}
	if _, r := fromPeer(s, at(time.Second), 2, eth(far, here, 0x0800)); r != drop.SourceForeign {
		t.Errorf("a peer speaks for a host of our LAN: %v", r)
	}
}

func TestAssign_answersForNeighbours(t *testing.T) {
	t.Parallel()
	s := suppressing(t)
	far, asker := hostMAC(1), hostMAC(2)
	s.Assign(start, Assignment{
		Set: []Assigned{{MAC: far, Port: 1}},
		SetAddrs: []AssignedAddr{{Addr: netip.MustParseAddr("10.0.0.1"), MAC: far, Port: 1},
			{Addr: netip.MustParseAddr("fd00::1"), MAC: far, Port: 1, Router: true}},
	})
	question := arp(t, 1, Broadcast, asker, "10.0.0.2", 0, "10.0.0.1")
	v, r := fromDevice(s, at(time.Second), question)
	if r != drop.SuppressedARP || !bytes.Equal(v.Reply[:12], append(hw(asker), hw(far)...)) {
		t.Fatalf("ARP: %v, %x", r, v.Reply)
	}
	if v, r = fromDevice(s, at(2*time.Second), question); r != drop.None || len(v.Reply) == 0 || len(v.Out) != 2 {
		t.Errorf("the same question again is not flooded: %v", r)
	}
	v, r = fromDevice(s, at(3*time.Second), neighborSolicit(t, asker, "fd00::2", "fd00::1"))
	if r != drop.SuppressedARP || v.Reply[14+40+4] != 0xe0 {
		t.Errorf("ND: %v, %x", r, v.Reply)
	}
	// Probes for duplicates and announcements are not answered, and neither are questions in
	// another VLAN, or those of the host itself.
	for what, frame := range map[string][]byte{
		"a probe": arp(t, 1, Broadcast, asker, "0.0.0.0", 0, "10.0.0.1"), "an announcement": gratuitous(t, asker, "10.0.0.2"),
		"the host itself": arp(t, 1, Broadcast, far, "10.0.0.7", 0, "10.0.0.1"),
	} {
		if v, _ := fromDevice(s, at(4*time.Second), frame); len(v.Reply) != 0 {
			t.Errorf("%s is answered", what)
		}
	}
	s.SetPortUp(1, false, at(5*time.Second))
	if v, _ := fromDevice(s, at(10*time.Second), question); len(v.Reply) != 0 {
		t.Error("an answer for a host whose port is down")
	}
	upAgain(t, s, 1, at(11*time.Second))
	if v, _ := fromDevice(s, at(20*time.Second), question); len(v.Reply) == 0 {
		t.Error("no answer after the port has come up")
	}
	fromDevice(s, at(21*time.Second), gratuitous(t, hostMAC(5), "10.0.0.1"))
	if v, _ := fromDevice(s, at(30*time.Second), question); len(v.Reply) != 0 {
		t.Error("an answer for an address that a host of our LAN has")
	}
}

// upAgain makes a port ready as addPeer does.
func upAgain(t *testing.T, s *Switch, id PortID, now boottime.Time) {
	t.Helper()
	s.SetPortUp(id, true, now)
	h := Hello{Version: 1, Ethernet: true, MTU: 1500, Node: uint64(id) + 100}
	if r := s.Control(now, id, h.Append(nil)); r != drop.None {
		t.Fatal(r)
	}
}

// Whatever is assigned and removed: the table is as a simple one would be, within its bound.
func TestAssign_random(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	s := newSwitch(t, Config{})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	model := map[uint64]PortID{}
	for step := range 500 {
		c := Assignment{Whole: r.IntN(20) == 0}
		if c.Whole {
			clear(model)
		}
		for range r.IntN(5) {
			e := Assigned{MAC: hostMAC(r.IntN(40)), VLAN: uint16(r.IntN(2))}
			c.Remove = append(c.Remove, e)
			delete(model, entryKey(e.VLAN, e.MAC))
		}
		for range r.IntN(8) {
			e := Assigned{MAC: hostMAC(r.IntN(40)), VLAN: uint16(r.IntN(2)), Port: PortID(r.IntN(4)), Seq: uint32(r.IntN(3))}
			c.Set = append(c.Set, e)
			model[entryKey(e.VLAN, e.MAC)] = e.Port
		}
		s.Assign(at(time.Duration(step)*time.Second), c)
		if n := int(s.assigned.count.Load()); n != len(model) {
			t.Fatalf("step %d: %d assigned, want %d", step, n, len(model))
		}
		for key, port := range model {
			if a, ok := s.assigned.find(key); !ok || a.port != port {
				t.Fatalf("step %d: %v at %d, want %d", step, ok, a.port, port)
			}
		}
	}
	var many Assignment
	for i := range MaxAssigned + 100 {
		many.Set = append(many.Set, Assigned{MAC: hostMAC(i), Port: 1})
		many.SetAddrs = append(many.SetAddrs, AssignedAddr{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), MAC: hostMAC(i), Port: 1})
	}
	many.Whole = true
	s.Assign(start, many)
	if n, addrs := int(s.assigned.count.Load()), len(s.assigned.addrs); n != MaxAssigned-1 && n != MaxAssigned || addrs != MaxAssignedAddrs {
		t.Errorf("%d MACs and %d addresses are assigned", n, addrs)
	}
}

// A port that the loop guard blocks leads to a LAN that is reached through another port. The hosts
// that are assigned to it are found there: their frames pass, and those for them arrive.
func TestAssign_portsThatAreBlocked(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		m := hostMAC(1)
		s.Assign(start, Assignment{Set: []Assigned{{MAC: m, Port: 1, Sticky: sticky}}})
		s.mu.Lock()
		s.block(start, block{port: 1, vid: 0, cause: 2, other: 2})
		s.mu.Unlock()
		if _, r := fromPeer(s, at(time.Second), 2, eth(Broadcast, m, 0x0800)); r != drop.None {
			t.Errorf("sticky %t: a frame of the host through the other gateway: %v", sticky, r)
		}
		if got := where(s, time.Second, m); got != "[2]" {
			t.Errorf("sticky %t: a frame for the host: %s", sticky, got)
		}
		s.mu.Lock()
		s.unblock(at(2*time.Second), func(*block) bool { return true })
		s.mu.Unlock()
		s.Tick(at(2 * time.Second))
		if got := where(s, 2*time.Second, m); got != "[1]" {
			t.Errorf("sticky %t: the block has ended: %s", sticky, got)
		}
	}
}
