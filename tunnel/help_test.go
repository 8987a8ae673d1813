package tunnel

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// stranger is somebody on the network of a test who is no tunnel. The eavesdropper does not judge
// what he sends.
type stranger struct {
	w    *world
	conn *udptest.Conn
	via  udp.Sender
	addr netip.AddrPort
}

func (w *world) stranger(addr string) *stranger {
	w.t.Helper()
	a := netip.MustParseAddrPort(addr)
	conn, err := w.net.Open(a)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	w.ears.ignore(a)
	return &stranger{w, conn, conn.NewSender(), a}
}

// sends gives a datagram to the network, without waiting for what comes of it.
func (s *stranger) sends(to netip.AddrPort, datagram []byte) {
	s.w.t.Helper()
	runs := []udp.Run{{Buf: datagram, Segment: len(datagram), To: udp.Endpoint{Addr: to}}}
	s.via.Send(runs)
	if runs[0].Err != nil {
		s.w.t.Fatal(runs[0].Err)
	}
}

// got returns the datagrams that have come since the last call.
func (s *stranger) got() (all [][]byte) {
	s.w.t.Helper()
	s.conn.NoTrains(true)
	trains := []udp.Train{{Buf: make([]byte, 65536)}}
	for {
		n, err := s.conn.Receive(trains, false)
		if err != nil {
			s.w.t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		all = append(all, append([]byte(nil), trains[0].Buf[:trains[0].N]...))
	}
}

// recorder keeps the datagrams that cross the network, and may stop some: it is given to
// Network.Filter.
type recorder struct {
	mu   sync.Mutex
	all  []udptest.Datagram
	stop func(udptest.Datagram) bool // nil: all may pass
}

func (w *world) record() *recorder {
	r := &recorder{}
	w.net.Filter(func(d udptest.Datagram) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		d.Payload = append([]byte(nil), d.Payload...)
		r.all = append(r.all, d)
		if r.stop != nil && r.stop(d) {
			return udptest.Lost
		}
		return nil
	})
	return r
}

// hold chooses what is to be lost from now on.
func (r *recorder) hold(stop func(udptest.Datagram) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = stop
}

// take returns what crossed since the last call, of one type; 0: all.
func (r *recorder) take(kind byte) (found []udptest.Datagram) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.all {
		if k, _ := wire.Kind(d.Payload); kind == 0 || k == kind {
			found = append(found, d)
		}
	}
	r.all = nil
	return found
}

// lastOf returns the newest datagram of a type, and forgets all.
func (r *recorder) lastOf(t *testing.T, kind byte) udptest.Datagram {
	t.Helper()
	found := r.take(kind)
	if len(found) == 0 {
		t.Fatalf("no message of type %d crossed the network", kind)
	}
	return found[len(found)-1]
}

// isHandshake reports whether a datagram is anything but transport data.
func isHandshake(d udptest.Datagram) bool {
	k, ok := wire.Kind(d.Payload)
	return ok && k != wire.TypeTransport
}

// everything loses every datagram.
func everything(udptest.Datagram) bool { return true }

// fromAddr loses what one address sends.
func fromAddr(a netip.AddrPort) func(udptest.Datagram) bool {
	return func(d udptest.Datagram) bool { return d.From == a }
}

// hand makes handshake messages by hand, as the holder of a private key can.
type hand struct {
	id     *noise.Identity
	remote *noise.Remote
	macs   *noise.Macs
	sender uint32
}

func newHand(key keys.PrivateKey, to keys.PublicKey) *hand {
	id := noise.NewIdentity(key)
	remote := noise.NewRemote(id, to)
	return &hand{id: id, remote: remote, macs: noise.NewMacs(remote), sender: 0x1000}
}

// initiation makes an initiation with a timestamp of the caller's choice, and what finishes it.
func (h *hand) initiation(w *world, stamp time.Time) ([]byte, *noise.Pending) {
	w.t.Helper()
	h.sender++
	var msg [wire.InitiationSize]byte
	pending, err := h.id.Initiate(&msg, h.remote, h.sender, noise.NewTimestamp(stamp))
	if err != nil {
		w.t.Fatal(err)
	}
	h.macs.Add(msg[:], w.clock.Now())
	return msg[:], pending
}

// key makes a private key.
func newKey(t testing.TB) keys.PrivateKey {
	t.Helper()
	k, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// passes lets virtual time go by and the world settle.
func passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// await spins, in no virtual time, until cond holds: for what real goroutines do while the test
// holds a lock.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 5_000_000 {
		if cond() {
			return
		}
		runtime.Gosched()
	}
	buf := make([]byte, 1<<18)
	t.Fatalf("never happened: %s\n%s", what, buf[:runtime.Stack(buf, true)])
}

// dropped returns how many packets died at e for a reason.
func (e *end) dropped(r drop.Reason) uint64 { return e.tun.drops.Get(r) }

// peerOf returns what e knows of other.
func (e *end) peerOf(other *end) *peer.Peer {
	e.t.Helper()
	p := e.tun.peers.Get(other.key.Public())
	if p == nil {
		e.t.Fatal("not a peer")
	}
	return p
}

// endpointOf returns where e believes other to be.
func (e *end) endpointOf(other *end) netip.AddrPort {
	e.t.Helper()
	ep := e.peerOf(other).Endpoint()
	if ep == nil {
		return netip.AddrPort{}
	}
	return ep.Addr
}

// connected makes a pair that has a session, and forgets how it came about.
func (w *world) connected() (a, b *end) {
	w.t.Helper()
	a, b = w.pair()
	a.sends(b, 10)
	b.expect(1, "to connect")
	b.sends(a, 10)
	a.expect(1, "to connect")
	w.ears.take()
	return a, b
}

// from tells packets apart: n is their number, found again by numberOf.
func (e *end) numbered(other *end, n int) []byte {
	p := packet(e.inner, other.inner, 12)
	p[20], p[21], p[22] = byte(n>>16), byte(n>>8), byte(n)
	return p
}

// numbers returns the numbers of the packets that e's host got since the last call, in order.
func (e *end) numbers() (out []int) {
	for {
		select {
		case f := <-e.queue.Written():
			p := f[10:]
			out = append(out, int(p[20])<<16|int(p[21])<<8|int(p[22]))
		default:
			return out
		}
	}
}

// steppedClock is a clock that a test sets forward and back.
type steppedClock struct {
	bubbleClock
	offset atomic.Int64
}

func (c *steppedClock) step(d time.Duration) { c.offset.Store(int64(d)) }

func (c *steppedClock) Now() boottime.Time {
	return c.bubbleClock.Now().Add(time.Duration(c.offset.Load()))
}

func (c *steppedClock) Wall() time.Time {
	return c.bubbleClock.Wall().Add(time.Duration(c.offset.Load()))
}

// collect runs the garbage collector until what is unreachable is gone.
func collect() {
	for range 3 {
		runtime.GC()
	}
}

// endpointAt is an endpoint with nothing but an address.
func endpointAt(a netip.AddrPort) udp.Endpoint { return udp.Endpoint{Addr: a} }
