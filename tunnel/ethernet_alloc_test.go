package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// loopConn is a socket whose sends become trains that a test hands to another tunnel. It allocates
// nothing.
type loopConn struct {
	trains []udp.Train
	sent   int
}

func newLoopConn() *loopConn {
	c := &loopConn{trains: make([]udp.Train, 128)}
	for i := range c.trains {
		c.trains[i].Buf = make([]byte, 65536)
	}
	return c
}

func (c *loopConn) Receive([]udp.Train, bool) (int, error) { return 0, nil }
func (c *loopConn) NewSender() udp.Sender                  { return c }
func (c *loopConn) OnICMP(func(udp.ICMPReport))            {}
func (c *loopConn) Port() uint16                           { return 1 }
func (c *loopConn) SetMark(uint32) error                   { return nil }
func (c *loopConn) Overflows() uint64                      { return 0 }
func (c *loopConn) Features() udp.Features                 { return udp.Features{} }
func (*loopConn) StopReceiving()                           {}

func (c *loopConn) Close() error { return nil }

func (c *loopConn) Send(runs []udp.Run) {
	for i := range runs {
		t := &c.trains[c.sent]
		t.N, t.Segment = copy(t.Buf, runs[i].Buf), runs[i].Segment
		t.From = udp.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 51820)}
		c.sent++
	}
}

// lastWrites is a device queue that keeps what was written last.
type lastWrites struct {
	n, bytes int
	last     [65600]byte
	length   int
}

func (q *lastWrites) Read([]byte, bool) (int, error) { return 0, nil }
func (q *lastWrites) Close() error                   { return nil }
func (q *lastWrites) Write(frame []byte) error {
	q.n++
	q.bytes += len(frame) - tundev.HeaderSize
	q.length = copy(q.last[:], frame)
	return nil
}

// wired is a tunnel with a TAP whose loops a test drives by hand, with a session to each peer.
type wired struct {
	tun   *Tunnel
	conn  *loopConn
	queue *lastWrites
	out   *lane.SendLoop
	in    *lane.ReceiveLoop
	mem   []byte // of the packet that the host sends
	now   boottime.Time
}

func newWired(t *testing.T, o EthernetOptions) *wired {
	t.Helper()
	w := &wired{conn: newLoopConn(), queue: &lastWrites{}, now: boottime.Now()}
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	w.tun, err = New(Options{
		PrivateKey: key, Conns: []udp.Conn{w.conn}, Log: zap.NewNop(), Ethernet: o,
		Devices: []Device{{
			Name: "tap", Kind: tundev.TAP, Queues: []tundev.Queue{w.queue}, MTU: 1500,
			Features: tundev.Features{Checksum: true, TSO: true, USO: true},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.out = lane.NewSendLoop(w.tun.env, w.tun.lanes[0], w.tun.devices[0], 0)
	w.mem = make([]byte, lane.Headroom+tundev.MaxRead+offload.MaxPadding)
	w.in = lane.NewReceiveLoop(w.tun.env, w.tun.lanes[0], w.tun.devices)
	return w
}

// joined gives two tunnels a session and an Ethernet port for each other.
func joined(t *testing.T, a, b *wired, configA, configB l2.PortConfig) {
	t.Helper()
	k := noise.Keys{Send: [32]byte{1, byte(len(a.tun.peers.All()))}, Receive: [32]byte{2, byte(len(b.tun.peers.All()))}, Initiator: true}
	for i, side := range []struct {
		w      *wired
		other  *wired
		config l2.PortConfig
	}{{a, b, configA}, {b, a, configB}} {
		side.config.Ethernet = true
		err := side.w.tun.Configure(Change{Peers: []PeerChange{{
			PublicKey: side.other.tun.handshakes.PublicKey(), Ethernet: &side.config,
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 51820),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	pa, pb := a.tun.peers.Get(b.tun.handshakes.PublicKey()), b.tun.peers.Get(a.tun.handshakes.PublicKey())
	k.LocalIndex, k.RemoteIndex = a.tun.env.Index.Reserve(pa), b.tun.env.Index.Reserve(pb)
	mirror := noise.Keys{Send: k.Receive, Receive: k.Send, LocalIndex: k.RemoteIndex, RemoteIndex: k.LocalIndex}
	for _, side := range []struct {
		w *wired
		p *peer.Peer
		k *noise.Keys
	}{{a, pa, &k}, {b, pb, &mirror}} {
		kp, own := peer.NewKeypair(side.p, side.k, side.w.now), side.w.tun.handshakes.PublicKey()
		if side.k.Initiator {
			side.p.Finished(side.w.tun.env.Index, kp, own, peer.Event{Now: side.w.now})
		} else {
			side.p.Responded(side.w.tun.env.Index, kp, own, peer.Event{Now: side.w.now})
			side.p.Confirm(side.w.tun.env.Index, kp, side.w.now, time.Time{})
		}
	}
	for range 3 { // hellos and their answers
		for _, side := range []struct {
			from, to *wired
			p, q     *peer.Peer
		}{{a, b, pa, pb}, {b, a, pb, pa}} {
			sw := side.from.tun.lan.Switch()
			sw.SetPortUp(l2.PortID(side.p.Port.Load()), true, side.from.now)
			for _, m := range sw.Tick(side.from.now).ToPeers {
				if m.Port == l2.PortID(side.p.Port.Load()) {
					side.to.tun.lan.Switch().Control(side.to.now, l2.PortID(side.q.Port.Load()), m.Payload)
				}
			}
		}
	}
}

// carry sends what the host of w wrote, and hands what is sent to the next tunnel.
func (w *wired) carry(t testing.TB, frame []byte, to *wired) {
	w.conn.sent = 0
	w.out.Carry(w.mem, copy(w.mem[lane.Headroom:], frame), w.now)
	w.out.Flush()
	if w.conn.sent == 0 {
		t.Fatalf("nothing was sent: %v, port %v", w.tun.drops.Snapshot(), w.tun.lan.Switch().Ports(w.now)[0].Drops)
	}
	to.take(w.conn)
}

func (w *wired) take(conn *loopConn) {
	for i := range conn.sent {
		w.in.Carry(&conn.trains[i], w.now)
	}
	w.in.Flush()
}

var hostA, hostB = l2.MAC(0x02000000000a), l2.MAC(0x02000000000b)

// ethernetFrame makes a frame with a virtio header in front. With segment it is a TCP superpacket
// of count segments.
func ethernetFrame(dst, src l2.MAC, vlan uint16, segment, count int) []byte {
	head := make([]byte, 12)
	dst.Put(head)
	src.Put(head[6:])
	if vlan != 0 {
		head = append(head, 0x81, 0, byte(vlan>>8), byte(vlan))
	}
	head = append(head, 0x08, 0)
	ip := make([]byte, 40+segment*count)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 7, 0, 1, 10, 7, 0, 2})
	binary.BigEndian.PutUint16(ip[10:], headerChecksum(ip[:20]))
	ip[32], ip[33] = 5<<4, 0x10
	for i := range ip[40:] {
		ip[40+i] = byte(i * 7)
	}
	h := offload.VirtioHeader{
		Flags: offload.NeedsChecksum, GSOType: offload.GSOTCPv4, HdrLen: uint16(len(head) + 40), GSOSize: uint16(segment),
		CsumStart: uint16(len(head) + 20), CsumOffset: 16,
	}
	if count == 1 {
		h.GSOType, h.GSOSize = offload.GSONone, 0
	}
	buf := make([]byte, offload.VirtioHeaderLen, 70000)
	h.Encode(buf)
	return append(append(buf, head...), ip...)
}

// headerChecksum is RFC 1071, word by word.
func headerChecksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

// Nothing is allocated for a frame on its way, in any of its forms.
func TestEthernet_noAllocationPerFrame(t *testing.T) {
	for _, c := range []struct {
		name           string
		vlan           uint16
		a, b           l2.PortConfig
		segment, count int
		dst            l2.MAC
		arrivesIn      uint16
	}{
		{"small", 0, l2.PortConfig{}, l2.PortConfig{}, 100, 1, hostB, 0},
		{"whole superpacket", 0, l2.PortConfig{}, l2.PortConfig{}, 1340, 47, hostB, 0},
		{"one frame in two parts", 0, l2.PortConfig{}, l2.PortConfig{}, 1460, 1, hostB, 0},
		{"superpacket in parts", 0, l2.PortConfig{}, l2.PortConfig{}, 1460, 44, hostB, 0},
		{"broadcast", 0, l2.PortConfig{}, l2.PortConfig{}, 100, 1, l2.Broadcast, 0},
		{"trunk", 10, l2.PortConfig{VLANs: []uint16{10}}, l2.PortConfig{VLANs: []uint16{10}}, 1340, 47, hostB, 10},
		{"tag taken out", 10, l2.PortConfig{PVID: 10}, l2.PortConfig{}, 1340, 47, hostB, 0},
		{"tag put in", 0, l2.PortConfig{}, l2.PortConfig{PVID: 20}, 1340, 47, hostB, 20},
		{"tag replaced, in parts", 10, l2.PortConfig{PVID: 10}, l2.PortConfig{PVID: 20}, 1456, 44, hostB, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := EthernetOptions{Fragment: true, MSSClamp: true, Switch: l2.Config{BroadcastLimit: -1}}
			a, b := newWired(t, o), newWired(t, o)
			joined(t, a, b, c.a, c.b)
			// The hosts are known: each has spoken.
			greeting := ethernetFrame(l2.Broadcast, hostB, c.arrivesIn, 10, 1)
			b.carry(t, greeting, a)
			frame := ethernetFrame(c.dst, hostA, c.vlan, c.segment, c.count)
			send := func() { a.carry(t, frame, b) }
			for range 64 { // tables grow to what they need, and then no further
				send()
			}
			b.queue.n, b.queue.bytes = 0, 0
			if n := testing.AllocsPerRun(20, send); n != 0 {
				t.Errorf("%v allocations for %d segments of %d bytes, want 0", n, c.count, c.segment)
			}
			head := 14 + 40
			if c.arrivesIn != 0 {
				head += 4
			}
			if payload := b.queue.bytes - b.queue.n*head; payload != 21*c.segment*c.count {
				t.Errorf("%d bytes of payload in %d writes arrived, want %d (%v; %v)", payload, b.queue.n, 21*c.segment*c.count,
					a.tun.drops.Snapshot(), b.tun.drops.Snapshot())
			}
			got := b.queue.last[offload.VirtioHeaderLen:b.queue.length]
			if vlan := vlanOfFrame(got); vlan != c.arrivesIn {
				t.Errorf("arrives in VLAN %d, want %d", vlan, c.arrivesIn)
			}
			if tail := frame[len(frame)-50:]; !bytes.HasSuffix(got, tail) {
				t.Errorf("ends with %x, want %x", got[len(got)-50:], tail)
			}
		})
	}
}

func vlanOfFrame(frame []byte) uint16 {
	if frame[12] != 0x81 {
		return 0
	}
	return binary.BigEndian.Uint16(frame[14:]) & 0xfff
}

// Nor on a hub, which passes frames from one peer to another.
func TestEthernet_noAllocationPerFrameOnAHub(t *testing.T) {
	for _, segment := range []int{100, 1340, 1460} {
		t.Run(fmt.Sprint(segment), func(t *testing.T) {
			o := EthernetOptions{Fragment: true, MSSClamp: true, Switch: l2.Config{BroadcastLimit: -1}}
			a, b := newWired(t, o), newWired(t, o)
			o.Switch.Hub = true
			hub := newWired(t, o)
			joined(t, a, hub, l2.PortConfig{}, l2.PortConfig{})
			joined(t, b, hub, l2.PortConfig{}, l2.PortConfig{})
			b.carry(t, ethernetFrame(l2.Broadcast, hostB, 0, 10, 1), hub)
			a.take(hub.conn)
			frame := ethernetFrame(hostB, hostA, 0, segment, 20)
			send := func() {
				hub.conn.sent = 0
				a.carry(t, frame, hub)
				b.take(hub.conn)
			}
			for range 64 { // tables grow to what they need, and then no further
				send()
			}
			b.queue.n, b.queue.bytes = 0, 0
			if n := testing.AllocsPerRun(20, send); n != 0 {
				t.Errorf("%v allocations for 20 segments of %d bytes, want 0", n, segment)
			}
			if payload := b.queue.bytes - b.queue.n*54; payload != 21*segment*20 {
				t.Errorf("%d bytes of payload in %d writes arrived, want %d (hub %v; b %v)", payload, b.queue.n, 21*segment*20,
					hub.tun.drops.Snapshot(), b.tun.drops.Snapshot())
			}
		})
	}
}

// A frame that waits for nothing but its other half survives a change of the MTU, and longer frames
// then pass.
func TestEthernet_longerFramesAfterTheMTUGrew(t *testing.T) {
	o := EthernetOptions{Fragment: true}
	a, b := newWired(t, o), newWired(t, o)
	joined(t, a, b, l2.PortConfig{}, l2.PortConfig{})
	b.carry(t, ethernetFrame(l2.Broadcast, hostB, 0, 10, 1), a)
	a.carry(t, ethernetFrame(hostB, hostA, 0, 1460, 1), b)
	if b.queue.n != 1 {
		t.Fatalf("%d frames arrived at MTU 1500, want 1", b.queue.n)
	}
	for _, w := range []*wired{a, b} {
		w.tun.SetMTU("tap", 2000)
		w.now = w.now.Add(time.Second)
	}
	joinedAgain(a, b)
	a.carry(t, ethernetFrame(hostB, hostA, 0, 1900, 1), b)
	if b.queue.n != 2 {
		t.Errorf("a frame of 1,954 bytes did not arrive at MTU 2000: %v; %v", b.tun.drops.Snapshot(), b.tun.drops.Get(drop.OversizeFrame))
	}
}

// joinedAgain carries the hellos that a change causes.
func joinedAgain(a, b *wired) {
	for _, side := range [][2]*wired{{a, b}, {b, a}, {a, b}} {
		from, to := side[0], side[1]
		for _, m := range from.tun.lan.Switch().Tick(from.now).ToPeers {
			to.tun.lan.Switch().Control(to.now, 1, m.Payload)
		}
	}
}
