package tunnel

import (
	"strings"
	"testing"
	"time"

	"tund/tunnel/datasession"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// A peer that is removed from the configuration at the other end learns it at once, and is back
// when it is put back.
func TestExtension_removedPeerIsTold(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.pings(b, 2*time.Second)
		remove := Change{Peers: []PeerChange{{PublicKey: a.key.Public(), Remove: true}}}
		if err := b.tun.Configure(remove); err != nil {
			t.Fatal(err)
		}
		passes(time.Millisecond)
		s := a.told()
		if s.State != StateDown || !strings.Contains(s.LastError, "removed: the peer said") {
			t.Fatalf("%s: %q", s.State, s.LastError)
		}
		a.sends(b, 10)
		passes(6 * time.Second)
		if s := a.told(); s.State != StateDown || !strings.Contains(s.LastError, "removed: the peer said") {
			t.Errorf("after an attempt: %s: %q", s.State, s.LastError)
		}
		b.knows(a, false, extensions(peer.ExtensionsAuto))
		a.pings(b, 10*time.Second)
		if s := a.told(); s.State != StateUp || s.LastError != "" {
			t.Errorf("put back: %s: %q", s.State, s.LastError)
		}
	})
}

// A peer whose device is set down says so, and is back when it is up again.
func TestExtension_peerWithItsDeviceDownIsKnown(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.pings(b, 2*time.Second)
		b.tun.SetUp(false)
		passes(time.Millisecond)
		if s := a.told(); s.State != StateDown || !strings.Contains(s.LastError, "stopped: the peer said") {
			t.Fatalf("%s: %q", s.State, s.LastError)
		}
		passes(time.Minute)
		b.tun.SetUp(true)
		a.pings(b, 10*time.Second)
		if s := a.told(); s.State != StateUp || s.LastError != "" {
			t.Errorf("up again: %s: %q", s.State, s.LastError)
		}
	})
}

// Plain WireGuard peers are sent nothing that they would not understand.
func TestExtension_removedPlainPeerIsSentNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsOff, peer.ExtensionsOff)
		a.pings(b, 2*time.Second)
		w.ears.take()
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: a.key.Public(), Remove: true}}}); err != nil {
			t.Fatal(err)
		}
		passes(time.Second)
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("sent %d %d %d %d %d", i, r, c, data, empty)
		}
	})
}

// A tunnel that stops and begins again at once is heard of before its goodbye arrives.
func TestTunnel_goodbyeThatComesLateEndsNoNewSession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(2 * time.Second)
		b.expect(1, "before")
		w.net.Route(func(d udptest.Datagram) []time.Duration {
			if isHandshake(d) {
				return []time.Duration{time.Millisecond}
			}
			return []time.Duration{80 * time.Millisecond}
		})
		a.tun.Close()
		w.startWith(a, w.clock, withCiphers(testCiphers...))
		a.knows(b, true, postQuantum(datasession.Prefer))
		a.sends(b, 10)
		passes(time.Second)
		b.expect(1, "after")
		b.sends(a, 10)
		passes(time.Second)
		a.expect(1, "after")
	})
}
