package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// chatter sends ten packets a second from a to b for a while.
func chatter(a, b *end, seconds int) {
	for range 10 * seconds {
		a.sends(b, 10)
		time.Sleep(100 * time.Millisecond)
	}
	synctest.Wait()
}

// losingHandshakes is a filter that loses the first n handshake messages.
func losingHandshakes(lost *int, n int) func(udptest.Datagram) error {
	return func(d udptest.Datagram) error {
		if k, _ := wire.Kind(d.Payload); k != wire.TypeTransport && *lost < n {
			*lost++
			return udptest.Lost
		}
		return nil
	}
}

// Traffic that goes on asks for a handshake with every packet, and so renews the attempts; the next
// endpoint is tried all the same.
func TestTunnel_nextEndpointIsTriedWhileTrafficGoesOn(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		dead := netip.MustParseAddrPort("198.51.100.1:51820")
		a.knows(b, false, func(c *PeerChange) { c.Endpoints = []netip.AddrPort{dead, b.addr} })
		b.knows(a, false)
		chatter(a, b, 7)
		if b.got() == 0 {
			t.Errorf("nothing arrived in 7 s; endpoint %v", a.tun.Status().Peers[0].Endpoint)
		}
	})
}

// An initiation that is lost says nothing about an endpoint from which data comes.
func TestTunnel_staysAtAnEndpointThatSpeaks(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, false, func(c *PeerChange) {
			c.Endpoints = []netip.AddrPort{b.addr, netip.MustParseAddrPort("198.51.100.1:51820")}
		})
		b.knows(a, false)
		a.sends(b, 10)
		lost := 0
		w.net.Filter(losingHandshakes(&lost, 1))
		for range 130 * 10 {
			a.sends(b, 10)
			b.sends(a, 10)
			time.Sleep(100 * time.Millisecond)
			if got := a.tun.Status().Peers[0].Endpoint; got != b.addr {
				t.Fatalf("moved to %v", got)
			}
		}
		if lost != 1 {
			t.Errorf("%d handshakes were lost, want the rekey at 120 s", lost)
		}
	})
}

func TestTunnel_peerIsDownWhileTrafficGoesUnanswered(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true) // and is unknown there
		chatter(a, b, 12)
		s := a.tun.Status().Peers[0]
		if s.State != StateDown || s.Attempts < 2 || s.LastError == "" {
			t.Errorf("state %s after %d attempts, error %q; want down after 2", s.State, s.Attempts, s.LastError)
		}
	})
}

// The index of a link that was deleted and made again is another one, the name is the same.
func TestTunnel_looksUpTheZoneOfALinkLocalEndpointAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		named, numbered := netip.MustParseAddrPort("[fe80::2%wan]:51820"), netip.MustParseAddrPort("[fe80::2%10]:51820")
		other := netip.MustParseAddrPort("[fe80::3%10]:51820")
		a.knows(b, false, func(c *PeerChange) { c.Endpoints = []netip.AddrPort{named} })
		endpoint := func() netip.AddrPort { return a.tun.Status().Peers[0].Endpoint }
		heardFrom := func(at netip.AddrPort) {
			if err := a.tun.Configure(Change{Peers: []PeerChange{{PublicKey: b.key.Public(), Endpoint: at}}}); err != nil {
				t.Fatal(err)
			}
		}
		changed := func() { a.tun.PathsChanged(func(udp.Endpoint) bool { return true }) }
		heardFrom(numbered)
		changed()
		if got := endpoint(); got != named {
			t.Errorf("after a change of the network: %v, want %v", got, named)
		}
		heardFrom(other)
		changed()
		if got := endpoint(); got != other {
			t.Errorf("after a change of the network: %v, want %v, where the peer roamed to", got, other)
		}
		heardFrom(numbered)
		chatter(a, b, 12)
		if got := endpoint(); got != named {
			t.Errorf("after a handshake without an answer: %v, want %v", got, named)
		}
	})
}
