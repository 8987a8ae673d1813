package tunnel

import (
	"context"
	"encoding/binary"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/drop"
	"tund/tunnel/extension"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// echoes asks for one echo and returns what became of it.
func (e *end) echoes(other *end, size int, wait time.Duration) Echo {
	e.t.Helper()
	echo, err := e.tun.Ping(context.Background(), other.key.Public().String(), size, wait)
	if err != nil {
		e.t.Fatal(err)
	}
	return echo
}

// alive makes a change watch the peer.
func alive(every time.Duration) func(*PeerChange) {
	return func(c *PeerChange) { c.Liveness = &every }
}

func TestEcho_measuresTheRoundTripAndMakesASession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.net.Set(udptest.Conditions{Latency: 30 * time.Millisecond})
		for _, size := range []int{0, 16, 1400, 9000} {
			if e := a.echoes(b, size, 2*time.Second); e.Err != nil || e.RTT != 60*time.Millisecond {
				t.Errorf("%d bytes: %v, %v", size, e.RTT, e.Err)
			}
		}
		p := a.tun.Status().Peers[0].Path
		if p == nil || p.RTT != 60*time.Millisecond || p.Loss != 0 {
			t.Errorf("status shows %+v", p)
		}
		w.net.Filter(func(udptest.Datagram) error { return udptest.Lost })
		if e := a.echoes(b, 16, time.Second); e.Err == nil || e.Err.Error() != "no answer" {
			t.Errorf("%+v", e)
		}
		if p := a.tun.Status().Peers[0].Path; p.Loss != 0.2 {
			t.Errorf("one of five lost: %+v", p)
		}
	})
}

// Pings that were answered take no place among those that wait, and are not counted as lost when
// their time is over.
func TestEcho_oneAfterTheOther(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		for n := range 50 {
			if e := a.echoes(b, 16, 2*time.Second); e.Err != nil {
				t.Fatalf("ping %d: %v", n+1, e.Err)
			}
		}
		time.Sleep(5 * time.Second)
		if p := a.tun.Status().Peers[0].Path; p.Loss != 0 {
			t.Errorf("status shows %+v", p)
		}
	})
}

func TestEcho_saysWhyThereIsNone(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
		if e := a.echoes(b, 16, 5*time.Second); !NoEcho(e.Err) || !strings.Contains(e.Err.Error(), "no hello") {
			t.Errorf("plain WireGuard: %v", e.Err)
		}
		if e := b.echoes(a, 16, time.Second); !NoEcho(e.Err) || !strings.Contains(e.Err.Error(), `extensions = "off"`) {
			t.Errorf("off: %v", e.Err)
		}
		c := w.end()
		a.knows(c, false, extensions(peer.ExtensionsAuto))
		if e := a.echoes(c, 16, time.Second); e.Err == nil || e.Err.Error() != "no session, and its endpoint is not known" {
			t.Errorf("no endpoint: %v", e.Err)
		}
		a.knows(c, true)
		if e := a.echoes(c, 16, time.Second); e.Err == nil || e.Err.Error() != "no session" {
			t.Errorf("no answer: %v", e.Err)
		}
		if _, err := a.tun.Ping(context.Background(), "nobody", 16, time.Second); err == nil {
			t.Error("an unknown peer is pinged")
		}
	})
}

// A reply that does not match its request is dropped, and so is one that nobody asked for.
func TestEcho_lyingPeerIsNotBelieved(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		kp := a.peerOf(b).Current()
		w.net.Filter(func(udptest.Datagram) error { return udptest.Lost })
		result := make(chan Echo, 1)
		go func() { result <- a.echoes(b, 1000, 2*time.Second) }()
		synctest.Wait()
		now := uint64(a.clock.Now())
		// Number 1 was a probe of the path. One that was never sent, one with another size, and one
		// for which the other was taken.
		for _, r := range [][2]uint32{{99, 1000}, {2, 1400}, {2, 1000}} {
			reply := extension.EchoReply{EchoRequest: extension.EchoRequest{Number: r[0], Clock: now}, Size: r[1]}
			message := extension.AppendMessage(nil, extension.TypeEchoReply, reply.Append(nil))
			a.tun.env.Control(kp, message, a.clock.Now())
		}
		short := extension.AppendMessage(nil, extension.TypeEchoReply, []byte{1, 2, 3})
		a.tun.env.Control(kp, short, a.clock.Now())
		if e := <-result; e.Err == nil {
			t.Errorf("believed: %+v", e)
		}
		if n := a.dropped(drop.BadInnerPacket); n != 2 {
			t.Errorf("%d replies counted as bad, want 2: another size, and too short", n)
		}
	})
}

// A request that was recorded and is sent again dies at the replay window: nothing answers it.
func TestEcho_replayedRequestHasNoAnswer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		r := w.record()
		a.echoes(b, 16, time.Second)
		all := r.take(4)
		s := w.stranger("203.0.113.1:1")
		s.sends(b.addr, all[0].Payload)
		synctest.Wait()
		if n := len(s.got()); n != 0 || b.dropped(drop.Replay) != 1 {
			t.Errorf("%d answers, %d replays", n, b.dropped(drop.Replay))
		}
	})
}

func TestLiveness_threeUnansweredAndThePeerIsDown(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.knows(b, true, alive(time.Second)) // makes a session by itself
		passes(2500 * time.Millisecond)
		if !a.tun.Alive(b.key.Public()) {
			t.Fatalf("not alive: %+v", a.tun.Status().Peers[0])
		}
		var dead atomic.Bool
		w.net.Filter(func(udptest.Datagram) error {
			if dead.Load() {
				return udptest.Lost
			}
			return nil
		})
		dead.Store(true)
		passes(3 * time.Second)
		if !a.tun.Alive(b.key.Public()) {
			t.Error("down before three requests were unanswered")
		}
		passes(time.Second)
		s := a.tun.Status().Peers[0]
		if s.State != StateDown || !strings.HasPrefix(s.LastError, "no answer from "+b.addr.String()+" to ") ||
			!strings.Contains(s.LastError, " echo requests within 3s: peer down") {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
		if ago := a.clock.Wall().Sub(s.Since); ago < 3*time.Second || ago > 4*time.Second {
			t.Errorf("down since %v ago, want when the first was sent", ago)
		}
		dead.Store(false)
		passes(time.Second)
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("it answers again: state %s, %q", s.State, s.LastError)
		}
	})
}

// A peer whose answers are lost and that sends something is there.
func TestLiveness_anythingFromThePeerIsALifeSign(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.knows(b, true, alive(time.Second))
		passes(time.Second)
		w.net.Filter(func(d udptest.Datagram) error {
			// An echo reply, of either size.
			if n := len(d.Payload); d.From == b.addr && (n == 32+32 || n == 32+128) {
				return udptest.Lost
			}
			return nil
		})
		for range 20 {
			b.sends(a, 200)
			passes(500 * time.Millisecond)
			if !a.tun.Alive(b.key.Public()) {
				t.Fatal("down")
			}
		}
		if p := a.tun.Status().Peers[0].Path; p == nil || p.Loss < 0.8 {
			t.Errorf("loss: %+v", p)
		}
	})
}

// Rekeying is no loss: what was asked in the old session need not be answered.
func TestLiveness_lastsOverSessions(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
		a.knows(b, true, alive(time.Second))
		passes(2 * time.Second)
		for range 600 {
			passes(time.Second)
			if !a.tun.Alive(b.key.Public()) {
				t.Fatalf("down: %+v", a.tun.Status().Peers[0])
			}
		}
		if p := a.tun.Status().Peers[0].Path; p.Loss != 0 {
			t.Errorf("%+v", p)
		}
	})
}

func TestLiveness_endsWithItsConfiguration(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.knows(b, true, alive(time.Second))
		passes(5 * time.Second)
		a.knows(b, true, alive(0))
		passes(time.Minute)
		w.ears.take()
		passes(time.Hour)
		if i, r, _, data, empty := w.ears.take(); i+r+data+empty != 0 {
			t.Errorf("%d %d %d %d messages in an hour without liveness", i, r, data, empty)
		}
	})
}

func TestLiveness_plainWireGuardPeerIsJudgedAsBefore(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
		a.knows(b, true, alive(time.Second))
		passes(30 * time.Second)
		if s := a.tun.Status().Peers[0]; s.State != StateUp {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
		if n := b.dropped(drop.BadInnerPacket); n != 3 {
			t.Errorf("%d messages that it cannot deliver, want 3", n)
		}
	})
}

func TestEcho_wireIsAsDocumented(t *testing.T) {
	t.Parallel()
	message := extension.AppendMessage(nil, extension.TypeEchoRequest, extension.EchoRequest{Number: 7, Clock: 0x0102}.Append(nil))
	want := append([]byte{0x30, 3, 0, 12, 0, 0, 0, 7}, binary.BigEndian.AppendUint64(nil, 0x0102)...)
	if string(message) != string(want) {
		t.Errorf("% x", message)
	}
}

// A path with a round trip longer than the interval of liveness, as queues make it, answers all
// requests late. It works all the same.
func TestLiveness_lateAnswersAreAnswers(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.knows(b, true, alive(time.Second))
		passes(5 * time.Second)
		w.net.Set(udptest.Conditions{Latency: 800 * time.Millisecond})
		for range 60 {
			passes(time.Second)
			if !a.tun.Alive(b.key.Public()) {
				t.Fatalf("down: %+v", a.tun.Status().Peers[0])
			}
		}
	})
}
