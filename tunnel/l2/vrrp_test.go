package l2

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/drop"
)

// vrrpMAC6 is what group 7 shares for IPv6.
const vrrpMAC6 MAC = 0x00005e000207

// advertise returns a VRRP advertisement for one address. version 2 is for IPv4; change alters the
// message before its checksum is made.
func advertise(t testing.TB, version int, from string, priority byte, change func(msg []byte) []byte) []byte {
	t.Helper()
	msg := []byte{byte(version)<<4 | 1, 7, priority, 1, 0, 1, 0, 0, 10, 0, 0, 1}
	v6 := version == 6
	switch {
	case version == 2:
		msg = append(msg, make([]byte, 8)...)
	case v6:
		msg[0] = 0x31
		msg = append(msg, make([]byte, 12)...)
	}
	if change != nil {
		msg = change(msg)
	}
	frame := vrrpPacket(t, from, v6, msg)
	b := frame[headerLen:]
	sum := uint32(0)
	switch {
	case v6:
		sum = uint32(checksum(b[8:40], 0)) + uint32(len(msg)) + protoVRRP
	case version == 3:
		sum = uint32(checksum(b[12:20], 0)) + uint32(len(msg)) + protoVRRP
	}
	binary.BigEndian.PutUint16(msg[6:], ^checksum(msg, sum))
	return vrrpPacket(t, from, v6, msg)
}

func vrrpPacket(t testing.TB, from string, v6 bool, msg []byte) []byte {
	t.Helper()
	if v6 {
		return serialize(t, ethLayer(groupMAC("ff02::12"), vrrpMAC6, layers.EthernetTypeIPv6),
			ip6(from, "ff02::12", layers.IPProtocolVRRP), gopacket.Payload(msg))
	}
	ip := ip4(from, "224.0.0.18", layers.IPProtocolVRRP)
	ip.TTL = 255
	return serialize(t, ethLayer(groupMAC("224.0.0.18"), vrrpMAC, layers.EthernetTypeIPv4), ip, gopacket.Payload(msg))
}

// TestVRRP_theWinnerTakesTheAddress: our router is the master, and one at another site says
// something. Only what makes ours step down moves the address, and that at once.
func TestVRRP_theWinnerTakesTheAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		ours, theirs []byte
		moves        bool
	}{
		{"a better one", advertise(t, 3, "10.0.0.2", 100, nil), advertise(t, 3, "10.0.0.3", 150, nil), true},
		{"a better one, version 2", advertise(t, 2, "10.0.0.2", 100, nil), advertise(t, 2, "10.0.0.3", 150, nil), true},
		{"a better one, IPv6", advertise(t, 6, "fe80::2", 100, nil), advertise(t, 6, "fe80::1", 150, nil), true},
		{"a worse one", advertise(t, 3, "10.0.0.2", 100, nil), advertise(t, 3, "10.0.0.3", 99, nil), false},
		{"one as good, with the higher address", advertise(t, 3, "10.0.0.2", 100, nil), advertise(t, 3, "10.0.0.3", 100, nil), true},
		{"one as good, with the lower address", advertise(t, 3, "10.0.0.2", 100, nil), advertise(t, 3, "10.0.0.1", 100, nil), false},
		{"any, after ours has resigned", advertise(t, 3, "10.0.0.2", 0, nil), advertise(t, 3, "10.0.0.1", 1, nil), true},
		{"one that resigns, too", advertise(t, 3, "10.0.0.2", 0, nil), advertise(t, 3, "10.0.0.3", 0, nil), false},
		{"one with a password", advertise(t, 2, "10.0.0.2", 100, nil),
			advertise(t, 2, "10.0.0.3", 150, func(m []byte) []byte { m[4] = 1; return m }), false},
		{"CARP", advertise(t, 2, "10.0.0.2", 100, nil),
			advertise(t, 2, "10.0.0.3", 150, func(m []byte) []byte { m[3] = 7; return append(m, make([]byte, 16)...) }), false},
		{"another type", advertise(t, 3, "10.0.0.2", 100, nil),
			advertise(t, 3, "10.0.0.3", 150, func(m []byte) []byte { m[0] = 0x32; return m }), false},
		{"one with addresses missing", advertise(t, 3, "10.0.0.2", 100, nil),
			advertise(t, 3, "10.0.0.3", 150, func(m []byte) []byte { m[3] = 9; return m }), false},
		{"a stump", advertise(t, 3, "10.0.0.2", 100, nil), vrrpPacket(t, "10.0.0.3", false, []byte{0x31, 7, 150}), false},
		{"a wrong checksum", advertise(t, 3, "10.0.0.2", 100, nil),
			vrrpPacket(t, "10.0.0.3", false, []byte{0x31, 7, 150, 1, 0, 1, 1, 2, 10, 0, 0, 1}), false},
	} {
		for _, home := range []PortID{LocalPort, 2} {
			s := newSwitch(t, Config{})
			addPeer(t, s, 1, PortConfig{Name: "theirs"})
			addPeer(t, s, 2, PortConfig{Name: "ours"})
			if home == LocalPort {
				fromDevice(s, start, c.ours)
			} else {
				fromPeer(s, start, home, c.ours)
			}
			v, r := fromPeer(s, at(ms), 1, c.theirs)
			if r != drop.None || !v.ToDevice {
				t.Errorf("%s: %v, to device %v", c.name, r, v.ToDevice)
			}
			h, _ := Parse(c.theirs)
			want := home
			if c.moves {
				want = 1
			}
			if id, ok := portOf(s, 0, h.Src); !ok || id != want {
				t.Errorf("%s, master at port %d: the address is at port %d, %v", c.name, home, id, ok)
			}
		}
	}
}

// TestVRRP_pinsDecide: not even the winner takes an address that was pinned.
func TestVRRP_pinsDecide(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	if err := s.Pin(start, 0, vrrpMAC, LocalPort); err != nil {
		t.Fatal(err)
	}
	fromDevice(s, start, advertise(t, 3, "10.0.0.2", 100, nil))
	if _, r := fromPeer(s, at(ms), 1, advertise(t, 3, "10.0.0.3", 150, nil)); r != drop.SourceForeign {
		t.Errorf("pinned by hand: %v", r)
	}
	if id, _ := portOf(s, 0, vrrpMAC); id != LocalPort {
		t.Errorf("the address is at port %d", id)
	}
}

// TestVRRP_routersMayChangePlaces: an election every few seconds freezes nothing, and masters that
// are not heard any more are forgotten.
func TestVRRP_routersMayChangePlaces(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	now := start
	for range 20 {
		now = now.Add(3 * time.Second)
		fromDevice(s, now, advertise(t, 3, "10.0.0.2", 100, nil))
		if id, _ := portOf(s, 0, vrrpMAC); id != LocalPort {
			t.Fatalf("after the message of our router: port %d", id)
		}
		now = now.Add(3 * time.Second)
		fromPeer(s, now, 1, advertise(t, 3, "10.0.0.3", 150, nil))
		if id, _ := portOf(s, 0, vrrpMAC); id != 1 {
			t.Fatalf("after the message of the better router: port %d", id)
		}
		for _, e := range s.Tick(now).Events {
			if e.Kind == EventFrozen {
				t.Fatal("frozen")
			}
		}
	}
	if len(s.masters) != 1 {
		t.Errorf("%d masters are remembered", len(s.masters))
	}
	s.Tick(now.Add(masterLife + slowAgeing))
	if len(s.masters) != 0 {
		t.Errorf("%d masters are remembered for ever", len(s.masters))
	}
}

// TestVRRP_whatTheOwnerIgnores: a peer sends a message with the highest priority that our router
// does not heed. The address stays.
func TestVRRP_whatTheOwnerIgnores(t *testing.T) {
	t.Parallel()
	change := func(version int, from string, alter func(m []byte)) []byte {
		return advertise(t, version, from, 255, func(m []byte) []byte { alter(m); return m })
	}
	header := func(alter func(frame []byte)) []byte {
		frame := advertise(t, 3, "10.0.0.3", 255, nil)
		alter(frame)
		return frame
	}
	v2, v3, v6 := advertise(t, 2, "10.0.0.2", 100, nil), advertise(t, 3, "10.0.0.2", 100, nil), advertise(t, 6, "fe80::2", 100, nil)
	for name, c := range map[string]struct{ ours, theirs []byte }{
		"another group":           {v3, change(3, "10.0.0.3", func(m []byte) { m[1] = 8 })},
		"other addresses":         {v3, change(3, "10.0.0.3", func(m []byte) { m[11] = 9 })},
		"another version":         {v2, advertise(t, 3, "10.0.0.3", 255, nil)},
		"another interval":        {v2, change(2, "10.0.0.3", func(m []byte) { m[5] = 9 })},
		"our own address":         {v3, advertise(t, 3, "10.0.0.2", 255, nil)},
		"no unicast address":      {v3, advertise(t, 3, "239.0.0.3", 255, nil)},
		"a loopback address":      {v3, advertise(t, 3, "127.0.0.3", 255, nil)},
		"a global source in IPv6": {v6, advertise(t, 6, "2001:db8::3", 255, nil)},
		"a wrong IP checksum":     {v3, header(func(f []byte) { f[headerLen+10] ^= 1 })},
		"a wrong IP length":       {v3, header(func(f []byte) { f[headerLen+2] = 9 })},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		fromDevice(s, start, c.ours)
		fromPeer(s, at(ms), 1, c.theirs)
		h, _ := Parse(c.ours)
		if id, ok := portOf(s, 0, h.Src); !ok || id != LocalPort {
			t.Errorf("%s: the address is at port %d, %v", name, id, ok)
		}
	}
}

// TestVRRP_whatTheOwnerDoesNotGet: a hub does not pass the message of the winner on to the owner,
// who therefore remains the owner.
func TestVRRP_whatTheOwnerDoesNotGet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ours, theirs PortConfig
		hops         uint8
		want         PortID
	}{
		{want: 2},
		{ours: PortConfig{Isolated: true}, theirs: PortConfig{Isolated: true}, want: 1},
		{ours: PortConfig{NoBUM: true}, want: 1},
		{hops: MaxHops, want: 1},
	} {
		s := newSwitch(t, Config{Hub: true})
		addPeer(t, s, 1, c.ours)
		addPeer(t, s, 2, c.theirs)
		fromPeer(s, start, 1, advertise(t, 3, "10.0.0.2", 100, nil))
		s.FromPeer(at(ms), 2, c.hops, Superpacket{Frame: advertise(t, 3, "10.0.0.3", 150, nil)}, new(Verdict))
		if id, _ := portOf(s, 0, vrrpMAC); id != c.want {
			t.Errorf("%+v: the address is at port %d", c, id)
		}
	}
}

// TestVRRP_agentsDoNotDecide: an address that routers share is where their election says, whatever
// an agent has been told of the site where it was.
func TestVRRP_agentsDoNotDecide(t *testing.T) {
	t.Parallel()
	for _, home := range []PortID{LocalPort, 2} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		s.Assign(start, Assignment{Set: []Assigned{{MAC: vrrpMAC, Port: home, Seq: 3}}})
		ours := advertise(t, 3, "10.0.0.2", 100, nil)
		if home == LocalPort {
			fromDevice(s, start, ours)
		} else {
			fromPeer(s, start, home, ours)
		}
		v, r := fromPeer(s, at(ms), 1, advertise(t, 3, "10.0.0.3", 150, nil))
		if r != drop.None || !v.ToDevice {
			t.Errorf("assigned to port %d: a better router's message: %v, to device %v", home, r, v.ToDevice)
		}
		if id, _ := portOf(s, 0, vrrpMAC); id != 1 {
			t.Errorf("assigned to port %d: the address is at port %d", home, id)
		}
		if got := where(s, 2*ms, vrrpMAC); got != "[1]" {
			t.Errorf("assigned to port %d: frames for the address: %s", home, got)
		}
	}
}

// TestVRRP_theLoserDoesNotTakeItBack: what our router has sent before it knew that it lost, and
// what the bridge tells late, does not bring the address back. A message that wins does, and so
// does any frame once the other router has had the time to speak again.
func TestVRRP_theLoserDoesNotTakeItBack(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	expect := func(what string, want PortID) {
		t.Helper()
		if id, _ := portOf(s, 0, vrrpMAC); id != want {
			t.Errorf("%s: the address is at port %d, want %d", what, id, want)
		}
	}
	answer := append([]byte(nil), advertise(t, 3, "10.0.0.2", 100, nil)...)
	answer[23] = 17 // no longer VRRP
	fromDevice(s, start, advertise(t, 3, "10.0.0.2", 100, nil))
	fromPeer(s, at(ms), 1, advertise(t, 3, "10.0.0.3", 150, nil))
	expect("the better router speaks", 1)
	fromDevice(s, at(2*ms), answer)
	expect("an answer of the one that lost", 1)
	fromDevice(s, at(3*ms), advertise(t, 3, "10.0.0.2", 100, nil))
	expect("a message of the one that lost", 1)
	s.AddStations(at(4*ms), []Station{{MAC: vrrpMAC}})
	expect("the bridge has heard that answer", 1)
	fromPeer(s, at(5*ms), 1, advertise(t, 3, "10.0.0.3", 0, nil))
	fromDevice(s, at(6*ms), advertise(t, 3, "10.0.0.2", 100, nil))
	expect("the better one has resigned", LocalPort)
	fromPeer(s, at(7*ms), 1, advertise(t, 3, "10.0.0.3", 150, nil))
	expect("it is back", 1)
	fromDevice(s, at(7*ms+concedeGrace), answer)
	expect("ours is heard later", LocalPort)
}
