package l2

import (
	"bytes"
	"testing"
	"time"

	"tund/internal/drop"
)

// framesTo returns the Ethernet frames among messages to a port.
func framesTo(messages []Message, id PortID) (frames [][]byte) {
	for _, m := range messages {
		if _, body, reason := ParseFrame(m.Payload); m.Port == id && PayloadKind(m.Payload) == KindFrame && reason == drop.None {
			frames = append(frames, body)
		}
	}
	return frames
}

// queriesIn returns how many of the frames are general queries of IGMP and MLD to a host.
func queriesIn(frames [][]byte, host MAC) (v4, v6 int) {
	for _, frame := range frames {
		h, _ := Parse(frame)
		var m membershipMessage
		// As the host itself sees it: the destination MAC is its own.
		multicast := bytes.Clone(frame)
		switch h.EtherType {
		case typeIPv4:
			MAC(0x01005e_000001).Put(multicast)
		case typeIPv6:
			MAC(0x3333_00000001).Put(multicast)
		}
		g, _ := Parse(multicast)
		if m.reset(); h.Dst != host || !parseMembership(multicast, &g, &m) || !m.query {
			continue
		}
		if m.v6 {
			v6++
		} else {
			v4++
		}
	}
	return v4, v6
}

// TestMove_theGroupsFollow: a host that listens to a group moves from one peer to another, or from
// a peer to our LAN, and notices nothing. Its stream follows at once, and the host is asked for its
// groups at the new place.
func TestMove_theGroupsFollow(t *testing.T) {
	t.Parallel()
	for _, to := range []PortID{LocalPort, 2} {
		s := newSwitch(t, Config{Hub: true})
		addPeer(t, s, 1, PortConfig{Name: "old"})
		addPeer(t, s, 2, PortConfig{Name: "new"})
		addPeer(t, s, 3, PortConfig{Name: "querier"})
		vm := hostMAC(1)
		fromPeer(s, start, 3, igmpQuery(t))
		fromPeer(s, start, 1, igmp2(t, vm, 0x16, "239.1.1.1"))
		now := at(10 * time.Second)
		var a Actions
		if to == LocalPort {
			fromDevice(s, now, eth(Broadcast, vm, typeRARP))
			a = s.Tick(now)
		} else {
			fromPeer(s, now, to, eth(Broadcast, vm, typeRARP))
			now = now.Add(silentWait)
			a = s.Tick(now)
		}
		if id, _ := portOf(s, 0, vm); id != to {
			t.Fatalf("the host is at port %d, want %d", id, to)
		}
		stream := eth(0x01005e_010101, hostMAC(66), typeIPv4)
		gets := func(d time.Duration) bool {
			v, _ := fromPeer(s, now.Add(d), 3, stream)
			for _, id := range outPorts(v) {
				if id == to {
					return true
				}
			}
			return to == LocalPort && v.ToDevice
		}
		if !gets(0) || !gets(5*time.Second) {
			t.Errorf("to port %d: the stream does not follow", to)
		}
		frames := func(a Actions) [][]byte {
			if to == LocalPort {
				return a.ToDevice
			}
			return framesTo(a.ToPeers, to)
		}
		if v4, v6 := queriesIn(frames(a), vm); v4 != 1 || v6 != 1 {
			t.Errorf("to port %d: %d queries of IGMP and %d of MLD at once", to, v4, v6)
		}
		if v4, v6 := queriesIn(frames(s.Tick(now.Add(requeryTime))), vm); v4 != 1 || v6 != 1 {
			t.Errorf("to port %d: %d queries of IGMP and %d of MLD later", to, v4, v6)
		}
		if v4, v6 := queriesIn(frames(s.Tick(now.Add(2*requeryTime))), vm); v4 != 0 || v6 != 0 {
			t.Errorf("to port %d: asked without end", to)
		}
		if gets(groupGrace*time.Second + time.Second) {
			t.Errorf("to port %d: the stream follows for good, although the host did not report", to)
		}
	}
}

// TestMove_nothingIsAskedWithoutAQuerier: then nothing is pruned.
func TestMove_nothingIsAskedWithoutAQuerier(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "old"})
	vm := hostMAC(1)
	fromPeer(s, start, 1, eth(Broadcast, vm, typeRARP))
	fromDevice(s, start, eth(Broadcast, vm, typeRARP))
	if v4, v6 := queriesIn(s.Tick(start).ToDevice, vm); v4+v6 != 0 {
		t.Errorf("%d and %d queries", v4, v6)
	}
}

// TestMove_theFirstFrameIsDelivered: a host announces itself at its new place with a single frame,
// which starts the claim. It reaches our LAN, and on a hub the other peers, once the host has
// moved; it does not if the owner is alive.
func TestMove_theFirstFrameIsDelivered(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{false, true} {
		s := newSwitch(t, Config{Hub: true})
		addPeer(t, s, 1, PortConfig{Name: "old"})
		addPeer(t, s, 2, PortConfig{Name: "new"})
		addPeer(t, s, 3, PortConfig{Name: "trunk", VLANs: []uint16{10}})
		addPeer(t, s, 4, PortConfig{Name: "other"})
		vm := hostMAC(1)
		fromPeer(s, start, 1, gratuitous(t, vm, "10.0.0.1"))
		announcement := gratuitous(t, vm, "10.0.0.9")
		fromPeer(s, at(time.Second), 2, announcement)
		if alive {
			fromPeer(s, at(time.Second+claimGrace), 1, eth(Broadcast, vm, typeIPv4))
		}
		a := s.Tick(at(time.Second + claimWait))
		delivered := 0
		for _, frame := range append(a.ToDevice, framesTo(a.ToPeers, 4)...) {
			if bytes.Equal(frame, announcement) {
				delivered++
			}
		}
		if want := map[bool]int{false: 2, true: 0}[alive]; delivered != want {
			t.Errorf("owner alive: %v: delivered %d times, want %d", alive, delivered, want)
		}
		for _, id := range []PortID{1, 2, 3} {
			if id == 1 {
				continue // it may hear of the move
			}
			if len(framesTo(a.ToPeers, id)) > 0 {
				t.Errorf("port %d got %x", id, framesTo(a.ToPeers, id))
			}
		}
		s.Tick(at(time.Minute))
		if len(s.held) != 0 {
			t.Errorf("%d frames are kept for ever", len(s.held))
		}
	}
}

// TestMove_heldFramesAreBounded: many claims, and frames that are too long.
func TestMove_heldFramesAreBounded(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	for i := range 2 * maxClaims {
		fromDevice(s, start, eth(Broadcast, hostMAC(i), typeIPv4))
		frame := eth(Broadcast, hostMAC(i), typeIPv4)
		if i%2 == 0 {
			frame = append(frame, make([]byte, maxHeldFrame)...)
		}
		fromPeer(s, at(time.Second), 1, frame)
	}
	if n := len(s.held); n == 0 || n > maxPortClaims {
		t.Errorf("%d frames are held", n)
	}
	for key, h := range s.held {
		if len(h.frame) > maxHeldFrame {
			t.Fatalf("%x: a frame of %d bytes is held", key, len(h.frame))
		}
	}
}

// TestMove_queriesPassPinnedPorts: our own questions are known as such at a peer that pins our
// hosts, and teach it no MAC.
func TestMove_queriesPassPinnedPorts(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "pinned", MACs: []MAC{hostMAC(1)}})
	node := switchMAC(testNode(1))
	for _, query := range [][]byte{
		appendIGMPQuery(appendHeader(nil, hostMAC(5), node, 0, false, typeIPv4), hostResponse),
		appendMLDQuery(appendHeader(nil, hostMAC(5), node, 0, false, typeIPv6), linkLocal(node), hostResponse),
	} {
		if _, r := fromPeer(s, start, 1, query); r != drop.None {
			t.Errorf("%x: %v", query, r)
		}
		if _, ok := portOf(s, 0, node); ok {
			t.Error("the address of the switch was learned")
		}
		other := bytes.Clone(query)
		other[len(other)-4]++
		if _, r := fromPeer(s, start, 1, other); r != drop.SourceForeign {
			t.Errorf("%x: %v", other, r)
		}
	}
}
