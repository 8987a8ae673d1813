package tunnel

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
)

// hole is a socket into which everything disappears.
type hole struct {
	closed    chan struct{}
	overflows uint64
}

func newHole() *hole { return &hole{closed: make(chan struct{})} }

func (h *hole) Receive([]udp.Train, bool) (int, error) { <-h.closed; return 0, net.ErrClosed }
func (h *hole) NewSender() udp.Sender                  { return h }
func (h *hole) OnHint(func(udp.Hint))                  {}
func (h *hole) Port() uint16                           { return 51820 }
func (h *hole) SetMark(uint32) error                   { return nil }
func (h *hole) Overflows() uint64                      { return h.overflows }
func (h *hole) Close() error                           { close(h.closed); return nil }

func (h *hole) Send(runs []udp.Run) {
	for i := range runs {
		runs[i].Err, runs[i].Sent, runs[i].SourceGone = nil, runs[i].Datagrams(), false
	}
}

// still is a clock that stands still: timers that are armed stay armed.
type still struct{}

func (still) Now() boottime.Time { return boottime.Time(time.Hour) }
func (still) Wall() time.Time    { return time.Unix(1_700_000_000, 0) }

// sinkQueue is a device that takes everything and keeps nothing.
type sinkQueue struct{ *tundevtest.Queue }

func (sinkQueue) Write([]byte) error { return nil }

// bench is one tunnel that does not run, with one peer and a session, for tests of its loops.
type bench struct {
	t     *Tunnel
	out   *outbound
	in    *inbound
	far   *session.Session // the other end of the session
	inner netip.Addr       // the peer's
	from  udp.Endpoint
	mem   []byte
	train udp.Train
	nonce session.Scratch
}

func newBench(t testing.TB, f tundev.Features) *bench {
	t.Helper()
	key := newKey(t)
	b := &bench{
		inner: netip.MustParseAddr("10.9.0.2"), mem: make([]byte, tagRoom+tundev.MaxRead, tagRoom+tundev.MaxRead+16),
		from: udp.Endpoint{Addr: netip.MustParseAddrPort("192.0.2.2:51820"), Source: netip.MustParseAddr("192.0.2.1"), Ifindex: 2},
	}
	q := sinkQueue{tundevtest.New(16, f)}
	var err error
	b.t, err = New(Options{
		PrivateKey: key, Conns: []udp.Conn{newHole()}, Clock: still{}, Log: zap.NewNop(),
		Devices: []Device{{Name: "test", Kind: tundev.TUN, Features: f, Queues: []tundev.Queue{q}, MTU: 1420}},
	})
	if err != nil {
		t.Fatal(err)
	}
	other := newKey(t).Public()
	err = b.t.Configure(Change{Peers: []PeerChange{{
		PublicKey: other, Endpoint: b.from.Addr, AllowedIPs: []netip.Prefix{netip.PrefixFrom(b.inner, 32)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	p := b.t.peer(other)
	index := b.t.index.reserve(p)
	near := noise.Keys{Send: [32]byte(keys.PublicKey{1}), Receive: [32]byte{2}, LocalIndex: index, RemoteIndex: 7, Initiator: true}
	b.far = session.New(&noise.Keys{Send: near.Receive, Receive: near.Send, LocalIndex: 7, RemoteIndex: index})
	p.mu.Lock()
	p.begin(b.t, newSlot(p, &near, still{}.Now()))
	p.mu.Unlock()
	b.out = newOutbound(b.t, b.t.lanes[0], b.t.devices[0], q, new(pulse))
	b.in = newInbound(b.t, b.t.lanes[0])
	b.in.now, b.out.now = still{}.Now(), still{}.Now()
	b.train = udp.Train{Buf: make([]byte, 65536), From: b.from}
	return b
}

// send puts a read of the device through the send loop.
func (b *bench) send(frame []byte) {
	n := copy(b.mem[tagRoom:], frame)
	b.out.packet(b.mem, n)
	b.out.flush(b.out.now)
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
	b.in.train(&b.train)
	b.in.flush()
}

// tcpSuper makes a TCP superpacket of segments times size bytes of payload, with its virtio header.
func tcpSuper(src, dst netip.Addr, segments, size int) []byte {
	p := packet(src, dst, 20+segments*size)
	p[9] = 6
	tcp := p[20:]
	tcp[1], tcp[3], tcp[12], tcp[13] = 7, 9, 5<<4, 0x10
	h := make([]byte, 10)
	h[0], h[1] = 1, 1 // NEEDS_CSUM, TCPV4
	binary.NativeEndian.PutUint16(h[2:], 40)
	binary.NativeEndian.PutUint16(h[4:], uint16(size))
	binary.NativeEndian.PutUint16(h[6:], 20)
	binary.NativeEndian.PutUint16(h[8:], 16)
	return append(h, p...)
}

// A packet, and a superpacket, costs no allocation in either direction.
func TestLoops_allocateNothingPerPacket(t *testing.T) {
	here := netip.MustParseAddr("10.9.0.1")
	for _, f := range []tundev.Features{{}, {Checksum: true, TSO: true, USO: true}} {
		b := newBench(t, f)
		for name, frame := range map[string][]byte{
			"packet":           append(make([]byte, 10), packet(here, b.inner, 1000)...),
			"TCP superpacket":  tcpSuper(here, b.inner, 46, 1380),
			"UDP superpacket":  udpSuper(here, b.inner, 40, 1200),
			"to nobody":        append(make([]byte, 10), packet(here, netip.MustParseAddr("10.10.0.1"), 1000)...),
			"no packet at all": make([]byte, 100),
		} {
			if n := testing.AllocsPerRun(100, func() { b.send(frame) }); n != 0 {
				t.Errorf("features %+v: sending a %s allocates %v times", f, name, n)
			}
		}
		if sent := b.t.order[0].txPackets.Load(); sent != 101*(1+46+40) {
			t.Errorf("%d datagrams were sent, want %d: %v", sent, 101*(1+46+40), b.t.drops.Snapshot())
		}

		single := [][]byte{packet(b.inner, here, 1000)}
		var segments, foreign [][]byte
		for i := range 40 {
			segments = append(segments, tcpSegment(b.inner, here, i*1380, 1380))
			foreign = append(foreign, packet(netip.MustParseAddr("10.10.0.1"), here, 1000))
		}
		for name, plaintexts := range map[string][][]byte{
			"packet": single, "train": segments, "keepalive": {nil}, "train of foreign packets": foreign,
		} {
			if n := testing.AllocsPerRun(100, func() { b.receive(plaintexts) }); n != 0 {
				t.Errorf("features %+v: receiving a %s allocates %v times", f, name, n)
			}
		}
		if got := b.t.devices[0].rxPackets.Load(); got != 101*(1+40) {
			t.Errorf("%d packets were delivered, want %d: %v", got, 101*(1+40), b.t.drops.Snapshot())
		}
	}
}

// tcpSegment makes one segment of a TCP flow.
func tcpSegment(src, dst netip.Addr, seq, size int) []byte {
	p := packet(src, dst, 20+size)
	p[9] = 6
	tcp := p[20:]
	tcp[1], tcp[3], tcp[12], tcp[13] = 7, 9, 5<<4, 0x10
	binary.BigEndian.PutUint32(tcp[4:], uint32(seq))
	return p
}
