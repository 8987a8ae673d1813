package l2

import (
	"testing"
	"time"
)

// An address is handed from one living host to another, which announces nothing. A host that asks
// for it hears from the new one as soon as without suppression, provided that the old one has not
// just spoken, or that both are at one site; otherwise a few hundredths of a second later.
func TestQuestion_anAddressHandedOverIsFound(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		for _, c := range []struct {
			silence time.Duration // of the old owner
			port    PortID        // of the new one
			limit   time.Duration
		}{
			{10 * time.Second, 2, 0}, {10 * time.Second, 3, 0}, {bindingSure + 50*ms, 3, 0},
			{time.Second, 2, 0}, {time.Second, 3, 100 * ms},
		} {
			w := newTown(t)
			w.appear(hostMAC(1), 2, ip)
			for range 2 { // the first tests the binding, and the second goes to its peer alone
				w.pass(500 * ms)
				w.ask(ip)
			}
			w.pass(retryGap * time.Second)
			w.claim(hostMAC(1), 2, ip)
			w.pass(c.silence)
			heir := &townsman{mac: hostMAC(2), port: c.port}
			w.hosts[ip] = heir
			w.ask(ip)
			for passed := time.Duration(0); passed < c.limit; passed += 50 * ms {
				w.pass(50 * ms)
			}
			if heir.asked == 0 {
				t.Errorf("silent for %v, heir at port %d: not asked after %v", c.silence, c.port, c.limit)
			}
		}
	})
}

// The request for a host that has just spoken goes to its peer alone, but not the first one:
// whoever spoke first may not be the one who has the address. That for a host that has been silent
// for longer is flooded: silence is how an address changes hands.
func TestQuestion_goesToTheOwnersPeerAlone(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip string) {
		w := newTown(t)
		h := w.appear(hostMAC(1), 2, ip)
		w.pass(time.Second)
		if got := w.ask(ip); got != 0 {
			t.Errorf("the first request goes to %v, want it flooded", got)
		}
		w.pass(time.Second)
		asked, again := h.asked, w.again
		if got := w.ask(ip); got != h.mac || h.asked != asked+1 {
			t.Errorf("the second one goes to %v, which answers %d times", got, h.asked-asked)
		}
		w.pass(10 * time.Second)
		if w.again != again {
			t.Error("it was flooded although its owner has answered")
		}
		if got := w.ask(ip); got != 0 {
			t.Errorf("silent for ten seconds: the request goes to %v, want it flooded", got)
		}
	})
}

// How long a request waits for the answer from one peer before it goes to all follows from how long
// such answers take. On a long path it goes to all in vain once.
func TestQuestion_patienceFollowsThePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ takes, want time.Duration }{
		{ms, leastPatience}, {60 * ms, 120 * ms}, {200 * ms, 400 * ms}, {400 * ms, claimWait},
	} {
		n := newNeighbors()
		m := neighborMessage{mac: hostMAC(1), ip: mapped4([]byte{10, 0, 0, 1})}
		key := neighborKey{0, m.ip}
		find := func(MAC) whereabouts { return whereabouts{heard: true} }
		n.observe(start, 2, 0, m.mac, &m)
		early := 0
		for i := range 10 {
			now := at(time.Duration(i) * time.Second)
			n.observe(now, 2, 0, m.mac, &m)
			a := n.ask(now, 0, hostMAC(10+i), &neighborMessage{target: m.ip}, find)
			if a.direct != (i > 0) {
				t.Fatalf("request %d goes to the peer alone: %v", i, a.direct)
			}
			// Its traffic proves that it is there, not that it has got the request.
			n.witness(now.Add(ms/2), 2, 0, m.mac, m.ip)
			_, again, _ := n.dueQuestions(now.Add(c.takes - 1))
			early += len(again)
			n.observe(now.Add(c.takes), 2, 0, m.mac, &m)
			if _, again, _ = n.dueQuestions(now.Add(claimWait + ms)); len(again) > 0 {
				t.Errorf("answers take %v: flooded after the answer", c.takes)
			}
		}
		if got := n.patience(2); got != c.want {
			t.Errorf("answers take %v: patience %v, want %v", c.takes, got, c.want)
		}
		if want := b2i(c.takes > firstPatience); early != want {
			t.Errorf("answers take %v: flooded %d times meanwhile, want %d", c.takes, early, want)
		}
		if _, known := n.table[key]; !known {
			t.Errorf("answers take %v: the binding is gone", c.takes)
		}
		if n.flush(2); len(n.delays) != 0 {
			t.Error("the time is remembered for a port that is down")
		}
	}
}
