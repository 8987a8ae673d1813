package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
)

// end is one place where traffic begins or ends.
type end struct {
	ns     *testnet.NS
	v4, v6 string
}

// Sizes of a transfer.
const (
	quickBytes = 128 << 20
	soakBytes  = 1 << 30
	smallBytes = 16 << 20 // where the path is slow, or only has to be shown to work
)

// transferLimit bounds one transfer, and transferStall the time in which nothing of it moves.
const (
	transferLimit = 5 * time.Minute
	transferStall = 30 * time.Second
)

// exercise sends every kind of traffic between two ends, in both directions and both families.
func exercise(t *testing.T, a, b end, size int64) {
	t.Helper()
	if testnet.RaceDetector {
		size = min(size, 8<<20)
	}
	pingAll(t, a, b)
	saturate(t)
	for _, family := range []struct{ name, a, b string }{{"IPv4", a.v4, b.v4}, {"IPv6", a.v6, b.v6}} {
		if family.b == "" {
			continue
		}
		forth := transfer(t, a.ns, b.ns, family.b, size)
		back := transfer(t, b.ns, a.ns, family.a, size)
		t.Logf("%s: %d MiB at %s there and %s back", family.name, size>>20, forth, back)
		largeDatagrams(t, a.ns, b.ns, family.b)
		largeDatagrams(t, b.ns, a.ns, family.a)
	}
}

// pingAll sends sixty echo requests in each direction and family at once: together no more for one
// peer than may wait for its session, which is late by 5 s when a message of the handshake is lost.
func pingAll(t testing.TB, a, b end) {
	t.Helper()
	var all sync.WaitGroup
	for _, way := range []struct {
		from *testnet.NS
		to   string
	}{{a.ns, b.v4}, {a.ns, b.v6}, {b.ns, a.v4}, {b.ns, a.v6}} {
		if way.to != "" {
			all.Go(func() { ping(t, way.from, way.to, 60) })
		}
	}
	all.Wait()
}

// rate is a transfer's speed.
type rate float64

func (r rate) String() string { return fmt.Sprintf("%.2f Gbit/s", float64(r)/1e9) }

// listenIn listens for one TCP connection inside a namespace.
func listenIn(t testing.TB, ns *testnet.NS, host string) *net.TCPListener {
	t.Helper()
	var listener net.Listener
	ns.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.TCPListener)
}

// dialIn connects from inside a namespace.
func dialIn(t testing.TB, ns *testnet.NS, to net.Addr) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	ns.Do(func() {
		var err error
		if conn, err = net.DialTimeout("tcp", to.String(), transferStall); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// transfer sends size random bytes over TCP to address to and compares the digests of both sides.
func transfer(t testing.TB, from, at *testnet.NS, to string, size int64) rate {
	t.Helper()
	listener := listenIn(t, at, to)
	type result struct {
		digest [32]byte
		n      int64
		err    error
	}
	received := make(chan result, 1)
	go func() {
		var r result
		conn, err := listener.Accept()
		if err != nil {
			received <- result{err: err}
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(transferLimit))
		digest := sha256.New()
		r.n, r.err = io.CopyBuffer(digest, onlyReader{conn}, make([]byte, 256<<10))
		digest.Sum(r.digest[:0])
		received <- r
	}()
	conn := dialIn(t, from, listener.Addr())
	began := time.Now()
	_ = conn.SetDeadline(began.Add(transferLimit))
	digest := sha256.New()
	source := io.TeeReader(io.LimitReader(randomBytes(1), size), digest)
	if _, err := io.CopyBuffer(onlyWriter{conn}, source, make([]byte, 256<<10)); err != nil {
		t.Errorf("send to %s: %v", to, err)
	}
	_ = conn.CloseWrite()
	r := <-received
	took := time.Since(began)
	if sent := digest.Sum(nil); r.err != nil || r.n != size || !bytes.Equal(sent, r.digest[:]) {
		t.Errorf("%s received %d of %d bytes, %v, sha256 %x, want %x", to, r.n, size, r.err, r.digest, sent)
	}
	return rate(float64(8*size) / took.Seconds())
}

// onlyReader and onlyWriter hide the short cuts that would leave the digest out.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// randomBytes is a stream of random bytes that nothing on the way can compress or guess.
func randomBytes(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

// largeDatagrams sends datagrams that do not fit into a packet of the tunnel and wants each of them
// back.
func largeDatagrams(t testing.TB, from, at *testnet.NS, to string) {
	t.Helper()
	const size, count = 60000, 10
	server := packetConn(t, at, net.JoinHostPort(to, "0"))
	go func() {
		buf := make([]byte, 65536)
		for {
			n, addr, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], addr)
		}
	}()
	any := "0.0.0.0:0"
	if strings.Contains(to, ":") {
		any = "[::]:0"
	}
	client := packetConn(t, from, any)
	random, want, got := randomBytes(2), make([]byte, size), make([]byte, 65536)
	for i := range count {
		_, _ = random.Read(want)
		n, err := 0, error(nil)
		// The first one may be what tells a host behind a gateway the MTU of the path (RFC 8201),
		// at each end.
		for try := 0; try == 0 || err != nil && i == 0 && try < 4; try++ {
			if _, err := client.WriteTo(want, server.LocalAddr()); err != nil {
				t.Fatalf("datagram of %d bytes to %s: %v", size, to, err)
			}
			_ = client.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, _, err = client.ReadFrom(got)
		}
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("datagram %d of %d bytes to %s came back with %d bytes, %v", i, size, to, n, err)
			return
		}
	}
}

// packetConn opens a UDP socket inside a namespace, with room for large datagrams.
func packetConn(t testing.TB, ns *testnet.NS, address string) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	ns.Do(func() {
		var err error
		if conn, err = net.ListenPacket("udp", address); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	udp := conn.(*net.UDPConn)
	_ = udp.SetReadBuffer(4 << 20)
	return udp
}

// listenAt is where the instance at an address of the underlay listens.
func listenAt(host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), listenPort)
}

// flow is a TCP connection that carries data at a moderate rate until it is told to end.
type flow struct {
	t        testing.TB
	stop     chan struct{}
	sent     chan flowEnd
	received chan flowEnd
	progress counter
}

// flowEnd is what one side of a flow made of it.
type flowEnd struct {
	digest [32]byte
	n      int64
	err    error
}

// flowPiece is sent every flowTick: 12 MB a second, which leaves the processor to others.
const (
	flowPiece = 64 << 10
	flowTick  = 5 * time.Millisecond
)

// startFlow begins a flow from one namespace to an address in another.
func startFlow(t testing.TB, from, at *testnet.NS, to string) *flow {
	t.Helper()
	f := &flow{t: t, stop: make(chan struct{}), sent: make(chan flowEnd, 1), received: make(chan flowEnd, 1)}
	listener := listenIn(t, at, to)
	go func() { f.received <- f.receive(listener) }()
	conn := dialIn(t, from, listener.Addr())
	_ = conn.SetDeadline(time.Now().Add(transferLimit))
	go func() { f.sent <- f.send(conn) }()
	return f
}

func (f *flow) receive(listener net.Listener) (r flowEnd) {
	conn, err := listener.Accept()
	if err != nil {
		return flowEnd{err: err}
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(transferLimit))
	digest := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		digest.Write(buf[:n])
		r.n += int64(n)
		f.progress.add(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.err = err
			break
		}
	}
	digest.Sum(r.digest[:0])
	return r
}

func (f *flow) send(conn *net.TCPConn) (r flowEnd) {
	digest, random, piece := sha256.New(), randomBytes(3), make([]byte, flowPiece)
	tick := time.NewTicker(flowTick)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			_ = conn.CloseWrite()
			digest.Sum(r.digest[:0])
			return r
		case <-tick.C:
		}
		_, _ = random.Read(piece)
		n, err := conn.Write(piece)
		digest.Write(piece[:n])
		r.n += int64(n)
		if err != nil {
			r.err = err
			<-f.stop
			return r
		}
	}
}

// goesOn waits until some more data has arrived.
func (f *flow) goesOn(what string, limit time.Duration) {
	f.t.Helper()
	before := f.progress.get()
	testnet.Await(f.t, "the flow goes on "+what, limit, func() bool { return f.progress.get() > before+1<<20 })
}

// finish ends the flow and compares what was sent with what arrived.
func (f *flow) finish() {
	f.t.Helper()
	close(f.stop)
	sent, received := <-f.sent, <-f.received
	if sent.err != nil || received.err != nil || sent.n != received.n || sent.digest != received.digest {
		f.t.Errorf("flow: sent %d bytes, %v, received %d, %v, sha256 %x and %x", sent.n, sent.err, received.n, received.err,
			sent.digest, received.digest)
	}
}
