package lane

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
	"tund/tunnel/peerlog"
	"tund/tunnel/staged"
	"tund/tunnel/timers"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
)

// hole is a socket into which everything disappears.
type hole struct{ closed chan struct{} }

func newHole() *hole { return &hole{closed: make(chan struct{})} }

func (h *hole) Receive([]udp.Train, bool) (int, error) { <-h.closed; return 0, net.ErrClosed }
func (h *hole) NewSender() udp.Sender                  { return h }
func (h *hole) OnICMP(func(udp.ICMPReport))            {}
func (h *hole) Port() uint16                           { return 51820 }
func (h *hole) SetMark(uint32) error                   { return nil }
func (h *hole) Overflows() uint64                      { return 0 }
func (h *hole) Features() udp.Features                 { return udp.Features{} }
func (h *hole) Close() error                           { close(h.closed); return nil }
func (h *hole) StopReceiving()                         {}

func (h *hole) Send(runs []udp.Run) {
	for i := range runs {
		r := &runs[i]
		r.Err, r.Sent, r.SourceGone = nil, 1, false
		if r.Segment > 0 {
			r.Sent = (len(r.Buf) + r.Segment - 1) / r.Segment
		}
	}
}

// still is a clock that stands still: timers that are armed stay armed.
type still struct{}

func (still) Now() boottime.Time { return boottime.Time(time.Hour) }
func (still) Wall() time.Time    { return time.Unix(1_700_000_000, 0) }

// sinkQueue is a device that takes everything and keeps nothing.
type sinkQueue struct{ *tundevtest.Queue }

func (sinkQueue) Write([]byte) error { return nil }

// bench is one lane that does not run, with one peer and a session, for tests of its loops.
type bench struct {
	env   *Env
	lane  *Lane
	dev   *Device
	peer  *peer.Peer
	out   *SendLoop
	in    *ReceiveLoop
	main  *peer.Keypair    // the WireGuard session
	far   *session.Session // the other end of the session
	inner netip.Addr       // the peer's
	from  udp.Endpoint
	mem   []byte
	train udp.Train
	nonce session.Scratch
	// Of data sessions to come.
	postQuantum bool
}

// noHandshakes takes no handshake message.
type noHandshakes struct{}

func (noHandshakes) Message(byte, []byte, *udp.Endpoint, boottime.Time) drop.Reason {
	return drop.HandshakeQueue
}

func newBench(t testing.TB, f tundev.Features) *bench {
	t.Helper()
	b := &bench{
		inner: netip.MustParseAddr("10.9.0.2"), mem: make([]byte, Headroom+tundev.MaxRead, Headroom+tundev.MaxRead+16),
		from: udp.Endpoint{Addr: netip.MustParseAddrPort("192.0.2.2:51820"), Source: netip.MustParseAddr("192.0.2.1"), Ifindex: 2},
	}
	b.env = &Env{
		Clock: still{}, Drops: new(drop.Counters), Index: new(peer.Index), Waiting: new(staged.Budget),
		Deadlines: timers.NewHeap[peer.Peer](func() {}), Log: peerlog.New(zap.NewNop()), Link: new(LinkState),
		Routes: NewRouteLoops(), Stop: make(chan struct{}), NewHandshakes: func() Handshakes { return noHandshakes{} },
		Control:        func(*peer.Keypair, []byte, boottime.Time) drop.Reason { return drop.BadInnerPacket },
		SessionChanged: func(*peer.Peer) {},
	}
	b.lane = New(0, newHole(), new(watchdog.Progress))
	routes := new(l3.Table[*peer.Peer])
	b.dev = &Device{
		Name: "test", Features: f, Queues: []tundev.Queue{sinkQueue{tundevtest.New(16, f)}},
		Progress: []*watchdog.Progress{new(watchdog.Progress)},
	}
	via := new(atomic.Pointer[Via])
	b.dev.NewForwarder = func(_ *Lane, q tundev.Queue) Forwarder {
		return NewIPForwarder(routes, via, b.dev, q, func(*peer.Peer) {})
	}
	b.dev.SetPadLimit(1420)

	b.peer = peer.New(keys.PublicKey{9})
	b.peer.SetEndpoint(udp.Endpoint{Addr: b.from.Addr})
	routes.Update(func(tx *l3.Tx[*peer.Peer]) { tx.Insert(netip.PrefixFrom(b.inner, 32), b.peer) })
	b.env.Flows = NewFlows(1)
	index := b.env.Index.Reserve(b.peer)
	near := noise.Keys{Send: [32]byte{1}, Receive: [32]byte{2}, LocalIndex: index, RemoteIndex: 7, Initiator: true}
	b.far = session.New(&noise.Keys{Send: near.Receive, Receive: near.Send, LocalIndex: 7, RemoteIndex: index})
	now := still{}.Now()
	b.main = peer.NewKeypair(b.peer, &near, now)
	b.peer.Finished(b.env.Index, b.main, keys.PublicKey{}, peer.Event{Now: now})
	b.out, b.in = NewSendLoop(b.env, b.lane, b.dev, 0), NewReceiveLoop(b.env, b.lane, []*Device{b.dev})
	b.train = udp.Train{Buf: make([]byte, 65536), From: b.from}
	return b
}

// send puts a read of the device through the send loop.
func (b *bench) send(frame []byte) {
	b.out.Carry(b.mem, copy(b.mem[Headroom:], frame), still{}.Now())
	b.out.Flush()
}

// receive puts plaintexts, all but the last of one size, through the receive loop as one train.
func (b *bench) receive(plaintexts [][]byte) {
	b.train.N, b.train.Segment = 0, 0
	for _, p := range plaintexts {
		counter, _ := b.far.Reserve(1)
		n := b.far.Seal(b.train.Buf[b.train.N:], counter, p, &b.nonce)
		b.train.N += n
		b.train.Segment = max(b.train.Segment, n)
	}
	b.in.Carry(&b.train, still{}.Now())
	b.in.Flush()
}

// A packet, and a superpacket, costs no allocation in either direction, whatever carries it.
func TestLoops_allocateNothingPerPacket(t *testing.T) {
	for _, f := range []tundev.Features{{}, {Checksum: true, TSO: true, USO: true}} {
		allocateNothing(t, newBench(t, f), f)
		for _, suite := range []aead.Suite{aead.ChaCha20Poly1305, aead.AES256GCM} {
			for _, lanes := range []int{1, 4} {
				b := newBench(t, f)
				b.far = b.dataSessions(t, suite, lanes)[0]
				allocateNothing(t, b, f)
				if sent := b.main.Session.Sent(); sent != 0 {
					t.Errorf("%d packets have left in the WireGuard session", sent)
				}
			}
		}
	}
}

func allocateNothing(t *testing.T, b *bench, f tundev.Features) {
	t.Helper()
	here := netip.MustParseAddr("10.9.0.1")
	for name, frame := range map[string][]byte{
		"packet":           append(make([]byte, 10), tundevtest.Packet(here, b.inner, 1000)...),
		"TCP superpacket":  tundevtest.TCPSuper(here, b.inner, 46, 1380),
		"UDP superpacket":  tundevtest.UDPSuper(here, b.inner, 40, 1200),
		"to nobody":        append(make([]byte, 10), tundevtest.Packet(here, netip.MustParseAddr("10.10.0.1"), 1000)...),
		"no packet at all": make([]byte, 100),
	} {
		if n := testing.AllocsPerRun(100, func() { b.send(frame) }); n != 0 {
			t.Errorf("features %+v: sending a %s allocates %v times", f, name, n)
		}
	}
	if sent := b.peer.TxPackets(); sent != 101*(1+46+40) {
		t.Errorf("%d datagrams were sent, want %d: %v", sent, 101*(1+46+40), b.env.Drops.Snapshot())
	}

	single := [][]byte{tundevtest.Packet(b.inner, here, 1000)}
	var segments, foreign [][]byte
	for i := range 40 {
		segments = append(segments, tundevtest.TCPSegment(b.inner, here, i*1380, 1380))
		foreign = append(foreign, tundevtest.Packet(netip.MustParseAddr("10.10.0.1"), here, 1000))
	}
	for name, plaintexts := range map[string][][]byte{
		"packet": single, "train": segments, "keepalive": {nil}, "train of foreign packets": foreign,
	} {
		if n := testing.AllocsPerRun(100, func() { b.receive(plaintexts) }); n != 0 {
			t.Errorf("features %+v: receiving a %s allocates %v times", f, name, n)
		}
	}
	if got := b.dev.Counts().RxPackets; got != 101*(1+40) {
		t.Errorf("%d packets were delivered, want %d: %v", got, 101*(1+40), b.env.Drops.Snapshot())
	}
}

// What the loops cost beside the device and the socket.
func BenchmarkLoops(b *testing.B) {
	bench := newBench(b, tundev.Features{Checksum: true, TSO: true, USO: true})
	here := netip.MustParseAddr("10.9.0.1")
	super := tundevtest.TCPSuper(here, bench.inner, 46, 1380)
	small := append(make([]byte, 10), tundevtest.Packet(here, bench.inner, 64)...)
	var segments [][]byte
	for i := range 40 {
		segments = append(segments, tundevtest.TCPSegment(bench.inner, here, i*1380, 1380))
	}
	single := [][]byte{tundevtest.Packet(bench.inner, here, 64)}
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"send-superpacket", func() { bench.send(super) }},
		{"send-packet", func() { bench.send(small) }},
		{"receive-train", func() { bench.receive(segments) }}, // sealing of the other side included
		{"receive-packet", func() { bench.receive(single) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.f()
			}
		})
	}
}
