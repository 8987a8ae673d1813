package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"tund/crypto/wire"
	"tund/tunnel/datasession"
	"tund/tunnel/udp/udptest"
)

// talksWith has both ends send packets to each other at a steady rate. All have to arrive.
func (e *end) talksWith(other *end, packets int, every time.Duration) {
	e.t.Helper()
	here, there := 0, 0
	for range packets {
		e.queue.Inject(packet(e.inner, other.inner, 56))
		other.queue.Inject(packet(other.inner, e.inner, 56))
		passes(every)
		here, there = here+e.got(), there+other.got()
	}
	passes(time.Second)
	if here, there = here+e.got(), there+other.got(); here != packets || there != packets {
		e.t.Errorf("%d and %d of %d packets arrived; drops %v and %v",
			here, there, packets, e.tun.drops.Snapshot(), other.tun.drops.Snapshot())
	}
}

// Two sides that begin at once both have a session of their own to send with. That state must not
// last: their renewals would cross as well, each time with packets on the way under sessions that
// the other side has just let go.
func TestTunnel_handshakesThatCrossLoseNothing(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 15 * time.Millisecond, 120 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			inBubble(t, func(w *world) {
				a, b := w.end(), w.end()
				a.knows(b, true)
				b.knows(a, true)
				w.net.Set(udptest.Conditions{Latency: latency})
				const perSecond, seconds = 50, 400
				a.talksWith(b, perSecond*seconds, time.Second/perSecond)
				if i, r, _, _, _ := w.ears.take(); i > 5 || r > 5 {
					t.Errorf("%d initiations and %d responses, want 2 at first and one for each renewal", i, r)
				}
			})
		})
	}
}

// Both sides renew a session at the same moment, and one response is lost, or none. The side that
// has no new session yet goes on in the last one, which the other keeps until it hears of a newer
// one: nothing is lost.
func TestTunnel_renewalsThatCrossLoseNothing(t *testing.T) {
	for _, data := range []bool{false, true} {
		for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
			if !data && pq == datasession.Require {
				continue
			}
			for lost := range 3 {
				for _, age := range []time.Duration{20 * time.Second, 115 * time.Second} {
					inBubble(t, func(w *world) {
						w.net.Set(udptest.Conditions{Latency: 40 * time.Millisecond})
						a, b := w.end(), w.end()
						if data {
							a.tun.Close()
							b.tun.Close()
							w.startWith(a, w.clock, withCiphers(testCiphers...))
							w.startWith(b, w.clock, withCiphers(testCiphers...))
							a.knows(b, true, postQuantum(pq))
							b.knows(a, true, postQuantum(pq))
						} else {
							a.knows(b, true)
							b.knows(a, true)
						}
						a.sends(b, 10)
						passes(age)
						b.expect(1, "to connect")
						r := w.record()
						r.hold(func(d udptest.Datagram) bool {
							kind, _ := wire.Kind(d.Payload)
							return kind == wire.TypeResponse && (lost == 1 && d.From == a.addr || lost == 2 && d.From == b.addr)
						})
						const packets = 300
						for i := range packets {
							if i == 20 {
								a.tun.Handshake(b.key.Public())
								b.tun.Handshake(a.key.Public())
							}
							a.queue.Inject(packet(a.inner, b.inner, 56))
							b.queue.Inject(packet(b.inner, a.inner, 56))
							passes(10 * time.Millisecond)
						}
						passes(time.Second)
						if toA, toB := a.got(), b.got(); toA != packets || toB != packets {
							t.Errorf("data sessions %t, post_quantum %v, lost response %d, age %v: %d and %d of %d packets arrived; drops %v and %v",
								data, pq, lost, age, toA, toB, packets, a.tun.drops.Snapshot(), b.tun.drops.Snapshot())
						}
					})
				}
			}
		}
	}
}

// As above, over a network that changes the order of datagrams. The two sides may then disagree on
// which of their sessions is the newer one, and each sends under its own until it is renewed.
func TestTunnel_handshakesThatCrossOutOfOrderLoseNothing(t *testing.T) {
	for i := range 10 {
		inBubble(t, func(w *world) {
			a, b := w.end(), w.end()
			if i%2 == 1 { // data sessions
				a.tun.Close()
				b.tun.Close()
				w.startWith(a, w.clock, withCiphers(testCiphers...))
				w.startWith(b, w.clock, withCiphers(testCiphers...))
			}
			a.knows(b, true)
			b.knows(a, true)
			w.net.Set(udptest.Conditions{Latency: 10 * time.Millisecond, Reorder: 0.5, ReorderBy: 40 * time.Millisecond})
			const perSecond, seconds = 50, 260
			a.talksWith(b, perSecond*seconds, time.Second/perSecond)
		})
	}
}

// Both sides renew at once, and one of them hears of the other's new session before it has its own:
// for it, nothing has crossed. What was sent in the last session arrives after the first message of
// the new one. Each side then sends in the session that it began, and has to keep the other's.
func TestTunnel_crossingThatOneSideDoesNotSeeLosesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true)
		b.knows(a, true)
		a.sends(b, 10)
		b.expect(1, "to connect")
		passes(10 * time.Second)
		first := b.peerOf(a).Current().Session.LocalIndex()
		w.net.Route(func(d udptest.Datagram) []time.Duration {
			delay := 10
			switch kind, _ := wire.Kind(d.Payload); {
			case kind == wire.TypeInitiation && d.From == a.addr:
				delay = 46
			case kind == wire.TypeInitiation:
				delay = 33
			case kind == wire.TypeResponse && d.From == a.addr:
				delay = 86
			case kind == wire.TypeResponse:
				delay = 17
			case wire.TransportReceiver(d.Payload) == first:
				delay = 88
			}
			return []time.Duration{time.Duration(delay) * time.Millisecond}
		})
		const packets = 2000
		for i := range packets {
			if i == 20 {
				a.tun.Handshake(b.key.Public())
				b.tun.Handshake(a.key.Public())
			}
			a.queue.Inject(packet(a.inner, b.inner, 56))
			b.queue.Inject(packet(b.inner, a.inner, 56))
			passes(10 * time.Millisecond)
			if i%500 == 499 || i == packets-1 {
				passes(100 * time.Millisecond)
				want := 500
				a.expect(want, "from b")
				b.expect(want, "from a")
			}
		}
		b.conn.Move(netip.MustParseAddrPort("198.51.100.9:1234"))
		b.sends(a, 10)
		passes(20 * time.Millisecond)
		a.expect(1, "from the new address of b")
		a.sends(b, 10)
		passes(20 * time.Millisecond)
		b.expect(1, "at the new address of b")
	})
}

// After handshakes that crossed, each side goes on to use its own data sessions. The next renewal
// keeps those of both in use until there are new ones: one side takes packets in no other session.
func TestTunnel_renewalAfterACrossingKeepsTheDataSessionsInUse(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Require)
		b.knows(a, true, postQuantum(datasession.Require))
		w.net.Set(udptest.Conditions{Latency: 30 * time.Millisecond})
		a.sends(b, 10)
		passes(10 * time.Second)
		a.tun.Handshake(b.key.Public())
		b.tun.Handshake(a.key.Public())
		passes(10 * time.Second)
		a.got()
		b.got()
		a.talksWith(b, 130*20, 50*time.Millisecond)
	})
}
