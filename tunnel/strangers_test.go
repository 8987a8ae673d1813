package tunnel

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
)

// asks sends an initiation as key to e, as of now.
func (s *stranger) asks(w *world, e *end, key keys.PrivateKey) []byte {
	msg, _ := newHand(key, e.key.Public()).initiation(w, time.Now())
	s.sends(e.addr, msg)
	synctest.Wait()
	return msg
}

// Who is unknown here is named by the whole key, once it has proven that it has it.
func TestStrangers_provenKeysAreNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s, key := w.stranger("198.51.100.1:4000"), newKey(t)
		first := s.asks(w, b, key)
		passes(5 * time.Second)
		s.asks(w, b, key)
		list := b.tun.Status().Strangers
		if len(list) != 1 || list[0].PublicKey != key.Public() || list[0].Times != 2 || list[0].Endpoint.String() != "198.51.100.1:4000" {
			t.Fatalf("strangers: %+v", list)
		}
		passes(55 * time.Second)
		// A copy: it is neither news nor somewhere else.
		w.stranger("203.0.113.66:1").sends(b.addr, first)
		synctest.Wait()
		if list := b.tun.Status().Strangers; len(list) != 1 || list[0].Times != 2 || list[0].Endpoint.Addr().String() != "198.51.100.1" {
			t.Errorf("after a copy: %+v", list)
		}
		passes(6 * time.Second)
		if list := b.tun.Status().Strangers; len(list) != 0 {
			t.Errorf("after a minute of silence: %+v", list)
		}
		s.asks(w, b, key)
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		if list := b.tun.Status().Strangers; len(list) != 0 {
			t.Errorf("a peer is listed as unknown: %+v", list)
		}
		if got := s.got(); len(got) != 0 {
			t.Errorf("%d answers to somebody unknown", len(got))
		}
	})
}

// Anybody can write any public key into an initiation. Without the private key it is not believed.
func TestStrangers_keysOfOthersAreNotNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s, key := w.stranger("198.51.100.1:4000"), newKey(t)
		msg, _ := newHand(key, b.key.Public()).initiation(w, time.Now())
		msg[wire.InitiationTimestamp] ^= 1 // what would have proven it
		newHand(key, b.key.Public()).macs.Add(msg, w.clock.Now())
		s.sends(b.addr, msg)
		synctest.Wait()
		if list := b.tun.Status().Strangers; len(list) != 0 {
			t.Errorf("believed: %+v", list)
		}
	})
}

// However many keys somebody makes, memory and work are bounded, and nothing is sent.
func TestStrangers_floodOfKeys(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s := w.stranger("198.51.100.1:4000")
		for range 40 {
			s.asks(w, b, newKey(t))
			passes(100 * time.Millisecond)
		}
		if n := len(b.tun.Status().Strangers); n != 8 {
			t.Errorf("%d strangers remembered, want 8", n)
		}
		last := newKey(t)
		passes(2 * time.Second)
		s.asks(w, b, last)
		if list := b.tun.Status().Strangers; len(list) != 8 || list[7].PublicKey != last.Public() {
			t.Error("the latest is not the last of 8")
		}
		if n := len(s.got()); n != 0 {
			t.Errorf("%d answers", n)
		}
	})
}

// Whoever has a wrong key for us keeps on trying; one message alone is noise.
func TestStrangers_wrongKeyForUs(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		noise := make([]byte, wire.InitiationSize)
		_, _ = rand.Read(noise)
		noise[0], noise[1], noise[2], noise[3] = wire.TypeInitiation, 0, 0, 0
		w.ears.ignore(netip.MustParseAddrPort("198.51.100.9:9"))
		w.stranger("198.51.100.9:9").sends(b.addr, noise)
		passes(70 * time.Second)
		if k := b.tun.Status().WrongKey; k != nil {
			t.Errorf("noise: %+v", k)
		}
		wrong := newKey(t).Public()
		c := PeerChange{PublicKey: wrong, Endpoint: b.addr, AllowedIPs: []netip.Prefix{netip.PrefixFrom(b.inner, 32)}}
		if err := a.tun.Configure(Change{Peers: []PeerChange{c}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a.sends(b, 10)
		passes(11 * time.Second)
		k := b.tun.Status().WrongKey
		if k == nil || k.From != a.addr || k.Since.Before(began) {
			t.Fatalf("wrong key: %+v", k)
		}
		passes(4 * time.Minute)
		if k := b.tun.Status().WrongKey; k != nil {
			t.Errorf("long after it gave up: %+v", k)
		}
	})
}

// Both ends say that the preshared keys differ, while the session of before goes on and without
// one.
func TestStrangers_presharedKeysDifferAtBothEnds(t *testing.T) {
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprint("session before: ", before), func(t *testing.T) {
			inBubble(t, func(w *world) {
				a, b := w.pair()
				if before {
					a.sends(b, 10)
				}
				psk, err := keys.GeneratePreshared()
				if err != nil {
					t.Fatal(err)
				}
				if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: a.key.Public(), PresharedKey: &psk}}}); err != nil {
					t.Fatal(err)
				}
				want := StateDown
				if before {
					a.pings(b, 2*time.Minute)
					want = StateUp
				}
				a.pings(b, 17*time.Second)
				if s := a.told(); s.State != want || !strings.Contains(s.LastError, "preshared keys differ") {
					t.Errorf("initiator: %s, %q", s.State, s.LastError)
				}
				if s := b.told(); s.State != want || !strings.Contains(s.LastError, "preshared key differs") {
					t.Errorf("responder: %s, %q", s.State, s.LastError)
				}
			})
		})
	}
}

// A copy of an old initiation is named for a while, and makes nobody look down.
func TestStrangers_oldTimestampsChangeNoState(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s, key := w.stranger("198.51.100.1:4000"), newKey(t)
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		h := newHand(key, b.key.Public())
		older, _ := h.initiation(w, time.Now().Add(-time.Hour))
		s.asks(w, b, key)
		passes(10 * time.Minute)
		before := b.told().State
		s.sends(b.addr, older)
		synctest.Wait()
		if got := b.told(); got.State != before || !strings.Contains(got.LastError, "old timestamp") {
			t.Errorf("%s after %s, %q", got.State, before, got.LastError)
		}
		passes(30 * time.Second)
		if got := b.told().LastError; strings.Contains(got, "old timestamp") {
			t.Errorf("still %q", got)
		}
	})
}

// backClock is a clock whose wall time can be set back.
type backClock struct {
	Clock
	by *time.Duration
}

func (c backClock) Wall() time.Time { return c.Clock.Wall().Add(-*c.by) }

// A clock that goes back costs nothing while the process runs: no peer takes a timestamp twice.
func TestHandshakes_ourClockGoesBack(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.tun.Close()
		var by time.Duration
		w.startWith(a, backClock{w.clock, &by})
		a.knows(b, true)
		b.knows(a, false)
		a.pings(b, 10*time.Second)
		by = 24 * time.Hour
		a.pings(b, 5*time.Minute)
		s := a.told()
		if s.State != StateUp || s.Handshakes.Completed < 3 || s.Attempts != 0 {
			t.Errorf("%s after %d handshakes, %d in vain: %q", s.State, s.Handshakes.Completed, s.Attempts, s.LastError)
		}
	})
}

// Two hosts with one key take each other's session. Where they are called from says so; one host
// that moves, and back, does not.
func TestStrangers_twoHostsWithOneKey(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		key := newKey(t)
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		one, two := w.stranger("198.51.100.1:4000"), w.stranger("203.0.113.7:4000")
		for i, s := range []*stranger{one, one, two, two, one} {
			passes(8 * time.Second)
			s.asks(w, b, key)
			if got := b.told().LastError; strings.Contains(got, "two hosts") {
				t.Fatalf("handshake %d: %q", i, got)
			}
		}
		passes(8 * time.Second)
		two.asks(w, b, key)
		got := b.told().LastError
		if !strings.Contains(got, "two hosts") || !strings.Contains(got, "198.51.100.1:4000 and 203.0.113.7:4000") {
			t.Errorf("%q", got)
		}
		passes(time.Minute)
		if got := b.told().LastError; strings.Contains(got, "two hosts") {
			t.Errorf("after a minute of peace: %q", got)
		}
	})
}

// A peer whose clock is wrong says so in its handshakes, and so does ours when it is that.
func TestHandshakes_clocksThatDiffer(t *testing.T) {
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		inBubble(t, func(w *world) {
			a, b := w.end(), w.end()
			a.tun.Close()
			w.startWith(a, backClock{w.clock, &by})
			a.knows(b, true)
			b.knows(a, false)
			a.pings(b, 10*time.Second)
			if got := b.told().ClockAhead; (got + by).Abs() > time.Second {
				t.Errorf("the clock of the peer is ahead by %v, want %v", got, -by)
			}
			passes(4 * time.Minute)
			if got := b.told().ClockAhead; got != 0 {
				t.Errorf("%v, and there was no handshake for a long time", got)
			}
		})
	}
}

// Two hosts with one key that are both in use are found out before the second of them asks again.
func TestHandshakes_twinIsSeenAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		a, twin, b := w.end(), w.end(), w.end()
		twin.tun.Close()
		twin.key, twin.inner = a.key, a.inner
		w.startWith(twin, w.clock)
		a.knows(b, true)
		twin.knows(b, true)
		b.knows(a, false)
		a.pings(b, 2*time.Second)
		twin.pings(b, 2*time.Second)
		for range 5 {
			a.sends(b, 10)
			passes(time.Second)
		}
		if got := b.told().LastError; !strings.Contains(got, "two hosts use the key") {
			t.Errorf("%q", got)
		}
	})
}

// A peer that sends from an address that is not its own is told of, if it goes on.
func TestHandshakes_foreignSourcesAreNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.pings(b, 2*time.Second)
		a.inner = netip.MustParseAddr("10.20.0.9")
		a.sends(b, 10)
		if got := b.told().LastError; got != "" {
			t.Errorf("after one packet: %q", got)
		}
		for range 4 {
			passes(time.Second)
			a.sends(b, 10)
		}
		if got := b.told(); !strings.Contains(got.LastError, "packets from 10.20.0.9 are dropped") || got.State != StateUp {
			t.Errorf("%s: %q", got.State, got.LastError)
		}
		passes(11 * time.Second)
		if got := b.told().LastError; got != "" {
			t.Errorf("long after: %q", got)
		}
	})
}
