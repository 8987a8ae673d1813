package l2

import (
	"encoding/binary"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// keyed makes the prober one that supports tags: it discloses key to the switch whose port it
// joins.
func (p *prober) keyed(key [16]byte) *prober {
	p.hello.Keyed, p.hello.NamesVLAN, p.hello.Key = true, true, key
	p.keys = []*[16]byte{&p.hello.Key}
	return p
}

// A peer that knows everything that P disclosed to it, including the secret, cannot forge a probe
// of P for us, neither with the key of another peer nor without one.
func TestProbeKey_nobodyElseMakesAPeersProbe(t *testing.T) {
	t.Parallel()
	for _, key := range []*[16]byte{nil, {2}, {1}} {
		s := newSwitch(t, Config{})
		p := newProber(1).keyed([16]byte{1})
		p.joins(t, s, 1, true)
		if p.keys = nil; key != nil {
			p.keys = []*[16]byte{key}
		}
		fromDevice(s, start, p.frame(start))
		if got, want := len(s.blocks) > 0, key != nil && *key == [16]byte{1}; got != want {
			t.Errorf("key %v: blocked %v", key, got)
		}
	}
}

// A peer forges a probe of ours from everything that we disclosed to it, and lets it come back
// through another peer: nobody is blocked.
func TestProbeKey_nobodyMakesOurs(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	forger := &prober{Switch: &Switch{node: s.node, secret: s.secret}, keys: s.told()}
	fromPeer(s, start, 2, forger.frame(start))
	if len(s.blocks) > 0 {
		t.Errorf("blocked %v", s.blocks)
	}
	if fromDevice(s, start, forger.frame(start)); len(s.queue.Events) > 0 {
		t.Errorf("at the TAP: events %v", s.queue.Events)
	}
	genuine := (&prober{Switch: s}).frame(start)
	if fromPeer(s, at(holdTime+2*time.Second), 2, genuine); len(s.blocks) > 0 {
		t.Errorf("an old one: blocked %v", s.blocks)
	}
	if fromPeer(s, start, 2, genuine); len(s.blocks) != 1 {
		t.Errorf("our own: blocked %v", s.blocks)
	}
	again, err := New(Config{}, newRandom(9))
	if err != nil {
		t.Fatal(err)
	}
	again.node = s.node
	addPeer(t, again, 2, PortConfig{})
	if fromPeer(again, start, 2, genuine); len(again.blocks) > 0 {
		t.Errorf("after a restart: blocked %v", again.blocks)
	}
}

// Each peer is told a key of its own, which differs for each port and each run.
func TestProbeKey_eachPeerHasItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[[16]byte]bool{}
	for run := range byte(2) {
		s, err := New(Config{}, newRandom(run+1))
		if err != nil {
			t.Fatal(err)
		}
		for id := PortID(1); id <= 3; id++ {
			addPeer(t, s, id, PortConfig{})
			s.SetPortUp(id, false, start)
			s.SetPortUp(id, true, start)
			for _, h := range hellosTo(s, start, id) {
				if !h.Keyed || h.Key == [16]byte{} || seen[h.Key] {
					t.Errorf("port %d is told %v", id, h.Keyed)
				}
				seen[h.Key] = true
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d keys, want 6", len(seen))
	}
}

// A hello of a version without tags is understood, and its probes count.
func TestProbeKey_olderPeers(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1)
	p.joins(t, s, 1, true)
	if fromDevice(s, start, p.frame(start)); len(s.blocks) != 1 {
		t.Errorf("blocked %v", s.blocks)
	}
	older := Hello{Version: 1, Node: 5, NamesVLAN: true, PVID: 7}
	if h, ok := ParseHello(older.Append(nil)[ControlHeaderLen:]); !ok || h != older {
		t.Errorf("read %+v", h)
	}
}

// If there are more peers than tags fit into one probe, each peer still gets its tag in every
// interval.
func TestProbeKey_manyPeers(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	const peers = 300
	for id := PortID(1); id <= peers; id++ {
		h := Hello{Version: 1, Ethernet: true, MTU: 1500, Node: uint64(id), Keyed: true, Clock: second(start)}
		if err := s.SetPort(id, PortConfig{Ethernet: true}); err != nil {
			t.Fatal(err)
		}
		s.SetPortUp(id, true, start)
		s.Control(start, id, h.Append(nil))
	}
	s.Tick(start)
	found := map[PortID]int{}
	for _, f := range s.Tick(at(2 * ProbeInterval)).ToDevice {
		h, _ := Parse(f)
		if h.EtherType != typeProbe {
			continue
		}
		if len(f) > 1200 {
			t.Errorf("a probe of %d bytes", len(f))
		}
		for id, p := range s.ports {
			if tagged(&p.key, f[h.Payload+8:]) {
				found[id]++
			}
		}
	}
	if len(found) != peers {
		t.Errorf("%d of %d peers got a tag", len(found), peers)
	}
}

// relayedTo reports, as 1 or 0, whether a frame from the TAP is sent to port 2.
func relayedTo(s *Switch, now boottime.Time, frame []byte) (n int) {
	v, _ := fromDevice(s, now, frame)
	for _, id := range outPorts(v) {
		if id == 2 {
			n++
		}
	}
	return n
}

// Neither replays nor garbage nor another origin prevents the probes of a peer from being relayed.
func TestRelay_nothingElseSpendsItsBudget(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p, q := newProber(1).keyed([16]byte{1}), newProber(3).keyed([16]byte{3})
	p.joins(t, s, 1, true)
	addPeer(t, s, 2, PortConfig{})
	q.joins(t, s, 3, true)
	old := p.frame(start)
	if n := relayedTo(s, start, old); n != 1 {
		t.Fatalf("passed on %d times, want 1", n)
	}
	for i := range 10 {
		now := at(time.Duration(i+1) * ProbeInterval)
		for range 200 {
			fromDevice(s, now, old)
			garbage := q.frame(now)
			garbage[len(garbage)-1] ^= 1
			fromDevice(s, now, garbage)
		}
		for i := range 2 * maxProbedVLANs {
			q.keys = []*[16]byte{&q.hello.Key, {byte(i)}} // each a different frame
			fromDevice(s, now, q.frame(now))
		}
		if n := relayedTo(s, now, p.frame(now)); n != 1 {
			t.Fatalf("interval %d: passed on %d times", i, n)
		}
	}
}

// No more probes of an origin are relayed than a legitimate one sends, in however many VLANs it
// claims to be.
func TestRelay_isBounded(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	var vlans []uint16
	for v := range uint16(1000) {
		vlans = append(vlans, v)
	}
	p := newProber(1).keyed([16]byte{1})
	p.hello.PVID = 0
	p.joins(t, s, 1, true)
	for _, id := range []PortID{1, 2} {
		if err := s.SetPort(id, PortConfig{Ethernet: true, VLANs: vlans}); err != nil {
			t.Fatal(err)
		}
	}
	addPeer(t, s, 2, PortConfig{VLANs: vlans})
	n := 0
	const intervals = 10
	for i := range intervals {
		now := at(time.Duration(i) * ProbeInterval)
		for _, vid := range vlans {
			n += relayedTo(s, now, p.frameIn(now, uint32(vid), vid))
		}
	}
	if limit := (intervals + relayBurst) * maxProbedVLANs; n > limit || n < limit/2 {
		t.Errorf("%d passed on, limit %d", n, limit)
	}
}

// A requested join test is sent to the LAN only from a MAC that no host has, in a VLAN that the
// peer carries, and at a limited rate.
func TestJoinTest_whatIsAskedOfUs(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 10}})
	addPeer(t, s, 2, PortConfig{MACs: []MAC{hostMAC(7)}})
	fromDevice(s, start, eth(Broadcast, hostMAC(8), typeIPv4))
	ask := func(vid uint16, mac MAC) drop.Reason {
		b := binary.BigEndian.AppendUint16(appendControl(nil, controlJoinTest, joinTestLen), vid)
		b = append(b, 0, 0, 0, 0, 0, 0)
		mac.Put(b[len(b)-6:])
		return s.Control(at(time.Second), 1, b)
	}
	for _, c := range []struct {
		why  string
		vid  uint16
		mac  MAC
		want drop.Reason
	}{
		{"an unknown MAC", 10, hostMAC(1), drop.None},
		{"a VLAN not carried", 20, hostMAC(1), drop.VLANRefused},
		{"a pinned MAC", 0, hostMAC(7), drop.SourceForeign},
		{"a MAC that lives here", 0, hostMAC(8), drop.SourceForeign},
		{"our own", 0, s.mac, drop.SourceForeign},
		{"a group", 0, 0x03_0000000001, drop.SourceForeign},
		{"a vendor's", 0, 0x00_0000000001, drop.SourceForeign},
	} {
		if r := ask(c.vid, c.mac); r != c.want {
			t.Errorf("%s: %v, want %v", c.why, r, c.want)
		}
	}
	frames := 0
	for _, f := range s.Tick(at(time.Second)).ToDevice {
		h, _ := Parse(f)
		if h.EtherType != typeARP {
			continue
		}
		frames++
		if h.Src != hostMAC(1) || h.Dst != Broadcast || h.VID() != 10 {
			t.Errorf("wrote %v to %v in VLAN %d", h.Src, h.Dst, h.VID())
		}
	}
	if frames != 1 {
		t.Errorf("%d frames for the LAN, want 1", frames)
	}
	passed := 0
	for i := range 1000 {
		// As many as the limit of control messages allows.
		now := at(time.Duration(i) * 20 * time.Millisecond)
		b := binary.BigEndian.AppendUint16(appendControl(nil, controlJoinTest, joinTestLen), 0)
		b = append(b, testMACByte, 9, 9, 9, byte(i>>8), byte(i))
		if s.Control(now, 1, b) == drop.None {
			passed++
		}
		s.Tick(now)
	}
	if passed > 256+20*16+16 {
		t.Errorf("%d join tests in 20 s", passed)
	}
}
