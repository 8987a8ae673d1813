package ethernet

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// evil is a peer with a genuine key that says whatever a test wants inside its session: no switch
// and no device stand behind it. It answers nothing by itself but hellos.
type evil struct {
	t      testing.TB
	name   string
	ns     *testnet.NS
	key    keys.PrivateKey
	addr   string
	node   uint64
	silent bool // does not say that it carries Ethernet

	conn    *net.UDPConn
	victim  net.Addr
	session *session.Session

	mu     sync.Mutex // guards all below
	sc     session.Scratch
	frames chan []byte // whole frames that came from the victim
	data   int         // plaintexts that came and were no control messages
	hellos []l2.Hello
}

// evil makes such a peer, known to the victim and not connected yet. lines are of the victim's
// section for it.
func (w *wan) evil(name string, victim *site, lines ...string) *evil {
	w.t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		w.t.Fatal(err)
	}
	e := &evil{t: w.t, name: name, ns: testnet.New(w.t), key: key, node: randomNode(w.t), frames: make(chan []byte, 4096)}
	e.addr, _ = w.plug(e.ns)
	victim.peers = append(victim.peers, &peer{name: name, key: key.Public(), lines: lines})
	return e
}

func randomNode(t testing.TB) uint64 {
	t.Helper()
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// connect makes a session with the victim, says that it carries Ethernet, and waits until the
// victim believes it.
func (e *evil) connect(victim *site) {
	e.t.Helper()
	var err error
	if e.victim, err = net.ResolveUDPAddr("udp4", victim.addr+":51820"); err != nil {
		e.t.Fatal(err)
	}
	e.ns.Do(func() { e.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(e.addr)}) })
	if err != nil {
		e.t.Fatal(err)
	}
	_ = e.conn.SetWriteBuffer(8 << 20)
	e.handshake(victim.Key.Public())
	stop, done := make(chan struct{}), make(chan struct{})
	go e.listen(done)
	go e.keep(stop)
	e.t.Cleanup(func() { close(stop); _ = e.conn.Close(); <-done })
	if e.silent {
		e.payload(nil)
		return
	}
	e.hello(true)
	testnet.Await(e.t, victim.Name+" carries Ethernet with "+e.name, startLimit, func() bool { return carries(victim.Peer(e.name)) })
}

func (e *evil) handshake(victim keys.PublicKey) {
	e.t.Helper()
	id := noise.NewIdentity(e.key)
	remote := noise.NewRemote(id, victim)
	macs := noise.NewMacs(remote)
	var msg [wire.InitiationSize]byte
	pending, err := id.Initiate(&msg, remote, uint32(e.node), noise.NewTimestamp(time.Now()))
	if err != nil {
		e.t.Fatal(err)
	}
	macs.Add(msg[:], boottime.Now())
	if _, err := e.conn.WriteTo(msg[:], e.victim); err != nil {
		e.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	_ = e.conn.SetReadDeadline(time.Now().Add(startLimit))
	for {
		n, _, err := e.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			e.t.Fatalf("%s: no answer to its handshake: %v", e.name, err)
		}
		if kind, ok := wire.Kind(buf[:n]); !ok || kind != wire.TypeResponse {
			continue
		}
		k, err := id.Finish(pending, remote, keys.PresharedKey{}, buf[:n])
		if err != nil {
			e.t.Fatal(err)
		}
		e.session = session.New(&k)
		_ = e.conn.SetReadDeadline(time.Time{})
		return
	}
}

// keep sends a keepalive now and then, so that the victim does not take a silent attacker for dead.
func (e *evil) keep(stop chan struct{}) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			e.payload(nil)
		}
	}
}

// listen takes what the victim sends until the socket is closed.
func (e *evil) listen(done chan struct{}) {
	defer close(done)
	parts := l2.NewReassembler(65535, nil)
	var sc session.Scratch
	buf, plain := make([]byte, 65536), make([]byte, 65536)
	for {
		n, _, err := e.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if kind, ok := wire.Kind(buf[:n]); !ok || kind != wire.TypeTransport {
			continue
		}
		if n, ok := e.session.Open(plain, buf[:n], &sc); ok && n > 0 {
			e.take(plain[:n], parts)
		}
	}
}

func (e *evil) take(plain []byte, parts *l2.Reassembler) {
	if l2.PayloadKind(plain) == l2.KindControl {
		if plain[1] == 1 { // a hello
			h, ok := l2.ParseHello(plain[l2.ControlHeaderLen:])
			e.mu.Lock()
			e.hellos = append(e.hellos, h)
			e.mu.Unlock()
			if ok && h.Answer && !e.silent {
				e.hello(false)
			}
		}
		return
	}
	e.mu.Lock()
	e.data++
	e.mu.Unlock()
	h, frame, reason := l2.ParseFrame(plain)
	if reason == drop.None && h.Fragment {
		frame, reason = parts.Add(boottime.Now(), 1, &h, frame)
	}
	if reason != drop.None || frame == nil {
		return
	}
	select {
	case e.frames <- append([]byte(nil), frame...):
	default:
	}
}

func (e *evil) hello(answer bool) {
	h := l2.Hello{Version: 1, Ethernet: true, Answer: answer, MTU: 1500, Node: e.node}
	e.payload(h.Append(nil))
}

// payload sends an inner payload, padded.
func (e *evil) payload(plain []byte) {
	for len(plain)%16 != 0 {
		plain = append(plain, 0)
	}
	e.exactly(plain)
}

// exactly sends an inner payload as it is.
func (e *evil) exactly(plain []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	counter, ok := e.session.Reserve(1)
	if !ok {
		return
	}
	buf := make([]byte, len(plain)+wire.TransportOverhead)
	n := e.session.Seal(buf, counter, plain, &e.sc)
	addr := e.victim.(*net.UDPAddr).AddrPort()
	// The socket may be closed already.
	_, _ = e.conn.WriteToUDPAddrPort(buf[:n], netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
}

// frame sends an Ethernet frame.
func (e *evil) frame(frame []byte) {
	b := make([]byte, l2.FrameHeaderLen, l2.FrameHeaderLen+len(frame)+16)
	l2.PutFrameHeader(b, 0, len(frame))
	e.payload(append(b, frame...))
}

// announce claims MACs of the untagged LAN in a control message.
func (e *evil) announce(macs ...l2.MAC) {
	b := []byte{2 << 4, 3, 0, byte(8 * len(macs))}
	for _, m := range macs {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		m.Put(b[len(b)-6:])
	}
	e.payload(b)
}
