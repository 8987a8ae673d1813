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
