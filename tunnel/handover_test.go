package tunnel

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
)

// suspend ends the tunnel of e and returns its sessions.
func (e *end) suspend() []byte {
	e.t.Helper()
	sessions, err := e.tun.Suspend(time.Second)
	if err != nil {
		e.t.Fatal(err)
	}
	return sessions
}

// continued gives e a new tunnel, as another process would make it, with peer b and the sessions of
// the one before.
func (w *world) continued(e, b *end, sessions []byte) (peers int, err error) {
	w.t.Helper()
	w.assemble(e, w.clock)
	e.knows(b, false)
	peers, err = e.tun.Continue(sessions)
	e.tun.Start()
	synctest.Wait()
	return peers, err
}

func TestSuspend_anotherProcessGoesOnWithoutAHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		for range 3 { // restarted again and again
			before := a.tun.Status().Peers[0]
			sessions := a.suspend()
			time.Sleep(300 * time.Millisecond)
			if n, err := w.continued(a, b, bytes.Clone(sessions)); n != 1 || err != nil {
				t.Fatalf("%d peers continued, %v", n, err)
			}
			for range 3 {
				a.sends(b, 100)
				b.expect(1, "from the process that continues")
				b.sends(a, 100)
				a.expect(1, "to the process that continues")
			}
			s := a.tun.Status().Peers[0]
			if s.State != StateUp || !s.LastHandshake.Equal(before.LastHandshake) || !s.Since.Equal(before.Since) ||
				s.RxPackets != before.RxPackets+3 || s.Endpoint != b.addr {
				t.Errorf("status was %+v, is %+v", before, s)
			}
		}
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes", i)
		}
		// The session is renewed and ends as any other.
		for range 400 {
			a.sends(b, 100)
			b.sends(a, 100)
			time.Sleep(time.Second)
		}
		a.expect(400, "over three renewals")
		b.expect(400, "over three renewals")
		if i, _, _, _, _ := w.ears.take(); i < 2 {
			t.Errorf("%d handshakes in 400 s: the session was not renewed", i)
		}
	})
}

// The eavesdropper of the world fails the test when a counter is used twice.
func TestSuspend_skipsCountersAndKeepsTheReplayWindow(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		for range 10 {
			a.sends(b, 100)
			b.sends(a, 100)
		}
		sent := a.tun.Status().Peers[0].Session.Sent
		highest := a.tun.Status().Peers[0].Session.Highest
		if _, err := w.continued(a, b, a.suspend()); err != nil {
			t.Fatal(err)
		}
		s := a.tun.Status().Peers[0].Session
		if s.Sent <= sent || s.Sent > sent+8000 {
			t.Errorf("sent %d, was %d: want more, by less than the peer's window", s.Sent, sent)
		}
		if s.Highest != highest {
			t.Errorf("highest %d, was %d", s.Highest, highest)
		}
	})
}

func TestSuspend_packetsThatWaitInTheDeviceAreSent(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		for range 200 {
			if !a.queue.Inject(packet(a.inner, b.inner, 1000)) {
				t.Fatal("device queue full")
			}
		}
		synctest.Wait()
		a.suspend()
		synctest.Wait()
		b.expect(200, "sent before the end")
	})
}

func TestContinue_refusesWhatIsNotItsOwn(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		sessions := a.suspend()
		key := a.key
		var err error
		if a.key, err = keys.GeneratePrivate(); err != nil {
			t.Fatal(err)
		}
		if n, err := w.continued(a, b, sessions); n != 0 || err != nil {
			t.Errorf("with another key: %d, %v", n, err)
		}
		a.tun.Close()
		a.key = key
		if n, err := w.continued(a, b, sessions[:len(sessions)/2]); n != 0 || err == nil {
			t.Errorf("half of them: %d, %v", n, err)
		}
		a.tun.Close()
		time.Sleep(181 * time.Second)
		if n, err := w.continued(a, b, sessions); n != 0 || err != nil {
			t.Errorf("three minutes later: %d, %v", n, err)
		}
		a.tun.Close()
		w.assemble(a, w.clock)
		if n, err := a.tun.Continue(sessions); n != 0 || err != nil {
			t.Errorf("without the peer: %d, %v", n, err)
		}
		a.tun.Close()
		if _, err := a.tun.Suspend(time.Second); err == nil {
			t.Error("a closed tunnel can be suspended")
		}
	})
}

func TestSuspend_printsNothingSecret(t *testing.T) {
	inBubble(t, func(w *world) {
		a, _ := w.connected()
		p := a.tun.peers.All()[0]
		a.tun.Close()
		saved := p.Save()
		key := fmt.Sprintf("%v", saved.Sessions[0].Session.Send[:8])
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(verb, saved) + fmt.Sprintf(verb, &saved.Sessions[0]); strings.Contains(text, strings.Trim(key, "[]")) ||
				!strings.Contains(text, "(hidden)") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	})
}
