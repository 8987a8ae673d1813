package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
)

// ping(8) gives up on the answers that are missing two round trips after its last request, which on
// a busy machine loses some that are only late. So the tests have a ping of their own.

// ICMP messages of both families (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	echoHeader               = 8
	echoPayload              = 56 // as ping(8) has it
)

// lastAnswer is how long the last answers may take.
const lastAnswer = 8 * time.Second

// identifiers numbers the pings of this run, so that each knows its own answers.
var identifiers counter

// pinger sends echo requests beside a test and remembers which were answered.
type pinger struct {
	t              testing.TB
	to             string
	conn           net.PacketConn
	dst            *net.IPAddr
	id             uint16
	request, reply byte

	stop chan struct{} // closed: send no more
	sent chan int      // how many went out, once
	once sync.Once

	mu       sync.Mutex // guards what follows
	answered map[uint32]bool
	failed   int // requests that the kernel refused to send
}

// startPing sends an echo request every so often until finish.
func startPing(t testing.TB, from *testnet.NS, to string, every time.Duration) *pinger {
	t.Helper()
	return startPings(t, from, to, every, 0)
}

// startPings sends count echo requests, or with 0 requests until finish.
func startPings(t testing.TB, from *testnet.NS, to string, every time.Duration, count int) *pinger {
	t.Helper()
	identifiers.add(1)
	addr := netip.MustParseAddr(to)
	p := &pinger{
		t: t, to: to, dst: &net.IPAddr{IP: addr.AsSlice()}, id: uint16(identifiers.get()),
		request: echoRequest4, reply: echoReply4,
		stop: make(chan struct{}), sent: make(chan int, 1), answered: map[uint32]bool{},
	}
	network := "ip4:icmp"
	if addr.Is6() {
		network, p.request, p.reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	from.Do(func() {
		var err error
		if p.conn, err = net.ListenPacket(network, ""); err != nil {
			t.Fatal(err)
		}
	})
	_ = p.conn.(*net.IPConn).SetReadBuffer(1 << 20)
	t.Cleanup(func() {
		p.end()
		_ = p.conn.Close()
	})
	go p.listen()
	go p.send(every, count)
	return p
}

// end stops sending.
func (p *pinger) end() { p.once.Do(func() { close(p.stop) }) }

// send sends requests until it is stopped or has sent count. The sequence number has 32 bits of its
// own in the payload.
func (p *pinger) send(every time.Duration, count int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	n := 0
	defer func() { p.sent <- n }()
	for count == 0 || n < count {
		var msg [echoHeader + echoPayload]byte
		msg[0] = p.request
		binary.BigEndian.PutUint16(msg[4:], p.id)
		binary.BigEndian.PutUint16(msg[6:], uint16(n))
		binary.BigEndian.PutUint32(msg[echoHeader:], uint32(n))
		if p.request == echoRequest4 { // the kernel does it for ICMPv6
			binary.BigEndian.PutUint16(msg[2:], onesComplement(msg[:]))
		}
		n++
		if _, err := p.conn.WriteTo(msg[:], p.dst); err != nil {
			p.mu.Lock()
			p.failed++
			p.mu.Unlock()
		}
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
	}
}

// onesComplement is the Internet checksum (RFC 1071).
func onesComplement(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// listen remembers answers until the socket is closed.
func (p *pinger) listen() {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < echoHeader+4 || buf[0] != p.reply || binary.BigEndian.Uint16(buf[4:]) != p.id {
			continue
		}
		p.mu.Lock()
		p.answered[binary.BigEndian.Uint32(buf[echoHeader:])] = true
		p.mu.Unlock()
	}
}

// answers counts the answers so far.
func (p *pinger) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.answered)
}

// missing lists the requests without an answer, by number from 0.
func (p *pinger) missing(sent int) (missing []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range uint32(sent) {
		if !p.answered[n] {
			missing = append(missing, n)
		}
	}
	return missing
}

// goesOn waits for some more answers.
func (p *pinger) goesOn(what string, limit time.Duration) {
	p.t.Helper()
	before := p.answers()
	testnet.Await(p.t, "pings to "+p.to+" go on "+what, limit, func() bool { return p.answers() > before+2 })
}

// finish stops sending, gives the last answers their time, and returns how many requests went out
// and how many were answered.
func (p *pinger) finish() (sent, answered int) {
	p.t.Helper()
	p.end()
	sent = <-p.sent
	p.settle(sent)
	return sent, p.answers()
}

// settle waits until everything is answered, or it is too late for that.
func (p *pinger) settle(sent int) {
	deadline := time.Now().Add(lastAnswer)
	for p.answers() < sent && time.Now().Before(deadline) {
		pause(5 * time.Millisecond)
	}
}

// wantNoLoss ends the ping and wants an answer to each request.
func (p *pinger) wantNoLoss() {
	p.t.Helper()
	sent, answered := p.finish()
	p.mu.Lock()
	defer p.mu.Unlock()
	if sent < 5 || answered != sent {
		p.t.Errorf("ping %s: %d sent (%d refused), %d answered, want no loss", p.to, sent, p.failed, answered)
	}
}

// ping sends count echo requests, a hundred a second, and wants every answer.
func ping(t testing.TB, from *testnet.NS, to string, count int) {
	t.Helper()
	p := startPings(t, from, to, 10*time.Millisecond, count)
	sent := <-p.sent
	p.settle(sent)
	if answered := p.answers(); answered != count {
		t.Errorf("ping %s: %d of %d requests answered, not %v", to, answered, count, p.missing(sent))
	}
}
