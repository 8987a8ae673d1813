package tunnel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
)

// orderEvents are what may happen, to e if it concerns one of the two.
var orderEvents = []struct {
	name string
	does func(m *orderModel, e *orderEnd)
}{
	{"calls", func(_ *orderModel, e *orderEnd) { e.calls() }},
	{"and the other call", func(_ *orderModel, e *orderEnd) {
		e.calls()
		e.other.calls()
	}},
	{"and later the other call", func(m *orderModel, e *orderEnd) {
		e.calls()
		m.steps(6 * time.Second)
		e.other.calls()
	}},
	{"(another network)", func(m *orderModel, _ *orderEnd) { m.changes() }},
	{"(another network)", func(m *orderModel, _ *orderEnd) { m.changes() }},
	{"restarts", func(m *orderModel, e *orderEnd) { m.restarts(e) }},
	{"hands over", func(m *orderModel, e *orderEnd) { m.handsOver(e) }},
	{"(a moves)", func(m *orderModel, _ *orderEnd) { m.moves(m.ends[0]) }},
	{"has a new key", func(m *orderModel, e *orderEnd) { m.rotates(e) }},
	{"falls silent, or talks again", func(_ *orderModel, e *orderEnd) { e.talks = !e.talks }},
	{"(time passes)", func(m *orderModel, _ *orderEnd) { m.steps(130 * time.Second) }},
}

func (e *orderEnd) calls() { e.tun.Handshake(e.other.key.Public()) }

// changes changes what the network does to handshakes.
func (m *orderModel) changes() {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := func(most float64) float64 {
		if m.chance.IntN(3) == 0 {
			return 0
		}
		return most * m.chance.Float64()
	}
	m.loss, m.twice, m.slow = share(0.5), share(0.5), share(1)
	m.slowBy = []time.Duration{transit, time.Second, 12 * time.Second}[m.chance.IntN(3)]
	m.write("network: %.2f lost, %.2f doubled, %.2f take up to %v", m.loss, m.twice, m.slow, m.slowBy)
}

// restarts ends the process of e without a goodbye, and begins another.
func (m *orderModel) restarts(e *orderEnd) {
	m.anew(e)
	e.conn.Close()
	e.tun.Close()
	e.begin(nil)
}

// anew notes that e begins a new life, so that nothing of the old one has to arrive.
func (m *orderModel) anew(e *orderEnd) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.life++
}

// handsOver gives the sessions of e to another process.
func (m *orderModel) handsOver(e *orderEnd) {
	sessions, err := e.tun.Suspend(time.Second)
	if err != nil {
		m.fault("%s: %v", e.name, err)
		return
	}
	e.begin(sessions)
}

// moves gives e another UDP port.
func (m *orderModel) moves(e *orderEnd) {
	m.mu.Lock()
	e.addr = netip.AddrPortFrom(e.addr.Addr(), uint16(1024+m.r.IntN(60000)))
	m.mu.Unlock()
	e.conn.Move(e.addr)
}

// rotates gives e another key. For a while it has both, and the other learns the new one.
func (m *orderModel) rotates(e *orderEnd) {
	configure := func(e *orderEnd, c Change) {
		if err := e.tun.Configure(c); err != nil {
			m.fault("%s: %v", e.name, err)
		}
	}
	key, old := newKey(m.t), e.key
	configure(e, Change{PrivateKey: &key, PreviousKey: old, CallPeers: true})
	m.steps(20 * time.Second)
	if m.r.IntN(2) == 0 {
		m.note("%s calls with the old key or the new", e.name)
		e.calls()
		m.steps(time.Second)
	}
	m.note("%s learns it", e.other.name)
	m.anew(e)
	m.anew(e.other)
	configure(e.other, Change{Peers: []PeerChange{{PublicKey: old.Public(), Remove: true}}})
	m.anew(e) // what was sent meanwhile
	e.key = key
	e.other.knowsOther()
	m.steps(20 * time.Second)
	m.note("%s forgets the old one", e.name)
	configure(e, Change{PrivateKey: &key})
}

// recovers lets every handshake arrive, and checks that packets pass again, both ways, in time.
func (m *orderModel) recovers() {
	m.note("nothing is lost any more")
	m.mu.Lock()
	m.loss, m.twice, m.slow = 0, 0, 0
	m.mu.Unlock()
	for _, e := range m.ends {
		e.talks = true
	}
	for began := time.Now(); time.Since(began) < m.slowBy+modelRecovery; { // slowBy: all has come
		m.step()
	}
	passes(time.Second)
	for _, e := range m.ends {
		e.drain()
	}
	const packets = 40
	for range packets {
		m.ends[0].inject()
		m.ends[1].inject()
		passes(50 * time.Millisecond)
	}
	passes(time.Second)
	for _, e := range m.ends {
		if n := e.drain(); n != packets {
			m.fault("%s got %d of %d packets: %v", e.name, n, packets, e.tun.drops.Snapshot())
		}
		for _, reason := range []drop.Reason{drop.Replay, drop.BadTag, drop.HandshakeQueue, drop.Internal} {
			if n := e.tun.drops.Get(reason); n != 0 {
				m.fault("%s: %d packets dropped as %s", e.name, n, reason)
			}
		}
	}
}

// In whatever order the messages of handshakes arrive, and whichever of them are lost, doubled or
// late, between hosts that restart, hand over, move and change their keys: the session of a
// transport message is still there when it arrives, up to 0.1 s after it was sent.
func TestModel_everyTransportMessageFindsItsSession(t *testing.T) {
	first, count := modelSeeds(t, 8, 3000)
	for seed := first; seed < first+count; seed++ {
		inBubble(t, func(w *world) {
			m := newOrderModel(w, seed)
			for range 8 {
				m.steps(40 * time.Second)
				event := orderEvents[m.r.IntN(len(orderEvents))]
				e := m.ends[m.r.IntN(2)]
				m.note("%s %s", e.name, event.name)
				event.does(m, e)
				m.steps(4 * time.Second)
			}
			m.recovers()
			// Another run with this seed may have none: keys and delays are drawn again.
			if len(m.faults) > 0 {
				at := slices.Index(m.log, m.faults[0])
				t.Errorf("seed %d: %d faults, the first after\n%s", seed, len(m.faults),
					strings.Join(m.log[max(0, at-30):at+1], "\n"))
			}
		})
	}
}
