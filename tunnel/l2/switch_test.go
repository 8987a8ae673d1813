package l2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

// modelPort is a port as an operator thinks of it: which VLANs it carries, and whether tagged.
type modelPort struct {
	carries map[uint16]bool // VLAN (0: untagged LAN) → tagged
	native  int             // VLAN of untagged frames, -1: none
}

func modelPortOf(cfg PortConfig) modelPort {
	p := modelPort{map[uint16]bool{}, -1}
	for _, v := range cfg.VLANs {
		if v == 0 {
			p.carries[0], p.native = false, 0
		} else {
			p.carries[v] = true
		}
	}
	switch {
	case cfg.PVID != 0:
		delete(p.carries, 0)
		p.carries[cfg.PVID], p.native = false, int(cfg.PVID)
	case len(cfg.VLANs) == 0:
		p.carries[0], p.native = false, 0
	}
	return p
}

type switchModel struct {
	hub   bool
	ports map[PortID]modelPort // excluding the TAP
	up    map[PortID]bool
	fdb   map[string]PortID
}

func (m *switchModel) carries(id PortID, vid uint16) (tagged, ok bool) {
	if id == LocalPort {
		return vid != 0, true
	}
	tagged, ok = m.ports[id].carries[vid]
	return tagged, ok
}

// decide returns the frames that leave, by port, or the reason why there are none. tag is -1 for
// untagged.
func (m *switchModel) decide(in PortID, dst, src MAC, tag int) (map[PortID]int, drop.Reason) {
	vid := tag
	if tag <= 0 {
		vid = 0
		if in != LocalPort {
			if vid = m.ports[in].native; vid < 0 {
				return nil, drop.VLANRefused
			}
		}
	} else if in != LocalPort {
		tagged, ok := m.ports[in].carries[uint16(tag)]
		if !ok || !tagged && m.ports[in].native != tag || !tagged && !slices.Contains(m.trunked(in), uint16(tag)) {
			return nil, drop.VLANRefused
		}
	}
	key := func(mac MAC) string { return fmt.Sprint(vid, mac) }
	if owner, ok := m.fdb[key(src)]; ok && owner != in && in != LocalPort {
		return nil, drop.SourceForeign
	}
	to, known := m.fdb[key(dst)]
	known = known && (to == LocalPort || m.up[to])
	m.fdb[key(src)] = in
	group := dst.Group()
	out := map[PortID]int{}
	reason := drop.NoEthernetPeer
	send := func(id PortID) bool {
		tagged, ok := m.carries(id, uint16(vid))
		if !ok {
			reason = drop.VLANRefused
			return false
		}
		out[id] = -1
		if tagged {
			out[id] = vid
		} else if tag == 0 {
			out[id] = 0 // a priority tag may stay
		}
		return true
	}
	switch {
	case !group && known && to == in:
		return nil, drop.SamePort
	case !group && known && in != LocalPort && to != LocalPort && !m.hub:
		return nil, drop.SplitHorizon
	case !group && known:
		if !send(to) {
			return nil, reason
		}
	default:
		for id := range m.ports {
			if id != in && m.up[id] && (in == LocalPort || m.hub) {
				send(id)
			}
		}
		if in != LocalPort {
			send(LocalPort)
		}
	}
	if len(out) == 0 {
		return nil, reason
	}
	return out, drop.None
}

// trunked is the list of VLANs in the configuration of the port, stored separately for hybrid
// ports.
func (m *switchModel) trunked(id PortID) []uint16 { return trunks[id] }

var trunks = map[PortID][]uint16{1: nil, 2: nil, 3: {10, 20}, 4: {0, 10}, 5: {20}}

// TestSwitch_forwardsAsTheModel sends random frames through ports of all kinds.
func TestSwitch_forwardsAsTheModel(t *testing.T) {
	t.Parallel()
	pvids := map[PortID]uint16{2: 10, 5: 10}
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		hub := seed%2 == 1
		s := newSwitch(t, Config{Hub: hub, BroadcastLimit: -1, MulticastLimit: -1, UnknownLimit: -1})
		m := &switchModel{hub, map[PortID]modelPort{}, map[PortID]bool{}, map[string]PortID{}}
		for id := PortID(1); id <= 5; id++ {
			cfg := PortConfig{VLANs: trunks[id], PVID: pvids[id]}
			addPeer(t, s, id, cfg)
			m.ports[id], m.up[id] = modelPortOf(cfg), true
		}
		var v Verdict
		for step := range 4000 {
			if rng.IntN(200) == 0 { // a session ends and comes back
				id := PortID(1 + rng.IntN(5))
				s.SetPortUp(id, false, start)
				for k, p := range m.fdb {
					if p == id {
						delete(m.fdb, k)
					}
				}
				if m.up[id] = rng.IntN(2) == 0; m.up[id] {
					s.SetPortUp(id, true, start)
					h := Hello{Version: 1, Ethernet: true, MTU: 9000, Node: testNode(id), Clock: second(start)}
					s.Control(start, id, h.Append(nil))
				}
				s.Tick(start)
			}
			in := PortID(rng.IntN(6))
			if in != LocalPort && !m.up[in] {
				continue
			}
			dst := []MAC{hostMAC(rng.IntN(12)), hostMAC(rng.IntN(12)), Broadcast, 0x01000c000001}[rng.IntN(4)]
			src := hostMAC(rng.IntN(12))
			tag := []int{-1, 0, 10, 20, 30}[rng.IntN(5)]
			var tags []uint16
			if tag >= 0 {
				tags = []uint16{uint16(tag) | 0x6000}
			}
			frame := eth(dst, src, 0x1234, tags...)
			want, wantReason := m.decide(in, dst, src, tag)
			var reason drop.Reason
			if in == LocalPort {
				reason = s.FromDevice(start, Superpacket{Frame: frame}, &v)
			} else {
				reason = s.FromPeer(start, in, 0, Superpacket{Frame: frame}, &v)
			}
			got := map[PortID]int{}
			for _, o := range v.Out {
				got[o.Port] = tagAfter(t, frame, o.Rewrite)
			}
			if v.ToDevice {
				got[LocalPort] = tagAfter(t, frame, v.DeviceRewrite)
			}
			if reason != wantReason || fmt.Sprint(got) != fmt.Sprint(want) && len(got)+len(want) > 0 {
				t.Fatalf("seed %d step %d: %v → %v at port %d, tag %d: %v %v, want %v %v", seed, step, src, dst, in, tag, got, reason, want, wantReason)
			}
		}
	}
}

// tagAfter applies the rewrite and returns the VLAN of the tag, or -1 without one.
func tagAfter(t *testing.T, frame []byte, r Rewrite) int {
	t.Helper()
	buf := append(make([]byte, 4), frame...)
	buf = buf[r.Apply(buf, 4):]
	h, ok := Parse(buf)
	before, _ := Parse(frame)
	if !ok || h.Dst != before.Dst || h.Src != before.Src || h.EtherType != before.EtherType || !bytes.Equal(buf[h.Payload:], frame[before.Payload:]) {
		t.Fatalf("rewrite %+v broke the frame", r)
	}
	if h.Tags == 0 {
		return -1
	}
	return int(h.VID())
}

func TestSwitch_hubCountsHops(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Hub: true})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 2, eth(Broadcast, hostMAC(2), 0x1234))
	for hops := range uint8(MaxHops + 1) {
		var v Verdict
		r := s.FromPeer(start, 1, hops, Superpacket{Frame: eth(hostMAC(2), hostMAC(1), 0x1234)}, &v)
		if hops < MaxHops && (r != drop.None || v.Hops != hops+1 || len(v.Out) != 1) || hops == MaxHops && r != drop.HopLimit {
			t.Errorf("hops %d: %v, %d", hops, r, v.Hops)
		}
	}
	var v Verdict
	if r := s.FromPeer(start, 1, MaxHops, Superpacket{Frame: eth(Broadcast, hostMAC(1), 0x1234)}, &v); r != drop.None || !v.ToDevice || len(v.Out) != 0 {
		t.Errorf("a broadcast after the last hop: %v, to the LAN %v, to %v", r, v.ToDevice, v.Out)
	}
}

func TestSwitch_sizeLimits(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MTU: 1500})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 10}})
	frame := func(n int, tags ...uint16) []byte {
		f := eth(Broadcast, hostMAC(1), 0x1234, tags...)
		return append(f, make([]byte, n-len(f))...)
	}
	for _, c := range []struct {
		p    Superpacket
		want drop.Reason
	}{
		{Superpacket{Frame: frame(1514)}, drop.None}, {Superpacket{Frame: frame(1515)}, drop.OversizeFrame},
		{Superpacket{Frame: frame(1518, 10)}, drop.None}, {Superpacket{Frame: frame(1519, 10)}, drop.OversizeFrame},
		{Superpacket{Frame: frame(60000), Segments: 42, Longest: 1514}, drop.None},
		{Superpacket{Frame: frame(60000), Segments: 42, Longest: 1515}, drop.OversizeFrame},
		{Superpacket{Frame: frame(60000)}, drop.OversizeFrame},
	} {
		var v Verdict
		if r := s.FromDevice(start, c.p, &v); r != c.want {
			t.Errorf("%d bytes, %d segments: %v, want %v", len(c.p.Frame), c.p.Segments, r, c.want)
		}
		if r := s.FromPeer(start, 1, 0, Superpacket{Frame: c.p.Frame, Longest: c.p.Longest}, &v); r != c.want && r != drop.SourceForeign {
			t.Errorf("from the peer, %d bytes: %v, want %v", len(c.p.Frame), r, c.want)
		}
	}
	s.SetMTU(9000)
	if _, r := fromDevice(s, start, frame(9014)); r != drop.None {
		t.Errorf("after SetMTU: %v", r)
	}
}

func TestSwitch_portsAndErrors(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	for _, id := range []PortID{LocalPort, MaxPortID + 1} {
		if err := s.SetPort(id, PortConfig{}); err == nil {
			t.Errorf("SetPort(%d) was accepted", id)
		}
	}
	addPeer(t, s, 3, PortConfig{Name: "three"})
	fromPeer(s, start, 3, eth(Broadcast, hostMAC(1), 0x1234))
	fromPeer(s, start, 3, eth(Broadcast, 0, 0x1234))
	p := s.Ports(start)
	if len(p) != 2 || p[1].Name != "three" || !p[1].Ethernet || p[1].Entries != 1 || p[1].Drops["source-multicast"] != 1 || p[1].Peer.MTU != 9000 {
		t.Errorf("ports: %+v", p)
	}
	s.RemovePort(3)
	s.RemovePort(3)
	if len(s.Ports(start)) != 1 || len(s.Entries(start)) != 0 {
		t.Error("something is left of a removed port")
	}
	if _, err := New(Config{}, failingReader{}); !errors.Is(err, errNoRandom) {
		t.Errorf("New without randomness: %v", err)
	}
}

func TestSwitch_setConfigWhileInUse(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MaxEntries: 1000, MaxPerPort: 600})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	for i := range 500 {
		fromPeer(s, start, 1, eth(hostMAC(0), hostMAC(i), 0x1234))
		fromDevice(s, start, eth(hostMAC(499), hostMAC(1000+i), 0x1234))
	}
	if err := s.Pin(start, 0, hostMAC(5000), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.SetConfig(Config{MaxEntries: 100, MaxPerPort: 50, Hub: true, BroadcastLimit: -1}); err != nil {
		t.Error(err)
	}
	if n := len(s.Entries(start)); n > 100 || n < 50 {
		t.Errorf("%d entries, at most 100", n)
	}
	if n := s.fdb.counts(); n[0] > 75 || n[1] > 50 {
		t.Errorf("entries by port: %v", n)
	}
	if err := s.fdb.check(); err != nil {
		t.Error(err)
	}
	if v, r := fromPeer(s, at(time.Hour), 2, eth(Broadcast, hostMAC(7777), 0x1234)); r != drop.None || len(v.Out) != 1 {
		t.Errorf("now a hub: %v, to %v", r, v.Out)
	}
	for range 1000 {
		if _, r := fromDevice(s, start, eth(Broadcast, hostMAC(8888), 0x1234)); r != drop.None {
			t.Fatalf("without a broadcast limit: %v", r)
		}
	}
	if err := s.SetConfig(Config{MaxEntries: 1 << 20}); !errors.Is(err, ErrTableSize) {
		t.Errorf("a table of a million: %v", err)
	}
}

type failingReader struct{}

var errNoRandom = errors.New("no randomness")

func (failingReader) Read([]byte) (int, error) { return 0, errNoRandom }

func FuzzSwitch(f *testing.F) {
	f.Add(eth(Broadcast, hostMAC(1), typeARP), uint8(0))
	f.Add(gratuitous(f, hostMAC(1), "10.0.0.1"), uint8(1))
	f.Add(neighborSolicit(f, hostMAC(1), "fe80::1", "fe80::2"), uint8(0))
	for _, a := range attacks(f) {
		f.Add(a.frame, uint8(1))
	}
	s := newSwitch(f, Config{Hub: true, NeighborSuppression: true, QinQ: true, BPDU: BPDUForward})
	addPeer(f, s, 1, PortConfig{})
	addPeer(f, s, 2, PortConfig{VLANs: []uint16{0, 5, 6}})
	f.Fuzz(func(t *testing.T, frame []byte, port uint8) {
		var v Verdict
		before := bytes.Clone(frame)
		var r drop.Reason
		if port%3 == 0 {
			r = s.FromDevice(start, Superpacket{Frame: frame}, &v)
		} else {
			r = s.FromPeer(start, PortID(port%3), 0, Superpacket{Frame: frame}, &v)
		}
		if !bytes.Equal(before, frame) {
			t.Fatal("the frame was changed")
		}
		if r == drop.None && len(v.Out) == 0 && !v.ToDevice || r != drop.None && (len(v.Out) > 0 || v.ToDevice) {
			t.Fatalf("%v, to %v, device %v", r, v.Out, v.ToDevice)
		}
		for _, o := range v.Out {
			if o.Port == PortID(port%3) {
				t.Fatal("sent back where it came from")
			}
		}
	})
}
