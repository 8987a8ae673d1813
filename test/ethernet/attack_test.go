package ethernet

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// attack is something that a peer sends and that must be refused under a name.
type attack struct {
	name string
	drop string // counter of the victim for the peer
	send func(e *evil)
	src  l2.MAC // learned if it were believed; 0: none
}

// besieged is a site under attack: hosts a (its own) and b (of paris, an honest peer), and mallory,
// a peer that lies.
type besieged struct {
	berlin, paris *site
	a, b          *host
	mallory       *evil
}

// besiege makes one. lines are of Berlin's section for mallory.
func besiege(t *testing.T, tap []string, lines ...string) *besieged {
	t.Helper()
	w := newWAN(t)
	s := &besieged{berlin: w.site("berlin"), paris: w.site("paris")}
	s.berlin.tap = tap
	mesh(s.berlin, s.paris)
	s.mallory = w.evil("mallory", s.berlin, lines...)
	s.a, s.b = s.berlin.host(1), s.paris.host(2)
	start0(t, s.berlin, s.paris)
	s.mallory.connect(s.berlin)
	s.berlin.linked(startLimit)
	s.a.pings(s.b.v4, 2)
	return s
}

// start0 starts sites without waiting for their peers.
func start0(t testing.TB, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		s.start()
	}
}

func TestAttack_refusedCountedAndNothingLearned(t *testing.T) {
	beside(t)
	s := besiege(t, nil)
	lan := s.a.raw()
	for _, attack := range attacks(t, s) {
		before := s.berlin.Peer("mallory").Drops[attack.drop] + s.berlin.Status().Drops[attack.drop]
		attack.send(s.mallory)
		testnet.Await(t, attack.name+": counted as "+attack.drop, 3*time.Second, func() bool {
			return s.berlin.Peer("mallory").Drops[attack.drop]+s.berlin.Status().Drops[attack.drop] > before
		})
		if attack.src == 0 {
			continue
		}
		if at := s.berlin.where(attack.src, 0); at == "mallory" {
			t.Errorf("%s: %v was learned behind %s", attack.name, attack.src, at)
		}
	}
	lan.never("attack on the LAN", 300*time.Millisecond, holds("evil"))
	if at := s.berlin.where(s.a.mac, 0); at != "tap0" {
		t.Errorf("own host is behind %q, want tap0", at)
	}
	if at := s.berlin.where(s.b.mac, 0); at != "paris" {
		t.Errorf("host of paris is behind %q, want paris", at)
	}
	s.a.pings(s.b.v4, 3)
	// Mallory may still carry what is honest.
	s.mallory.frame(plainFrame(l2.Broadcast, strangerMAC, "honest"))
	lan.expect("honest frame", time.Second, holds("honest"))
}

func attacks(t *testing.T, s *besieged) []attack {
	const evilSrc l2.MAC = 0x02badbad0001
	frame := func(b []byte) func(*evil) { return func(e *evil) { e.frame(b) } }
	payload := func(b []byte) func(*evil) { return func(e *evil) { e.payload(b) } }
	toA := func(src l2.MAC, tags ...uint16) []byte { return plainFrame(s.a.mac, src, "evil", tags...) }
	headed := func(announced int, flags byte, frame []byte) []byte {
		b := []byte{0x10, flags, 0, 0}
		binary.BigEndian.PutUint16(b[2:], uint16(announced))
		return append(b, frame...)
	}
	oversize := append(toA(evilSrc), make([]byte, 1500)...)
	return []attack{
		{"MAC of a local host", "source-foreign", frame(toA(s.a.mac)), 0},
		{"MAC of a local host, broadcast", "source-foreign", frame(plainFrame(l2.Broadcast, s.a.mac, "evil")), 0},
		{"MAC of another peer's host", "source-foreign", frame(toA(s.b.mac)), 0},
		{"MAC of a local host in an announcement", "source-foreign", func(e *evil) { e.announce(s.a.mac) }, 0},
		{"MAC of another peer's host in an announcement", "source-foreign", func(e *evil) { e.announce(s.b.mac) }, 0},
		{"multicast source", "source-multicast", frame(toA(0x010000000001)), 0x010000000001},
		{"source of zeros", "source-multicast", frame(toA(0)), 0},
		{"foreign VLAN", "vlan-refused", frame(toA(evilSrc, 0x8100, 10)), evilSrc},
		{"VLAN hop by a double tag", "double-tag", frame(toA(evilSrc, 0x8100, 1, 0x8100, 10)), evilSrc},
		{"double tag of a provider", "double-tag", frame(toA(evilSrc, 0x88a8, 1, 0x8100, 10)), evilSrc},
		{"priority tag before another", "double-tag", frame(toA(evilSrc, 0x8100, 0, 0x8100, 10)), evilSrc},
		{"rogue DHCP offer", "guard-dhcp", frame(dhcp(t, evilSrc, layers.DHCPOpReply, layers.DHCPMsgTypeOffer, s.a.mac)), evilSrc},
		{"rogue DHCP offer to one host", "guard-dhcp",
			frame(udp4(t, s.a.mac, evilSrc, "10.7.0.66", s.a.v4, 67, 68, []byte("evil"))), evilSrc},
		{"rogue router advertisement", "guard-ra", frame(routerAdvertisement(t, evilSrc, "2001:db8:bad::")), evilSrc},
		{"BPDU", "bpdu", frame(bpdu(evilSrc)), evilSrc},
		{"link-local frame (LLDP)", "link-local-frame", frame(padded(header(0x0180c200000e, evilSrc, 0x88cc))), evilSrc},
		{"pause frame", "link-local-frame", frame(padded(header(0x0180c2000001, evilSrc, 0x8808))), evilSrc},
		{"oversize frame", "oversize-frame", frame(oversize), evilSrc},
		{"frame shorter than its header", "short-frame", payload(headed(13, 0, toA(evilSrc)[:13])), 0},
		{"empty frame", "short-frame", payload(headed(0, 0, nil)), 0},
		{"tag cut short", "short-frame", payload(headed(16, 0, toA(evilSrc, 0x8100, 10)[:16])), evilSrc},
		{"frame longer than its payload", "bad-inner-packet", payload(headed(1500, 0, toA(evilSrc))), evilSrc},
		{"reserved bits", "bad-inner-packet", payload(headed(60, 0x80, toA(evilSrc))), evilSrc},
		{"payload of no kind", "bad-inner-packet", payload([]byte{0x90, 1, 2, 3}), 0},
		{"control message longer than it is", "bad-inner-packet", payload([]byte{0x20, 1, 0xff, 0xff}), 0},
		{"hello of half its length", "bad-inner-packet", payload([]byte{0x20, 1, 0, 8, 1, 1, 5, 220, 0, 0, 0, 1}), 0},
		{"IP without [tun]", "no-device", payload([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}), 0},
		{"too many hubs", "hop-limit", payload(append([]byte{0x19, 0, 0, 60}, toA(evilSrc)...)), evilSrc},
		{"part of a frame that is too long", "oversize-frame", func(e *evil) { part(e, 1, 2400, 1200, false, oversize[:1200]) }, 0},
		{"parts that contradict each other", "reassembly-bad", func(e *evil) {
			part(e, 2, 1000, 500, false, make([]byte, 500))
			part(e, 2, 1100, 500, true, make([]byte, 600))
		}, 0},
		{"part that never meets its other half", "reassembly-lost", func(e *evil) {
			part(e, 3, 1000, 500, false, make([]byte, 500))
			pause(time.Second)
			for range 2 { // the lane looks for what is late when it has something to do
				e.payload(nil)
				pause(600 * time.Millisecond)
			}
		}, 0},
	}
}

// part sends one part of a frame that was cut.
func part(e *evil, id uint16, length, cut int, second bool, body []byte) {
	b := make([]byte, l2.FragmentHeaderLen)
	l2.PutFragmentHeader(b, 0, length, id, cut, second)
	e.payload(append(b, body...))
}

// The same from the LAN: what a site must not send is refused where it enters the tunnel, and what
// only the receiver can judge is refused there.
func TestAttack_fromAHostOfTheLAN(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.pings(b.v4, 2)
	port, far := a.raw(), b.raw()
	for _, attack := range []struct {
		name, drop string
		at         *site // who refuses: the site itself (its TAP), or the other (its peer)
		frame      []byte
	}{
		{"MAC of a host at the other site", "source-foreign", paris, plainFrame(l2.Broadcast, b.mac, "evil")},
		{"VLAN that the peer does not carry", "vlan-refused", berlin, plainFrame(l2.Broadcast, strangerMAC, "evil", 0x8100, 10)},
		{"double tag", "double-tag", berlin, plainFrame(l2.Broadcast, strangerMAC, "evil", 0x8100, 1, 0x8100, 10)},
		{"DHCP offer", "guard-dhcp", paris, dhcp(t, strangerMAC, layers.DHCPOpReply, layers.DHCPMsgTypeOffer, b.mac)},
		{"router advertisement", "guard-ra", paris, routerAdvertisement(t, strangerMAC, "2001:db8:bad::")},
		{"CDP", "link-local-frame", berlin, padded(header(0x01000ccccccc, strangerMAC, 0x2000))},
		{"slow protocol at an ordinary address", "link-local-frame", berlin, padded(header(l2.Broadcast, strangerMAC, 0x8809))},
	} {
		count := func() uint64 {
			if attack.at == berlin {
				return berlin.tapDevice().Drops[attack.drop]
			}
			return paris.Peer("berlin").Drops[attack.drop]
		}
		before := count()
		port.send(attack.frame)
		testnet.Await(t, fmt.Sprintf("%s: counted by %s as %s", attack.name, attack.at.Name, attack.drop), 3*time.Second,
			func() bool { return count() > before })
	}
	far.never("attack on the other LAN", 300*time.Millisecond, holds("evil"))
	if at := paris.where(b.mac, 0); at != "tap0" {
		t.Errorf("paris knows its own host behind %q", at)
	}
	// Berlin believes its own LAN, so there the liar had the address; the owner gets it back when
	// it speaks.
	b.reaches(a.v4, 5*time.Second)
}

// The same besieged site, with rules for mallory that change from one part to the next.
func TestAttack_byTheRulesForThePeer(t *testing.T) {
	beside(t)
	s := besiege(t, nil)
	mallory := s.berlin.peers[1]
	for _, part := range []struct {
		name string
		tap  []string
		peer []string
		run  func(t *testing.T, s *besieged)
	}{
		{"claims of quiet hosts fail", nil, nil, claimsFail},
		{"pinned addresses", nil, []string{`macs = ["02:00:00:00:00:01"]`}, pinnedAddresses},
		{"more addresses than allowed", nil, []string{"max_macs = 2"}, moreThanAllowed},
		{"spanning tree forwarded", []string{`bpdu = "forward"`}, nil, spanningTreeForwarded},
		{"spanning tree guarded", []string{`bpdu = "guard"`}, nil, spanningTreeGuarded},
	} {
		t.Run(part.name, func(t *testing.T) {
			s.berlin.tap, mallory.lines = part.tap, part.peer
			s.berlin.reloads()
			part.run(t, s)
		})
	}
}

// claimsFail: the owner of an address that somebody else claims keeps it, also when it is quiet. It
// is asked, and answers.
func claimsFail(t *testing.T, s *besieged) {
	for range 20 {
		s.mallory.frame(gratuitous(t, s.a.mac, s.a.v4))
		s.mallory.frame(plainFrame(l2.Broadcast, s.b.mac, "evil"))
		pause(100 * time.Millisecond)
	}
	for m, want := range map[l2.MAC]string{s.a.mac: "tap0", s.b.mac: "paris"} {
		if at := s.berlin.where(m, 0); at != want {
			t.Errorf("%v is behind %q, want %s", m, at, want)
		}
	}
	s.berlin.Says(2*time.Second, "mallory used the MAC", "alive", "refused")
	s.b.pings(s.a.v4, 3)
}

// pinnedAddresses: the peer may use no other, and nobody else may use them.
func pinnedAddresses(t *testing.T, s *besieged) {
	lan := s.a.raw()
	foreign := func(peer string) uint64 { return s.berlin.Peer(peer).Drops["source-foreign"] }
	s.mallory.frame(plainFrame(l2.Broadcast, 0x020000000001, "pinned"))
	lan.expect("frame of the pinned address", time.Second, holds("pinned"))
	before := foreign("mallory")
	s.mallory.frame(plainFrame(l2.Broadcast, strangerMAC, "evil"))
	testnet.Await(t, "refusal of another address", 3*time.Second, func() bool { return foreign("mallory") == before+1 })
	before = foreign("paris")
	s.b.raw().send(plainFrame(l2.Broadcast, 0x020000000001, "evil")) // a host of paris
	testnet.Await(t, "refusal of the pinned address from elsewhere", 3*time.Second, func() bool { return foreign("paris") == before+1 })
	lan.never("foreign use of addresses", 200*time.Millisecond, holds("evil"))
}

func moreThanAllowed(t *testing.T, s *besieged) {
	lan := s.a.raw()
	for i := range 5 {
		s.mallory.frame(plainFrame(l2.Broadcast, l2.MAC(0x020000000010+i), fmt.Sprintf("frame %d", i)))
	}
	testnet.Await(t, "refusals", 3*time.Second, func() bool { return s.berlin.Peer("mallory").Drops["mac-limit"] >= 3 })
	lan.never("last address", 200*time.Millisecond, holds("frame 4"))
	if got := s.berlin.Peer("mallory").MACs; got != 2 {
		t.Errorf("%d addresses learned behind mallory, want 2", got)
	}
}

func spanningTreeForwarded(t *testing.T, s *besieged) {
	// A bridge keeps spanning tree to itself: look where it comes in.
	watch := openRaw(t, s.berlin.NS, "tap0")
	s.mallory.frame(bpdu(strangerMAC))
	watch.expect("BPDU", time.Second, func(f []byte) bool { return l2.MACFromBytes(f) == 0x0180c2000000 })
}

// spanningTreeGuarded: the peer that speaks spanning tree is blocked, and the others are not.
func spanningTreeGuarded(t *testing.T, s *besieged) {
	lan := s.a.raw()
	s.mallory.frame(bpdu(strangerMAC))
	s.berlin.Says(3*time.Second, "mallory sent a spanning tree frame")
	s.mallory.frame(plainFrame(l2.Broadcast, strangerMAC, "evil"))
	lan.never("frame of a guarded port", 300*time.Millisecond, holds("evil"))
	s.a.pings(s.b.v4, 3)
}
