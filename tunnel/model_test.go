package tunnel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/tunnel/datasession"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp/udptest"
)

// A model is two tunnels that know each other, and everything that may happen to them: to the
// network between them, to their hosts and to their configurations. What happens follows from a
// seed; what must hold in any case is checked all the time (model_check_test.go).
type model struct {
	*world
	r     *rand.Rand
	began time.Time
	ends  [2]*modelEnd
	sent  int // packets so far: their numbers

	mu     sync.Mutex // guards what follows: the network calls from many goroutines
	addrs  map[netip.AddrPort]*modelEnd
	faults []string
	log    []string
}

// modelEnd is one of the two.
type modelEnd struct {
	*end
	name   string
	other  *modelEnd
	knows  bool // where the other is
	clock  *modelClock
	stamps *kept
	lanes  int
	queues []*tundevtest.Queue
	pq     datasession.PostQuantum

	running atomic.Pointer[Tunnel]
	// Packets may leave in post-quantum data sessions only.
	strict atomic.Bool
	mute   atomic.Bool   // what it sends is lost
	loses  atomic.Uint32 // what of it is lost, by the number in kinds

	talks   bool              // its host sends packets
	change  func(*PeerChange) // of what does not change
	arrived map[int]bool      // packets that its host has got
	// Since when the other is up and nothing has arrived, although both hosts send and both tunnels
	// run; and when something authenticated last did.
	silent time.Time
	heard  boottime.Time
}

// modelClock is the clock of one end: the host may be suspended, and its time of day set.
type modelClock struct {
	bubbleClock
	suspended, set atomic.Int64
}

func (c *modelClock) Now() boottime.Time {
	return c.bubbleClock.Now().Add(time.Duration(c.suspended.Load()))
}

func (c *modelClock) Wall() time.Time {
	return c.bubbleClock.Wall().Add(time.Duration(c.suspended.Load() + c.set.Load()))
}

// newModel makes a model; it ends with the test.
func newModel(w *world, seed uint64) *model {
	m := &model{world: w, r: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), addrs: map[netip.AddrPort]*modelEnd{}}
	w.ears.takeAnySize()
	w.net.Watch(m.watch)
	w.net.Filter(func(d udptest.Datagram) error {
		if e := m.at(d.From); e.mute.Load() || kinds[e.loses.Load()](d) {
			return udptest.Lost
		}
		return nil
	})
	var psk keys.PresharedKey
	if m.r.IntN(2) == 0 {
		psk, _ = keys.GeneratePreshared()
	}
	for i := range m.ends {
		m.ends[i] = m.newEnd(string(rune('a'+i)), byte(i+1), psk)
	}
	a, b := m.ends[0], m.ends[1]
	a.other, b.other = b, a
	a.knows = true
	b.knows = m.r.IntN(2) == 0
	for _, e := range m.ends {
		e.pq = m.anyPQ()
		m.assembleEnd(e, nil)
	}
	return m
}

func (m *model) newEnd(name string, number byte, psk keys.PresharedKey) *modelEnd {
	e := &modelEnd{
		name: name, talks: true, arrived: map[int]bool{},
		stamps: &kept{newest: map[keys.PublicKey]noise.Timestamp{}}, clock: &modelClock{bubbleClock: m.world.clock},
	}
	e.end = &end{
		t: m.t, ears: m.ears, key: newKey(m.t), inner: netip.AddrFrom4([4]byte{10, 9, 0, number}),
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, number}), 51820),
	}
	keepalive := []time.Duration{0, 10 * time.Second, 25 * time.Second}[m.r.IntN(3)]
	liveness := []time.Duration{0, time.Second, 5 * time.Second}[m.r.IntN(3)]
	e.change = func(c *PeerChange) { c.PresharedKey, c.Keepalive, c.Liveness = &psk, &keepalive, &liveness }
	m.lives(e)
	return e
}

// lives notes that e has its address.
func (m *model) lives(e *modelEnd) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs[e.addr] = e
}

// at returns whose address it is.
func (m *model) at(addr netip.AddrPort) *modelEnd {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addrs[addr]
}

func (m *model) anyPQ() datasession.PostQuantum {
	return []datasession.PostQuantum{datasession.Prefer, datasession.Require, datasession.Off}[m.r.IntN(3)]
}

// share gives a tunnel as many sockets and queues as it is to have lanes, and returns the queues.
func (e *end) share(o *Options, lanes int) (queues []*tundevtest.Queue) {
	o.Conns = nil
	for _, c := range e.conn.Share(lanes) {
		o.Conns = append(o.Conns, c)
	}
	o.Devices[0].Queues = nil
	for len(queues) < lanes {
		q := e.queue
		if len(queues) > 0 {
			q = tundevtest.New(1024, tundev.Features{})
		}
		queues = append(queues, q)
		o.Devices[0].Queues = append(o.Devices[0].Queues, q)
	}
	return queues
}

// assembleEnd gives e a new process, which continues the sessions of the one before if there are
// any.
func (m *model) assembleEnd(e *modelEnd, sessions []byte) {
	m.t.Helper()
	e.lanes = []int{1, 2, 8}[m.r.IntN(3)]
	m.assemble(e.end, e.clock, withCiphers(testCiphers...), func(o *Options) {
		o.Timestamps = e.stamps
		e.queues = e.share(o, e.lanes)
	})
	e.running.Store(e.tun)
	e.strict.Store(e.pq == datasession.Require)
	m.configure(e)
	if sessions != nil {
		if _, err := e.tun.Continue(sessions); err != nil {
			m.fault("%s: %v", e.name, err)
		}
	}
	e.tun.Start()
	m.hush()
	synctest.Wait()
}

// hush begins to count anew for how long nothing has arrived.
func (m *model) hush() {
	for _, e := range m.ends {
		if e != nil {
			e.silent = time.Now()
		}
	}
}

// configure tells e of the other.
func (m *model) configure(e *modelEnd) {
	m.t.Helper()
	c := PeerChange{PublicKey: e.other.key.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(e.other.inner, 32)}}
	e.change(&c)
	postQuantum(e.pq)(&c)
	if e.knows {
		c.Endpoints = []netip.AddrPort{e.other.addr}
	}
	e.end.configure(Change{Peers: []PeerChange{c}})
}

// setPQ changes post_quantum of a running end.
func (m *model) setPQ(e *modelEnd, pq datasession.PostQuantum) {
	e.strict.Store(false)
	e.pq = pq
	m.configure(e)
	synctest.Wait()
	e.strict.Store(pq == datasession.Require)
	m.hush()
}

// compatible reports whether packets can pass with what the two demand.
func (m *model) compatible() bool {
	a, b := m.ends[0].pq, m.ends[1].pq
	return !(a == datasession.Off && b == datasession.Require) && !(b == datasession.Off && a == datasession.Require)
}

// happening is something that may happen, to e if it concerns one of the two.
type happening struct {
	name string
	does func(m *model, e *modelEnd)
}

var happenings = []happening{
	{"bad network", func(m *model, _ *modelEnd) {
		m.net.Set(udptest.Conditions{
			Latency: time.Duration(1+m.r.IntN(200)) * time.Millisecond, Loss: 0.4 * m.r.Float64(),
			Duplicate: 0.3 * m.r.Float64(), Reorder: 0.3 * m.r.Float64(),
			ReorderBy: time.Duration(1+m.r.IntN(3000)) * time.Millisecond,
		})
	}},
	{"good network", func(m *model, _ *modelEnd) { m.heal() }},
	{"nothing leaves", func(_ *model, e *modelEnd) { e.mute.Store(true) }},
	{"outage", func(_ *model, e *modelEnd) { e.mute.Store(true); e.other.mute.Store(true) }},
	{"pause", func(m *model, e *modelEnd) {
		e.mute.Store(true)
		e.other.mute.Store(m.r.IntN(2) == 0)
		m.steps(1 + m.r.IntN(60))
		e.mute.Store(false)
		e.other.mute.Store(false)
	}},
	{"some are lost", func(m *model, e *modelEnd) { e.loses.Store(uint32(m.r.IntN(len(kinds)))) }},
	{"some are lost", func(m *model, e *modelEnd) {
		e.loses.Store(uint32(m.r.IntN(len(kinds))))
		e.tun.Handshake(e.other.key.Public())
	}},
	{"crash", func(m *model, e *modelEnd) { m.restart(e, true) }},
	{"restart", func(m *model, e *modelEnd) { m.restart(e, false) }},
	{"handover", func(m *model, e *modelEnd) {
		sessions, err := e.tun.Suspend(time.Second)
		if err != nil {
			m.fault("%s: %v", e.name, err)
			return
		}
		passes(time.Duration(m.r.IntN(2000)) * time.Millisecond)
		m.assembleEnd(e, sessions)
	}},
	{"suspend", func(m *model, e *modelEnd) {
		e.clock.suspended.Add(int64([]time.Duration{10 * time.Second, 170 * time.Second, time.Hour}[m.r.IntN(3)]))
	}},
	{"clock set", func(m *model, e *modelEnd) {
		e.clock.set.Store(int64([]time.Duration{-24 * time.Hour, 0, 24 * time.Hour}[m.r.IntN(3)]))
	}},
	{"moved", func(m *model, _ *modelEnd) { m.move() }},
	{"post_quantum", func(m *model, e *modelEnd) { m.setPQ(e, m.anyPQ()) }},
	{"both call", func(_ *model, e *modelEnd) {
		for _, x := range []*modelEnd{e, e.other} {
			x.tun.Handshake(x.other.key.Public())
		}
	}},
	{"calls", func(_ *model, e *modelEnd) { e.tun.Handshake(e.other.key.Public()) }},
	{"falls silent", func(_ *model, e *modelEnd) { e.talks = false }},
	{"talks again", func(_ *model, e *modelEnd) { e.talks = true }},
}

// kinds are datagrams of which all may be lost for a while, the others none.
var kinds = []func(udptest.Datagram) bool{
	nothing,
	isHandshake,
	func(d udptest.Datagram) bool { return !isHandshake(d) },
	func(d udptest.Datagram) bool { kind, _ := wire.Kind(d.Payload); return kind == wire.TypeResponse },
	func(d udptest.Datagram) bool { kind, _ := wire.Kind(d.Payload); return kind == wire.TypeInitiation },
	// What a narrow path does not carry: offers and answers.
	func(d udptest.Datagram) bool { return len(d.Payload) > 600 },
	func(d udptest.Datagram) bool { return !isHandshake(d) && len(d.Payload) > wire.MinTransportSize },
}

// restart ends the process of e and begins another. A crash says no goodbye.
func (m *model) restart(e *modelEnd, crash bool) {
	was := e.mute.Load()
	e.mute.Store(was || crash)
	e.tun.Close()
	e.mute.Store(was)
	if m.r.IntN(3) == 0 {
		e.pq = m.anyPQ()
	}
	passes(time.Duration(m.r.IntN(20_000)) * time.Millisecond)
	m.assembleEnd(e, nil)
}

// move gives the first end, which knows where the other is, another address.
func (m *model) move() {
	a := m.ends[0]
	a.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + m.r.IntN(250))}), uint16(1024+m.r.IntN(60000)))
	m.lives(a)
	a.conn.Move(a.addr)
}

// heal makes the network good.
func (m *model) heal() {
	m.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
	for _, e := range m.ends {
		e.mute.Store(false)
		e.loses.Store(0)
	}
}

// happens lets something happen.
func (m *model) happens() {
	h := happenings[m.r.IntN(len(happenings))]
	e := m.ends[m.r.IntN(2)]
	m.note("%s %s", e.name, h.name)
	h.does(m, e)
	m.note("%s %s done", e.name, h.name)
}

// note writes down what happens.
func (m *model) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf("%9.3f ", time.Since(m.began).Seconds())+fmt.Sprintf(format, args...))
}

// step lets a quarter of a second pass, in which each host that talks sends a packet.
func (m *model) step() {
	for _, e := range m.ends {
		if e.talks {
			m.inject(e)
		}
	}
	passes(250 * time.Millisecond)
	for _, e := range m.ends {
		m.collect(e)
		m.judge(e)
	}
}

// steps lets n of them pass.
func (m *model) steps(n int) {
	for range n {
		m.step()
	}
}

// inject gives e's host a packet to send, and returns its number.
func (m *model) inject(e *modelEnd) int {
	m.sent++
	e.queues[m.r.IntN(len(e.queues))].Inject(e.numbered(e.other.end, m.sent))
	return m.sent
}
