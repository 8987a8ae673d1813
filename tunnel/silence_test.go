package tunnel

import (
	"strings"
	"testing"
	"time"
)

// A peer that is silent although it was sent data is named before a handshake has failed.
func TestStatus_silenceIsNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.sends(b, 10)
		passes(14 * time.Second) // the peer answers with a keepalive
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("answered: %s, %q", s.State, s.LastError)
		}
		rec := w.record()
		rec.hold(everything)
		a.sends(b, 10)
		passes(11 * time.Second)
		if s := a.tun.Status().Peers[0]; s.LastError != "" {
			t.Errorf("after 11 s: %q", s.LastError)
		}
		passes(2 * time.Second)
		if s := a.tun.Status().Peers[0]; s.State != StateUp || !strings.Contains(s.LastError, "no answer from "+b.addr.String()+" to what was sent for 13 s") {
			t.Errorf("after 13 s: %s, %q", s.State, s.LastError)
		}
		passes(5 * time.Second)
		if s := a.tun.Status().Peers[0]; !strings.Contains(s.LastError, "no answer from "+b.addr.String()) {
			t.Errorf("after 18 s: %s, %q", s.State, s.LastError)
		}
	})
}

// A peer that does not hear us asks for a session itself. That it speaks is no answer: it is said
// all the time that there is none.
func TestStatus_silenceIsNamedWhileThePeerAsks(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		rec := w.record()
		rec.hold(fromAddr(a.addr))
		b.sends(a, 10) // and begins a handshake when there is no answer
		for n := range 60 {
			a.sends(b, 10)
			passes(time.Second)
			s := a.tun.Status().Peers[0]
			if n > 15 && s.LastError == "" {
				t.Errorf("after %d s: %s, and nothing is said", n+1, s.State)
			}
			if n > 30 && s.State != StateDown {
				t.Errorf("after %d s: %s", n+1, s.State)
			}
		}
	})
}
