package tunnel

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
	"tund/tunnel/extension"
	"tund/tunnel/peer"
)

// A peer whose packets are dropped for their source learns it from the end that drops them.
func TestExtension_refusedSourceIsNamedAtBothEnds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.pings(b, 2*time.Second)
		own := a.inner
		a.inner = netip.MustParseAddr("10.20.0.9")
		a.sends(b, 10)
		passes(time.Second)
		if got := a.told().LastError; got != "" {
			t.Errorf("after one packet: %q", got)
		}
		for range 30 {
			a.sends(b, 10)
			passes(time.Second)
		}
		got := a.told()
		if got.State != StateUp || !strings.Contains(got.LastError, "drops our packets from 10.20.0.9") {
			t.Errorf("%s: %q", got.State, got.LastError)
		}
		a.inner = own
		a.pings(b, 2*time.Second)
		passes(15 * time.Second)
		if got := a.told().LastError; got != "" {
			t.Errorf("long after: %q", got)
		}
	})
}

// Nobody is told who has not asked for it, and nobody often.
func TestExtension_refusalsAreFew(t *testing.T) {
	for mode, most := range map[peer.ExtensionMode]uint64{peer.ExtensionsOff: 0, peer.ExtensionsAuto: 7} {
		inBubble(t, func(w *world) {
			a, b := w.tundPair(mode, peer.ExtensionsAuto)
			a.sends(b, 10)
			passes(10 * time.Second)
			a.inner = netip.MustParseAddr("10.20.0.9")
			before := b.tun.Status().Peers[0].TxPackets
			for range 300 {
				a.sends(b, 10)
				passes(100 * time.Millisecond)
			}
			passes(30 * time.Second)
			// Keepalives answer what was sent: one in 10 s, and one at the end. A tund peer asks
			// every 4 s whether what it sends arrives.
			most += 4
			if mode != peer.ExtensionsOff {
				most += 30/4 + 1
			}
			if n := b.tun.Status().Peers[0].TxPackets - before; n > most {
				t.Errorf("extensions %d: %d datagrams, want at most %d", mode, n, most)
			}
		})
	}
}

// What a peer says that this host cannot read changes nothing.
func TestExtension_refusalOfALaterVersion(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.pings(b, 2*time.Second)
		kp := a.peerOf(b).Current()
		for body, want := range map[string]drop.Reason{
			string(extension.Refusal{Reason: 9, Addr: a.inner}.Append(nil)): drop.None,
			"\x01\x00\x00": drop.None, // dropped by the goroutine that reads it
		} {
			message := extension.AppendMessage(nil, extension.TypeRefusal, []byte(body))
			if got := a.tun.env.Control(kp, message, a.clock.Now()); got != want {
				t.Errorf("%q: %v", body, got)
			}
		}
		passes(time.Second)
		if got := a.told().LastError; got != "" {
			t.Errorf("%q", got)
		}
		if n := a.dropped(drop.BadInnerPacket); n != 1 {
			t.Errorf("%d messages dropped, want the short one", n)
		}
	})
}
