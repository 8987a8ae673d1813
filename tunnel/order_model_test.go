package tunnel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/tunnel/datasession"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp/udptest"
)

// transit is the longest time for which the network of an orderModel keeps a transport message.
const transit = 100 * time.Millisecond

// An orderModel is two tunnels on a network that delays every message by a time of its own, and
// loses, doubles and keeps back for seconds none but those of handshakes. What happens follows from
// a seed.
type orderModel struct {
	*world
	r     *rand.Rand // of the test's goroutine
	began time.Time
	ends  [2]*orderEnd

	mu                sync.Mutex // guards what follows: the network calls from many goroutines
	chance            *rand.Rand // of the network
	loss, twice, slow float64    // shares of the messages of handshakes
	slowBy            time.Duration
	lastShake         time.Time // when the last of them was sent
	log, faults       []string
}

// orderEnd is one of the two.
type orderEnd struct {
	*end
	m       *orderModel
	name    string
	other   *orderEnd
	data    bool // it knows data sessions
	knows   bool // where the other is
	talks   bool // its host sends packets
	lanes   int
	pq      datasession.PostQuantum
	stamps  *kept
	queues  []*tundevtest.Queue
	running atomic.Pointer[Tunnel]

	// How often it has begun anew, and the local indices of its handshakes and sessions, with the
	// life that made them. Guarded by m.mu.
	life    int
	indices map[uint32]int
}

func newOrderModel(w *world, seed uint64) *orderModel {
	m := &orderModel{
		world: w, r: rand.New(rand.NewPCG(seed, 1)), chance: rand.New(rand.NewPCG(seed, 2)), began: time.Now(),
	}
	w.ears.takeAnySize()
	w.net.Route(m.route)
	data := m.r.IntN(2) == 0
	for i := range m.ends {
		e := &orderEnd{
			m: m, name: string(rune('a' + i)), data: data, knows: i == 0 || m.r.IntN(3) > 0, talks: true,
			lanes: 1 + m.r.IntN(2), pq: []datasession.PostQuantum{datasession.Prefer, datasession.Require}[m.r.IntN(2)],
			stamps: &kept{newest: map[keys.PublicKey]noise.Timestamp{}}, indices: map[uint32]int{},
		}
		e.end = &end{
			t: w.t, ears: w.ears, key: newKey(w.t), inner: netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}),
			addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 51820),
		}
		m.ends[i] = e
	}
	m.ends[0].other, m.ends[1].other = m.ends[1], m.ends[0]
	for _, e := range m.ends {
		e.begin(nil)
	}
	return m
}

// begin gives e a process, which continues sessions if there are any.
func (e *orderEnd) begin(sessions []byte) {
	m := e.m
	m.assemble(e.end, m.clock, func(o *Options) {
		if e.data {
			withCiphers(testCiphers...)(o)
		}
		o.Timestamps = e.stamps
		e.queues = e.share(o, e.lanes)
	})
	e.running.Store(e.tun)
	e.knowsOther()
	if sessions != nil {
		if _, err := e.tun.Continue(sessions); err != nil {
			m.fault("%s: %v", e.name, err)
		}
	}
	e.tun.Start()
}

func (e *orderEnd) knowsOther() {
	var more []func(*PeerChange)
	if e.data {
		more = append(more, postQuantum(e.pq))
	}
	e.end.knows(e.other.end, e.knows, more...)
}

// note writes down what happens.
func (m *orderModel) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write(format, args...)
}

// fault notes that something does not hold.
func (m *orderModel) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.isFault(format, args...)
}

// write is note, and isFault is fault. Callers hold mu.
func (m *orderModel) write(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%10.4f ", time.Since(m.began).Seconds())+fmt.Sprintf(format, args...))
}

func (m *orderModel) isFault(format string, args ...any) {
	m.write("FAULT "+format, args...)
	m.faults = append(m.faults, m.log[len(m.log)-1])
}

// route decides when a datagram arrives.
func (m *orderModel) route(d udptest.Datagram) []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := m.ends[0], m.ends[1]
	if d.To.Addr() != to.addr.Addr() {
		from, to = to, from
	}
	delay := 1 + time.Duration(m.chance.Int64N(int64(transit)))
	kind, _ := wire.Kind(d.Payload)
	if kind == wire.TypeTransport {
		m.follow(from, to, wire.TransportReceiver(d.Payload), delay)
		return []time.Duration{delay}
	}
	m.lastShake = time.Now()
	from.indices[wire.Sender(d.Payload)] = from.life
	if m.chance.Float64() < m.slow {
		delay = 1 + time.Duration(m.chance.Int64N(int64(m.slowBy)))
	}
	delays := []time.Duration{delay}
	if m.chance.Float64() < m.loss {
		delays = nil
	} else if m.chance.Float64() < m.twice {
		delays = append(delays, 1+time.Duration(m.chance.Int64N(int64(m.slowBy))))
	}
	m.write("%s sends type %d, index %08x, which arrives after %v", from.name, kind, wire.Sender(d.Payload), delays)
	return delays
}

// follow looks whether there is a session for a transport message when it arrives. One that was
// sent or that is for a session of an earlier life of either side is excused. Callers hold mu.
func (m *orderModel) follow(from, to *orderEnd, index uint32, delay time.Duration) {
	life, known := to.indices[index]
	if _, ok := to.running.Load().env.Index.Get(index); ok && !known {
		life, known = to.life, true // a data session, which agreed on its index in secret
		to.indices[index] = life
	}
	fromLife, toLife := from.life, to.life
	time.AfterFunc(delay, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if fromLife != from.life || toLife != to.life || known && life != to.life || !known && to.life > 0 {
			return
		}
		if owner, ok := to.running.Load().env.Index.Get(index); !ok || owner.Keypair == nil {
			m.isFault("%s has no session %08x any more, in which %s sent %v ago", to.name, index, from.name, delay)
		}
	})
}

// step lets both hosts send, often while handshakes are under way, and a little time pass.
func (m *orderModel) step() {
	m.mu.Lock()
	pause := 300 * time.Millisecond
	if time.Since(m.lastShake) < 2*time.Second {
		pause = 15 * time.Millisecond
	}
	m.mu.Unlock()
	for _, e := range m.ends {
		if e.talks {
			e.inject()
		}
	}
	passes(pause + time.Duration(m.r.IntN(int(pause/4))))
	for _, e := range m.ends {
		e.drain()
	}
}

// inject gives e's host a packet to send.
func (e *orderEnd) inject() {
	e.queues[e.m.r.IntN(len(e.queues))].Inject(packet(e.inner, e.other.inner, 56))
}

// steps lets a random time pass, up to the given one.
func (m *orderModel) steps(most time.Duration) {
	d := time.Duration(m.r.Int64N(int64(most)))
	for began := time.Now(); time.Since(began) < d; {
		m.step()
	}
}

// drain returns how many packets the host of e has got.
func (e *orderEnd) drain() (n int) {
	for _, q := range e.queues {
		for more := true; more; {
			select {
			case <-q.Written():
				n++
			default:
				more = false
			}
		}
	}
	return n
}
