package l2

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// link is two switches that are peers of each other, "here" and "there", with the LANs behind them.
type link struct {
	t     *testing.T
	now   boottime.Time
	here  *Switch
	there *Switch
	mute  bool // messages to here are lost
}

// newLink joins two switches, each with one peer, port 1, configured as given.
func newLink(t *testing.T, here, there PortConfig) *link {
	t.Helper()
	l := &link{t: t, now: start}
	var err error
	if l.here, err = New(Config{Name: "tap0"}, newRandom(1)); err != nil {
		t.Fatal(err)
	}
	if l.there, err = New(Config{Name: "tap1"}, newRandom(2)); err != nil {
		t.Fatal(err)
	}
	here.Name, there.Name = "there", "here"
	l.set(l.here, here)
	l.set(l.there, there)
	l.here.SetPortUp(1, true, l.now)
	l.there.SetPortUp(1, true, l.now)
	l.run(3, nil)
	return l
}

func (l *link) set(s *Switch, c PortConfig) {
	l.t.Helper()
	if err := s.SetPort(1, c); err != nil {
		l.t.Fatal(err)
	}
}

// run lets seconds pass, in each of which the hosts do something.
func (l *link) run(seconds int, hosts func()) {
	for range seconds * 4 {
		l.now = l.now.Add(TickInterval)
		if second := l.now.Sub(start) / TickInterval; second%4 == 0 && hosts != nil {
			hosts()
		}
		for range 2 {
			l.pass(l.here, l.there)
			l.pass(l.there, l.here)
		}
	}
}

// pass delivers what one switch has for the other.
func (l *link) pass(from, to *Switch) {
	for _, m := range from.Tick(l.now).ToPeers {
		if to != l.here || !l.mute {
			to.Control(l.now, 1, m.Payload)
		}
	}
}

// send passes a frame from the LAN of one switch through the tunnel to the other.
func (l *link) send(from, to *Switch, frame []byte) drop.Reason {
	v, _ := fromDevice(from, l.now, frame)
	if len(v.Out) == 0 {
		return drop.NoPeer
	}
	b := append(make([]byte, 8), frame...)
	_, r := fromPeer(to, l.now, 1, b[v.Out[0].Rewrite.Apply(b, 8):])
	return r
}

// causes returns the kinds of the warnings of a switch.
func causes(s *Switch) (kinds []string) {
	for _, c := range s.Conditions() {
		if !c.Note {
			kinds = append(kinds, string(c.Kind))
		}
	}
	return kinds
}

// A fault of the configuration is named at both ends within 15 s, with the key to change, and is
// gone at both within 15 s of its correction.
func TestCondition_aFaultIsNamedAtBothEnds(t *testing.T) {
	t.Parallel()
	on := PortConfig{Ethernet: true}
	with := func(change func(*PortConfig)) PortConfig {
		c := on
		change(&c)
		return c
	}
	host := hostMAC(1)
	for name, c := range map[string]struct {
		here, there PortConfig // there is what is wrong
		frame       func(l *link) []byte
		cause, key  string
		mac         bool // both ends name the MAC
	}{
		"VLAN on one side only": {
			here:  with(func(c *PortConfig) { c.VLANs = []uint16{10, 20} }),
			there: with(func(c *PortConfig) { c.VLANs = []uint16{10} }),
			frame: func(*link) []byte { return eth(Broadcast, host, typeIPv4, 20) },
			cause: "vlans", key: "vlans", mac: true,
		},
		"pvid missing": {
			here:  with(func(c *PortConfig) { c.VLANs, c.PVID = []uint16{20}, 10 }),
			there: with(func(c *PortConfig) { c.VLANs = []uint16{20} }),
			frame: func(*link) []byte { return eth(Broadcast, host, typeIPv4, 10) },
			cause: "vlans", key: "pvid", mac: true,
		},
		"ethernet missing": {here: on, there: PortConfig{}, cause: "ethernet", key: "ethernet = true"},
		"DHCP trust missing": {
			here: on, there: on, mac: true, cause: "guard-dhcp", key: `trust = ["dhcp"]`,
			frame: func(l *link) []byte {
				return udp4(l.t, Broadcast, host, "10.0.0.1", "255.255.255.255", 67, 68, make([]byte, 240))
			},
		},
		"RA trust missing": {
			here: on, there: on, mac: true, cause: "guard-ra", key: `trust = ["ra"]`,
			frame: func(l *link) []byte {
				return icmp6(l.t, 0x333300000001, host, "fe80::1", "ff02::1", icmp6RouterAdvert, make([]byte, 12))
			},
		},
		"MAC limit": {
			here: on, there: with(func(c *PortConfig) { c.MaxMACs = 1 }), cause: "mac-limit", key: "max_macs", mac: true,
			frame: func(l *link) []byte {
				return eth(Broadcast, hostMAC(int(l.now/boottime.Time(time.Second))%3+1), typeIPv4)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink(t, c.here, c.there)
			traffic := func() {
				if c.frame != nil {
					l.send(l.here, l.there, c.frame(l))
				}
			}
			l.run(6, traffic)
			for _, s := range []*Switch{l.here, l.there} {
				found := s.Conditions()
				if len(found) != 1 || !strings.Contains(string(found[0].Kind), c.cause) || !strings.Contains(found[0].Remedy, c.key) {
					t.Errorf("%s says %+v, want %s and the key %s", s.cfg.Name, found, c.cause, c.key)
				} else if c.mac && (found[0].MAC == 0 || !strings.Contains(found[0].Text, found[0].MAC.String())) {
					t.Errorf("%s names no MAC: %+v", s.cfg.Name, found)
				}
			}
			mended := c.here
			mended.Name, mended.TrustDHCP, mended.TrustRA = "here", true, true
			l.set(l.there, mended)
			l.run(5, traffic)
			for _, s := range []*Switch{l.here, l.there} {
				if got := s.Conditions(); len(got) != 0 {
					t.Errorf("mended, and %s still says %+v", s.cfg.Name, got)
				}
			}
		})
	}
}

// A storm on one LAN is named at both ends, and is over at both soon after its end.
func TestCondition_storm(t *testing.T) {
	t.Parallel()
	on := PortConfig{Ethernet: true}
	l := newLink(t, on, on)
	l.run(5, func() {
		for range 3000 {
			l.send(l.here, l.there, eth(Broadcast, hostMAC(1), typeIPv4))
		}
	})
	for _, s := range []*Switch{l.here, l.there} {
		found := s.Conditions()
		if len(found) == 0 || found[0].Kind != CondBroadcast || found[0].MAC != hostMAC(1) || !strings.Contains(found[0].Remedy, "broadcast_limit") {
			t.Errorf("%s says %+v", s.cfg.Name, found)
		}
	}
	l.run(13, nil)
	if a, b := causes(l.here), causes(l.there); len(a)+len(b) != 0 {
		t.Errorf("13 s after the storm: %v and %v", a, b)
	}
}

// The MTUs differ, from the start or since one end was changed.
func TestCondition_MTU(t *testing.T) {
	t.Parallel()
	on := PortConfig{Ethernet: true}
	l := newLink(t, on, on)
	if a, b := causes(l.here), causes(l.there); len(a)+len(b) != 0 {
		t.Fatalf("a healthy pair: %v and %v", a, b)
	}
	l.there.SetMTU(1280)
	l.run(2, func() {
		l.send(l.here, l.there, append(eth(hostMAC(2), hostMAC(1), typeIPv4), make([]byte, 1400)...))
		l.send(l.there, l.here, eth(hostMAC(1), hostMAC(2), typeIPv4))
	})
	for _, s := range []*Switch{l.here, l.there} {
		if got := s.Conditions(); len(got) != 1 || got[0].Kind != CondMTU || !strings.Contains(got[0].Remedy, "mtu in [tap]") {
			t.Errorf("%s says %+v", s.cfg.Name, got)
		}
	}
	if got := l.here.Conditions(); len(got) != 1 || got[0].MAC != hostMAC(1) {
		t.Errorf("the host that sends longer frames is not named: %+v", got)
	}
	l.there.SetMTU(1500)
	l.run(2, nil)
	if a, b := causes(l.here), causes(l.there); len(a)+len(b) != 0 {
		t.Errorf("mended: %v and %v", a, b)
	}
}

// A condition keeps its beginning as long as it lasts, and is reported once.
func TestCondition_hasAnAge(t *testing.T) {
	t.Parallel()
	on := PortConfig{Ethernet: true}
	l := newLink(t, on, on)
	began, reports := l.now, 0
	for range 60 {
		l.now = l.now.Add(time.Second)
		l.send(l.here, l.there, udp4(t, Broadcast, hostMAC(1), "10.0.0.1", "255.255.255.255", 67, 68, make([]byte, 240)))
		for _, e := range l.there.Tick(l.now).Events {
			if e.Kind == EventCondition && strings.Contains(e.String(), "trust") {
				reports++
			}
		}
	}
	got := l.there.Conditions()
	if len(got) != 1 || got[0].Since.Sub(began) > 2*time.Second || reports != 1 {
		t.Errorf("%+v, reported %d times; want one, since %v, reported once", got, reports, began)
	}
}

// What a peer says it refuses is shown as what that peer says. It is bounded, ends without the peer
// when nothing more is heard, and cannot be said about others.
func TestCondition_whatPeersSay(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "liar"})
	addPeer(t, s, 2, PortConfig{Name: "honest"})
	var body []byte
	for i := range 100 {
		body = append(body, byte(i%20), byte(i%3), 0, 0, 2, 0, 0, 0, 0, byte(i))
	}
	s.SetMTU(9000)
	s.Control(at(time.Second), 1, append(appendControl(nil, controlRefused, len(body)), body...))
	s.Tick(at(time.Second))
	got := s.Conditions()
	if len(got) == 0 || len(got) > 2*int(refusalKinds) {
		t.Errorf("%d conditions", len(got))
	}
	for _, c := range got {
		if c.Port != 1 || !strings.HasPrefix(c.Text, "liar ") {
			t.Errorf("about another: %+v", c)
		}
	}
	if v, r := fromPeer(s, at(time.Second), 1, eth(Broadcast, hostMAC(1), typeIPv4)); r != drop.None || !v.ToDevice {
		t.Errorf("it changes what is forwarded: %v", r)
	}
	s.Tick(at(time.Second + refusedValid + watchInterval))
	if got := s.Conditions(); len(got) != 0 {
		t.Errorf("nothing more was heard, and there is %+v", got)
	}
	// One that says the same a hundred times a second is heard at the rate of control messages.
	taken := 0
	for i := range 1000 {
		if s.AdmitControl(at(time.Minute+time.Duration(i)*time.Millisecond), 1) == drop.None {
			taken++
		}
	}
	if taken > 2*controlLimit {
		t.Errorf("%d messages in a second", taken)
	}
}

// Messages are few: one when something is refused, then one every five seconds, one at the end.
func TestRefused_isToldSeldom(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	var told []time.Duration
	last := -1
	for i := range 400 {
		d := time.Duration(i) * TickInterval
		if i >= 20 && i < 100 {
			fromPeer(s, at(d), 1, eth(Broadcast, hostMAC(i%7+1), typeIPv4, 30))
		}
		for _, m := range s.Tick(at(d)).ToPeers {
			if kind, body, ok := parseControl(m.Payload); ok && kind == controlRefused {
				told = append(told, d)
				last = len(body)
			}
		}
	}
	if n := len(told); n < 10 || n > 20 || last != 0 {
		t.Errorf("told at %v, the last with %d bytes; want every 5 s for 80 s, and then an empty one", told, last)
	}
}

// A freeze is a state at both ends, until the entry is flushed, and names how to end it.
func TestCondition_frozen(t *testing.T) {
	t.Parallel()
	on := PortConfig{Ethernet: true}
	l := newLink(t, on, on)
	l.run(30, func() {
		fromDevice(l.there, l.now, eth(Broadcast, hostMAC(1), typeIPv4))
		l.run0(3, func() { l.send(l.here, l.there, eth(Broadcast, hostMAC(1), typeIPv4)) })
	})
	for _, s := range []*Switch{l.here, l.there} {
		got := s.Conditions()
		if !slices.ContainsFunc(got, func(c Condition) bool {
			return c.Kind == CondFrozen && c.MAC == hostMAC(1) && strings.Contains(c.Remedy, fmt.Sprint("fdb flush --mac ", hostMAC(1)))
		}) {
			t.Errorf("%s says %+v", s.cfg.Name, got)
		}
	}
	mac := hostMAC(1)
	l.there.Flush(Filter{MAC: &mac})
	l.run(13, nil)
	if a, b := causes(l.here), causes(l.there); len(a)+len(b) != 0 {
		t.Errorf("flushed: %v and %v", a, b)
	}
}

// run0 lets seconds pass for the hosts while the switches do what is due.
func (l *link) run0(seconds int, hosts func()) {
	for range seconds * 4 {
		l.now = l.now.Add(TickInterval)
		hosts()
		l.here.Tick(l.now)
		l.there.Tick(l.now)
	}
}

// Two instances with one key: the refused change of the node name is shown.
func TestCondition_rename(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	s.SetMTU(9000)
	for i := range 20 {
		sayNode(t, s, time.Duration(i)*100*time.Millisecond, 1, uint64(100+i))
	}
	s.Tick(at(2 * time.Second))
	if got := causes(s); !slices.Contains(got, string(CondRename)) {
		t.Errorf("conditions: %v", got)
	}
}

// The VLANs in a hello survive the wire, whatever they are, and an older hello says nothing.
func TestHello_VLANs(t *testing.T) {
	t.Parallel()
	for _, vlans := range [][]uint16{{0}, {1}, {7, 8}, {0, 4094}, {100, 200, 300}} {
		h := Hello{Version: 1, Node: 1, NamesVLAN: true, Keyed: true, ListsVLANs: true}
		for _, v := range vlans {
			h.VLANs.add(v)
		}
		b := h.Append(nil)
		want := ControlHeaderLen + helloKeyLen + 2 + int(slices.Max(vlans))/8 + 1
		if got, ok := ParseHello(b[ControlHeaderLen:]); !ok || got != h || len(b) != want {
			t.Errorf("%v: %d bytes, want %d; %v", vlans, len(b), want, got.VLANs)
		}
	}
}
