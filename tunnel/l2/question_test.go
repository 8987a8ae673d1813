package l2

import (
	"net"
	"testing"
	"time"
)

const (
	gateway  = "10.0.0.1"
	gateway6 = "fe80::1"
)

func eachFamily(t *testing.T, test func(t *testing.T, ip string)) {
	t.Parallel()
	for _, ip := range []string{gateway, gateway6} {
		t.Run(ip, func(t *testing.T) { t.Parallel(); test(t, ip) })
	}
}

// TestQuestion_aLivingOwnerKeepsItsAddress: an attacker announces the address of a gateway, once or
// repeatedly. The switch never answers with the MAC of the attacker, and again with that of the
// gateway once the dispute is over.
func TestQuestion_aLivingOwnerKeepsItsAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		for _, times := range []int{1, 20} {
			w := newTown(t)
			gw, evil := hostMAC(1), hostMAC(66)
			w.appear(gw, 2, ip)
			w.pass(35 * time.Second)
			for range times {
				w.claim(evil, 1, ip)
				w.pass(time.Second)
				if got := w.ask(ip); got != 0 {
					t.Fatalf("after %v: answered with %v, want the question flooded", w.now, got)
				}
			}
			answered := false
			for range 40 {
				w.pass(5 * time.Second)
				w.claim(gw, 2, ip)
				switch got := w.ask(ip); got {
				case gw:
					answered = true
				case 0:
				default:
					t.Fatalf("after %v: answered with %v", w.now, got)
				}
			}
			if !answered {
				t.Errorf("%d claims: no answers any more, long after the dispute", times)
			}
		}
	})
}

// TestQuestion_mallorySpokeFirst: the attacker announced the address before the gateway was known.
// Whoever got the wrong answer hears from the gateway a second later, and nobody else gets it.
func TestQuestion_mallorySpokeFirst(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		w := newTown(t)
		gw, evil := hostMAC(1), hostMAC(66)
		w.hosts[ip] = &townsman{mac: gw, port: 2}
		w.claim(evil, 1, ip)
		w.pass(time.Second)
		w.ask(ip)
		w.pass(answerWait + 100*ms)
		if w.hosts[ip].asked == 0 {
			t.Error("the question was kept from the gateway")
		}
		for range 40 {
			w.pass(time.Second)
			if got := w.ask(ip); got == evil {
				t.Fatalf("after %v: answered with mallory's MAC", w.now)
			}
			w.claim(evil, 1, ip)
		}
	})
}

// TestQuestion_aHostMadeAnewIsFound: a replacement host has another MAC, behind the same or another
// peer, and has announced nothing.
func TestQuestion_aHostMadeAnewIsFound(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		for _, port := range []PortID{2, 3} {
			w := newTown(t)
			w.appear(hostMAC(1), 2, ip)
			w.pass(time.Second)
			w.ask(ip) // the first time, so that the binding has been tested
			w.pass(10 * time.Second)
			again := w.again
			w.hosts[ip] = &townsman{mac: hostMAC(2), port: port}
			first := w.ask(ip)
			w.pass(answerWait + 100*ms)
			if first != 0 && w.again != again+1 {
				t.Errorf("answered with %v; the question went out %d times", first, w.again-again)
			}
			if got := w.ask(ip); got == hostMAC(1) {
				t.Errorf("answered with the old MAC, %v later", answerWait)
			}
		}
	})
}

// TestQuestion_theDeadAreNotAnsweredFor: the switch answers for a dead host at most once, whether
// several hosts ask repeatedly or once each.
func TestQuestion_theDeadAreNotAnsweredFor(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		for _, interval := range []time.Duration{200 * ms, time.Second, 4 * time.Second} {
			w := newTown(t)
			h := w.appear(hostMAC(1), 2, ip)
			w.pass(time.Second)
			w.ask(ip)
			w.pass(10 * time.Second)
			h.silent = true
			died, last, n := w.now, time.Duration(0), 0
			for i := range 100 {
				if w.askFrom(hostMAC(100+i), ip) != 0 {
					last, n = w.now-died, n+1
				}
				w.from(LocalPort, eth(Broadcast, hostMAC(100+i), 0x1234))
				w.pass(interval)
			}
			if last > answerWait+50*ms {
				t.Errorf("asked every %v: the last of %d answers %v after its death", interval, n, last)
			}
		}
	})
}

// TestQuestion_unansweredUnicastCounts: our host finds by unicast requests that its neighbour is
// gone, and then broadcasts.
func TestQuestion_unansweredUnicastCounts(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		w := newTown(t)
		h := w.appear(hostMAC(1), 2, gateway)
		w.pass(time.Second)
		w.ask(gateway) // from now on the binding is tested
		w.pass(5 * time.Second)
		h.silent = silent
		for range 3 {
			w.from(LocalPort, arp(t, 1, hostMAC(1), hostMAC(9), "10.0.0.9", 0, gateway))
			w.pass(time.Second)
		}
		if got := w.ask(gateway); (got == 0) != silent {
			t.Errorf("silent %v: answered with %v", silent, got)
		}
	}
}

// TestQuestion_whatClaimsABinding: each of these makes the switch flood requests immediately; the
// owner, which is gone, loses the address.
func TestQuestion_whatClaimsABinding(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ip    string
		claim func(w *town)
	}{
		"ARP":           {gateway, func(w *town) { w.claim(hostMAC(2), 3, gateway) }},
		"ARP probe":     {gateway, func(w *town) { w.from(3, arp(t, 1, Broadcast, hostMAC(2), "0.0.0.0", 0, gateway)) }},
		"IPv4 traffic":  {gateway, func(w *town) { w.traffic(hostMAC(2), 3, gateway, "10.0.0.9") }},
		"advertisement": {gateway6, func(w *town) { w.claim(hostMAC(2), 3, gateway6) }},
		"solicitation":  {gateway6, func(w *town) { w.from(3, neighborSolicit(t, hostMAC(2), gateway6, "fe80::9")) }},
		"DAD":           {gateway6, func(w *town) { w.from(3, neighborSolicit(t, hostMAC(2), "::", gateway6)) }},
		"IPv6 traffic":  {gateway6, func(w *town) { w.traffic(hostMAC(2), 3, gateway6, "fe80::9") }},
		"local traffic": {gateway, func(w *town) { w.traffic(hostMAC(2), LocalPort, gateway, "10.0.0.9") }},
	} {
		w := newTown(t)
		h := w.appear(hostMAC(1), 2, c.ip)
		w.pass(5 * time.Second)
		h.silent = true
		c.claim(w)
		if got := w.ask(c.ip); got != 0 {
			t.Errorf("%s: answered with %v", name, got)
		}
		w.pass(claimWait + 100*ms)
		key := neighborKey{0, [16]byte(net.ParseIP(c.ip).To16())}
		if b, ok := w.s.hosts.table[key]; ok && b.mac == hostMAC(1) {
			t.Errorf("%s: the silent owner still has the address", name)
		}
	}
}

// traffic sends packets from the address in two different seconds, since the first packet of a MAC
// is that of a new host.
func (w *town) traffic(mac MAC, port PortID, from, to string) {
	for range 2 {
		if net.ParseIP(from).To4() != nil {
			w.from(port, udp4(w.t, hostMAC(9), mac, from, to, 1, 2, nil))
		} else {
			w.from(port, udp6(w.t, hostMAC(9), mac, from, to, 1, 2, nil))
		}
		w.pass(1050 * ms)
	}
}

// TestQuestion_trafficConfirms: the switch answers for a host that sends no ARP, but other traffic.
func TestQuestion_trafficConfirms(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.appear(hostMAC(1), 2, gateway)
	w.ask(gateway) // from now on the binding is tested
	for range 60 {
		w.traffic(hostMAC(1), 2, gateway, "10.0.0.9")
	}
	if got := w.ask(gateway); got != hostMAC(1) {
		t.Errorf("answered with %v", got)
	}
}

// TestQuestion_aNewMACTellsEverybody: the requests of a host that returned with another MAC reach
// their targets, which learn the new MAC only from them.
func TestQuestion_aNewMACTellsEverybody(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.appear(hostMAC(1), 2, gateway)
	w.appear(hostMAC(9), LocalPort, "10.0.0.9")
	w.pass(5 * time.Second)
	w.hosts["10.0.0.9"].silent = true
	for range 5 {
		if got := w.askFrom(hostMAC(10), gateway); got != 0 {
			t.Errorf("after %v: answered with %v; nobody there learns of the new MAC", w.now, got)
		}
		w.pass(4 * time.Second)
	}
	w.pass(changeTime)
	w.claim(hostMAC(1), 2, gateway)
	w.askFrom(hostMAC(10), gateway) // from now on the binding is tested
	if got := w.askFrom(hostMAC(10), gateway); got != hostMAC(1) {
		t.Errorf("a minute later: answered with %v", got)
	}
}

// TestQuestion_brokenAdvertisementsBindNothing.
func TestQuestion_brokenAdvertisementsBindNothing(t *testing.T) {
	t.Parallel()
	good := neighborAdvert(t, hostMAC(9), hostMAC(1), gateway6, true)
	for name, change := range map[string]func(b []byte){
		"checksum":  func(b []byte) { b[headerLen+ipv6Header+2] ^= 1 },
		"hop limit": func(b []byte) { b[headerLen+7] = 254 },
	} {
		w := newTown(t)
		bad := append([]byte(nil), good...)
		change(bad)
		w.from(1, bad)
		if n := len(w.s.hosts.table); n != 0 {
			t.Errorf("%s: %d bindings", name, n)
		}
	}
	w := newTown(t)
	if w.from(1, good); len(w.s.hosts.table) != 1 {
		t.Error("the one that is not broken binds nothing either")
	}
}

// TestQuestion_isNotRepeatedForWhoMoved: a frame from us with the source MAC of the asker would
// claim that MAC for our LAN.
func TestQuestion_isNotRepeatedForWhoMoved(t *testing.T) {
	t.Parallel()
	for _, moved := range []bool{true, false} {
		w := newTown(t)
		if err := w.s.SetPort(2, PortConfig{Ethernet: true, NoBUM: true}); err != nil {
			t.Fatal(err)
		}
		w.appear(hostMAC(1), 2, gateway)
		w.pass(time.Second)
		if got := w.ask(gateway); got != hostMAC(1) {
			t.Fatalf("answered with %v", got)
		}
		if moved {
			w.pass(800 * ms)
			// Its claim is still pending when the request is due to be flooded.
			w.claim(hostMAC(9), 3, "10.0.0.9")
		}
		w.pass(answerWait + 100*ms)
		if want := b2i(!moved); w.again != want {
			t.Errorf("moved %v: the question went out %d times, want %d", moved, w.again, want)
		}
	}
}

// A peer that gets no broadcasts gets no request either: the switch answers for its hosts.
func TestQuestion_isNotSentWhereNoBroadcastsGo(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		w := newTown(t)
		if err := w.s.SetPort(2, PortConfig{Ethernet: true, NoBUM: true}); err != nil {
			t.Fatal(err)
		}
		h := w.appear(hostMAC(1), 2, ip)
		w.pass(time.Second)
		w.ask(ip)
		w.pass(10 * time.Second)
		asked := h.asked
		if got := w.ask(ip); got != h.mac || h.asked != asked {
			t.Errorf("answered with %v, and the request was sent %d times to the peer", got, h.asked-asked)
		}
	})
}

// TestQuestion_areBounded: a peer claims every address there is.
func TestQuestion_areBounded(t *testing.T) {
	t.Parallel()
	n := newNeighbors()
	for i := range 2 * maxQuestions {
		for _, mac := range []MAC{hostMAC(1), hostMAC(66)} {
			m := neighborMessage{mac: mac, ip: mapped4([]byte{10, 0, byte(i >> 8), byte(i)})}
			n.observe(start, PortID(1+mac&1), 0, mac, &m)
		}
	}
	if len(n.questions) != maxQuestions {
		t.Errorf("%d questions", len(n.questions))
	}
	find := func(MAC) whereabouts { return whereabouts{heard: true} }
	for key := range n.table {
		if a := n.ask(start, 0, hostMAC(9), &neighborMessage{target: key.ip}, find); a.ok {
			t.Fatalf("a claimed address is answered for: %+v", a)
		}
	}
	if ask, _, _ := n.dueQuestions(at(claimGrace)); len(ask) != maxQuestions {
		t.Errorf("%d owners are asked", len(ask))
	}
	n.dueQuestions(at(claimWait))
	if len(n.questions) != 0 {
		t.Errorf("%d questions left", len(n.questions))
	}
	n.flush(1)
	n.flush(3)
	if len(n.table) != 0 || n.perPort[1]+n.perPort[3] != 0 {
		t.Errorf("%d bindings left, %v", len(n.table), n.perPort)
	}
}
