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
	if len(d.Payload)%16 != 0 && len(d.Payload) != 1420+wire.TransportOverhead {
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

// inBubble runs f with a network in a bubble of virtual time, and checks that nothing of it is left running.
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
		t: w.t, key: key, inner: netip.AddrFrom4([4]byte{10, 9, 0, w.n}),
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
	e.tun.Start()
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

func TestTunnel_onePacketTakesOneHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		b.expect(1, "first packet")
		b.sends(a, 100)
		a.expect(1, "answer")
		i, r, c, data, empty := w.ears.take()
		if i != 1 || r != 1 || c != 0 || data != 2 || empty != 0 {
			t.Errorf("%d initiations, %d responses, %d cookies, %d data, %d keepalives; want 1 1 0 2 0", i, r, c, data, empty)
		}
	})
}

func TestTunnel_bothStartAtOnceAndBothGetThrough(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true)
		b.knows(a, true)
		w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
		a.queue.Inject(packet(a.inner, b.inner, 10))
		b.queue.Inject(packet(b.inner, a.inner, 10))
		time.Sleep(time.Second)
		synctest.Wait()
		a.expect(1, "a")
		b.expect(1, "b")
	})
}

func TestTunnel_idlePeersFallSilent(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		time.Sleep(30 * time.Second)
		w.ears.take()
		time.Sleep(time.Hour)
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("idle peers sent %d %d %d %d %d", i, r, c, data, empty)
		}
	})
}

func TestTunnel_dataWithoutAnswerGetsOneKeepaliveAfterTenSeconds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		w.ears.take()
		time.Sleep(9 * time.Second)
		if _, _, _, _, empty := w.ears.take(); empty != 0 {
			t.Errorf("%d keepalives before 10 s", empty)
		}
		time.Sleep(2 * time.Second)
		if i, _, _, _, empty := w.ears.take(); empty != 1 || i != 0 {
			t.Errorf("%d keepalives, %d initiations; want 1, 0", empty, i)
		}
		time.Sleep(time.Minute)
		if i, _, _, _, empty := w.ears.take(); empty != 0 || i != 0 {
			t.Errorf("later %d keepalives, %d initiations; want none", empty, i)
		}
	})
}

func TestTunnel_fiveAPacketsASecondCrossThreeRekeysWithoutLoss(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		w.net.Set(udptest.Conditions{Latency: 15 * time.Millisecond})
		toA, toB := 0, 0
		for range 400 * 5 {
			a.queue.Inject(packet(a.inner, b.inner, 56))
			b.queue.Inject(packet(b.inner, a.inner, 56))
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			toA, toB = toA+a.got(), toB+b.got()
		}
		if toB != 2000 || toA != 1999 { // b could not know where a is at the first
			t.Errorf("%d of 2000 and %d of 1999 packets arrived", toB, toA)
		}
		i, r, _, _, _ := w.ears.take()
		if i != 4 || r != 4 {
			t.Errorf("%d initiations and %d responses in 400 s, want 4: one at 0, 120, 240 and 360 s", i, r)
		}
	})
}

func TestTunnel_sessionEndsAt180SecondsWhenRenewalFails(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.expect(1, "at the start")
		w.net.Filter(func(d udptest.Datagram) error { // handshakes are lost from now on
			if k, _ := wire.Kind(d.Payload); k != wire.TypeTransport {
				return udptest.Lost
			}
			return nil
		})
		time.Sleep(179 * time.Second)
		a.sends(b, 10)
		b.expect(1, "at 179 s")
		time.Sleep(2 * time.Second)
		a.sends(b, 10)
		b.expect(0, "at 181 s")
	})
}

func TestTunnel_restartedPeerIsFoundAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.expect(1, "before")
		b.tun.Close()
		w.start(b)
		b.knows(a, true)
		b.sends(a, 10) // the restarted side has something to say: back at once
		a.expect(1, "after the restart")
		a.sends(b, 10)
		b.expect(1, "back")

		b.tun.Close()
		w.start(b)
		b.knows(a, false)
		for range 16 * 5 { // only the other side speaks: it notices after 15 s of silence
			a.sends(b, 10)
			time.Sleep(200 * time.Millisecond)
		}
		if n := b.got(); n == 0 {
			t.Error("nothing arrives 16 s after a restart")
		}
	})
}

func TestTunnel_followsThePeerToItsNewAddress(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "before")
		a.conn.Move(netip.MustParseAddrPort("198.51.100.9:1234"))
		b.sends(a, 10)
		a.expect(0, "sent to the old address")
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "after the move")
		if got := b.tun.Status().Peers[0].Endpoint; got.String() != "198.51.100.9:1234" {
			t.Errorf("endpoint = %v", got)
		}
	})
}

// Mistake 3: membership in the sender's own list is not enough, the longest prefix decides whose a source is.
func TestTunnel_packetFromAForeignSourceIsDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := w.end()
		b.knows(c, false) // c owns 10.9.0.3
		// b's allowed IPs: a wide prefix for a, within which c has a longer one.
		b.knows(a, false, func(p *PeerChange) { p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")} })
		a.sends(b, 10)
		b.expect(1, "own source")
		a.queue.Inject(packet(c.inner, b.inner, 10))
		a.queue.Inject(packet(netip.MustParseAddr("10.8.0.1"), b.inner, 10))
		synctest.Wait()
		b.expect(0, "source of another peer, source of nobody")
		if n := b.tun.Status().Drops["foreign-source"]; n != 2 {
			t.Errorf("foreign-source = %d, want 2", n)
		}
	})
}

func TestTunnel_staysSilentToStrangers(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := w.end() // unknown to b
		c.knows(b, true)
		c.sends(b, 10)
		if i, r, cookies, _, _ := w.ears.take(); i != 1 || r+cookies != 0 {
			t.Errorf("%d initiations, %d answers; want 1, 0", i, r+cookies)
		}
		_ = a
	})
}

func TestTunnel_presharedKeysThatDifferAreNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		psk, _ := keys.GeneratePreshared()
		a.knows(b, true, func(p *PeerChange) { p.PresharedKey = &psk })
		a.sends(b, 10)
		b.expect(0, "with different preshared keys")
		got := a.tun.Status().Peers[0].LastError
		if got != "response does not decrypt: the preshared keys differ" {
			t.Errorf("initiator says %q", got)
		}
		b.knows(a, false, func(p *PeerChange) { p.PresharedKey = &psk })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		b.expect(1, "after the key was added: what was staged")
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("state %s, error %q", s.State, s.LastError)
		}
	})
}

func TestTunnel_closeLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		a.tun.Close()
		b.tun.Close()
	})
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}
