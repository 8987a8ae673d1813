package tunnel

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// bubbleClock is the clock of a synctest bubble: both of its times move with time.Now.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() boottime.Time { return boottime.Time(time.Hour + time.Since(c.start)) }
func (c bubbleClock) Wall() time.Time    { return time.Now() }

// heldClock is a clock for which handshake workers have to wait while a test holds them.
type heldClock struct {
	Clock
	held    atomic.Bool
	workers sync.Mutex
}

func (c *heldClock) Now() boottime.Time {
	if c.held.Load() && inWorker() {
		c.workers.Lock()
		defer c.workers.Unlock()
	}
	return c.Clock.Now()
}

// inWorker reports whether the caller handles a handshake message.
func inWorker() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "handshake.(*Worker).message") {
			return true
		}
		if !more {
			return false
		}
	}
}

// end is one tunnel of a test, with the host and the network played by the test.
type end struct {
	t     *testing.T
	ears  *eavesdropper
	tun   *Tunnel
	key   keys.PrivateKey
	clock *heldClock
	queue *tundevtest.Queue
	conn  *udptest.Conn
	inner netip.Addr
	addr  netip.AddrPort
}

// eavesdropper counts what crosses the network, by message type, and checks what always holds.
type eavesdropper struct {
	mu    sync.Mutex
	count map[byte]int
	empty int // transport messages without data
	seen  map[[12]byte]bool
	deaf  map[netip.AddrPort]bool // senders who may send what they like
	fault string
	// Echo requests between tund peers have the size that was asked for, and are not padded.
	anySize bool
}

// takeAnySize makes e accept messages that are not padded.
func (e *eavesdropper) takeAnySize() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.anySize = true
}

// ignore makes e pass over what addr sends.
func (e *eavesdropper) ignore(addr netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf[addr] = true
}

func (e *eavesdropper) watch(d udptest.Datagram) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deaf[d.From] {
		return
	}
	kind, ok := wire.Kind(d.Payload)
	if !ok {
		e.fault = "a datagram that is no message"
		return
	}
	e.count[kind]++
	if kind != wire.TypeTransport {
		return
	}
	if len(d.Payload) == wire.MinTransportSize {
		e.empty++
	}
	if !e.anySize && len(d.Payload)%16 != 0 && len(d.Payload) != 1420+wire.TransportOverhead {
		e.fault = "an inner packet that is not padded to 16"
	}
	id := [12]byte(d.Payload[4:16]) // receiver and counter
	if e.seen[id] {
		e.fault = "a counter used twice"
	}
	e.seen[id] = true
}

// take returns the counts since the last call.
func (e *eavesdropper) take() (initiations, responses, cookies, data, empty int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.count
	empty = e.empty
	e.count, e.empty = map[byte]int{}, 0
	return c[wire.TypeInitiation], c[wire.TypeResponse], c[wire.TypeCookieReply], c[wire.TypeTransport] - empty, empty
}

// world is the network of a test.
type world struct {
	t     *testing.T
	net   *udptest.Network
	ears  *eavesdropper
	clock bubbleClock
	n     byte
}

// inBubble runs f with a network in a bubble of virtual time, and checks that nothing of it is left
// running.
func inBubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, net: udptest.New(1), clock: bubbleClock{time.Now()},
			ears: &eavesdropper{count: map[byte]int{}, seen: map[[12]byte]bool{}, deaf: map[netip.AddrPort]bool{}},
		}
		w.net.Watch(w.ears.watch)
		f(w)
		if w.ears.fault != "" {
			t.Errorf("eavesdropper saw %s", w.ears.fault)
		}
	})
}

// end makes a tunnel with the next address; it runs until the test ends.
func (w *world) end() *end {
	w.t.Helper()
	w.n++
	key, err := keys.GeneratePrivate()
	if err != nil {
		w.t.Fatal(err)
	}
	e := &end{
		t: w.t, ears: w.ears, key: key, inner: netip.AddrFrom4([4]byte{10, 9, 0, w.n}),
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, w.n}), 51820),
	}
	w.start(e)
	return e
}

// start gives e a new tunnel, as after a restart, without peers.
func (w *world) start(e *end) {
	w.t.Helper()
	w.startWith(e, w.clock)
}

// startWith is start with another clock, and with what configure changes of the options.
func (w *world) startWith(e *end, clock Clock, configure ...func(*Options)) {
	w.t.Helper()
	w.assemble(e, clock, configure...)
	e.tun.Start()
}

// assemble is startWith without the start.
func (w *world) assemble(e *end, clock Clock, configure ...func(*Options)) {
	w.t.Helper()
	var err error
	e.queue = tundevtest.New(1024, tundev.Features{})
	if e.conn, err = w.net.Open(e.addr); err != nil {
		w.t.Fatal(err)
	}
	e.clock = &heldClock{Clock: clock}
	o := Options{
		PrivateKey: e.key, Conns: []udp.Conn{e.conn}, Clock: e.clock, Log: zap.NewNop(),
		Devices: []Device{{Name: "test", Kind: tundev.TUN, Queues: []tundev.Queue{e.queue}, MTU: 1420}},
	}
	for _, f := range configure {
		f(&o)
	}
	e.tun, err = New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	tun := e.tun
	w.t.Cleanup(func() { tun.Close() })
}

// knows makes other a peer of e, to be found at its address when known says so.
func (e *end) knows(other *end, known bool, more ...func(*PeerChange)) {
	e.t.Helper()
	c := PeerChange{PublicKey: other.key.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(other.inner, 32)}}
	if known {
		c.Endpoint = other.addr
	}
	for _, m := range more {
		m(&c)
	}
	if c.Extensions != nil {
		e.ears.takeAnySize()
	}
	if err := e.tun.Configure(Change{Peers: []PeerChange{c}}); err != nil {
		e.t.Fatal(err)
	}
}

// pair makes two ends that know each other; only the first knows where the other is.
func (w *world) pair() (a, b *end) {
	a, b = w.end(), w.end()
	a.knows(b, true)
	b.knows(a, false)
	return a, b
}

// What hosts send.
var (
	packet   = tundevtest.Packet
	udpSuper = tundevtest.UDPSuper
)

// sends injects one packet to other and lets the world settle.
func (e *end) sends(other *end, n int) {
	e.t.Helper()
	if !e.queue.Inject(packet(e.inner, other.inner, n)) {
		e.t.Fatal("device queue full")
	}
	synctest.Wait()
}

// got returns how many packets the host of e has got since the last call.
func (e *end) got() int {
	n := 0
	for {
		select {
		case <-e.queue.Written():
			n++
		default:
			return n
		}
	}
}

// expect fails unless e got n packets.
func (e *end) expect(n int, why string) {
	e.t.Helper()
	if got := e.got(); got != n {
		e.t.Errorf("%s: got %d packets, want %d (drops here %v)", why, got, n, e.tun.drops.Snapshot())
	}
}
