// Package tunnel is the engine: it carries packets between devices and peers, encrypted as WireGuard does.
//
// Data flows one way through it: device → lane → session → socket, and back (docs/architecture.md). A lane is a
// device queue and a socket with a loop for each direction, each of which runs every step of a packet to completion.
// Beside the lanes is the slow plane: workers that answer handshakes from a bounded queue, one loop for all timers,
// and one that writes messages for people. Lanes wait for nothing but their device and socket.
//
// The package opens no device and no socket, sets no address or route, and reads no file: it is given what it uses
// (internal/daemon assembles it). It is safe for concurrent use.
//
// Life: New (no side effects) → Start → Close. Wait returns when a device is gone or Close was called.
package tunnel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/offload"
	"tund/tunnel/protocol"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// Options is what a tunnel is made of.
type Options struct {
	// PrivateKey is our identity. A zero key makes a tunnel that neither starts nor answers handshakes.
	PrivateKey keys.PrivateKey
	// Conns are the sockets, one per lane, all on one UDP port. The tunnel owns and closes them.
	Conns []udp.Conn
	// Devices are the tunnel's devices, at most one of each kind. The tunnel owns and closes their queues.
	Devices []Device
	// Ethernet configures the switch of a TAP device, if there is one.
	Ethernet EthernetOptions
	// VerifyInnerChecksums makes the receive side verify the transport checksums of inner packets instead of
	// trusting the tag that covers them.
	VerifyInnerChecksums bool
	// PathHint, when not nil, is called when the network says that a peer's path takes less than was sent. Anybody
	// can say so: it is a reason to ask the kernel. It must not wait, and is called at most hintsPerSecond times a second.
	PathHint func()
	// Clock is SystemClock unless a test brings its own.
	Clock Clock
	// Log gets what an operator should know. It must not be nil.
	Log *zap.Logger
}

// Device is an open device, handed to a tunnel.
type Device struct {
	Name     string
	Kind     tundev.Kind
	Features tundev.Features
	Queues   []tundev.Queue
	MTU      int // bytes of an IP packet
	// Up, when not nil, asks the device whether it is up, quickly; lanes call it while SetUp says that it is down.
	Up func() bool
}

// Tunnel is one running instance: one identity, its peers and its devices.
type Tunnel struct {
	// Constant after New.
	clock           Clock
	log             *zap.Logger
	explain         *explainer
	devices         []*device
	lanes           []*lane
	verifyChecksums bool
	pathHint        func()    // nil: nobody asks
	pulses          []watched // of every loop
	workers         []*pulse  // of those that answer handshakes

	// Atomic.
	identity atomic.Pointer[noise.Identity]
	private  atomic.Pointer[keys.PrivateKey]
	cookies  atomic.Pointer[noise.CookieChecker]
	closed   atomic.Bool
	down     atomic.Bool // SetUp(false): nothing is sent or answered
	drops    drop.Counters
	echoes   echoes
	local    atomic.Pointer[map[netip.Addr]bool] // addresses of this host; nil: nobody told
	budget   stageBudget

	// Synchronized in themselves.
	index      indexTable
	routes     l3.Table[*Peer]
	handshakes *handshakes
	hints      *hints
	timers     *timerLoop
	slow       slowSender
	ethernet   *ethernet // nil without a TAP device

	// peersMu guards peers and order. No lane takes it.
	peersMu sync.RWMutex
	peers   map[keys.PublicKey]*Peer
	order   []*Peer // in order of configuration

	configMu sync.Mutex // serializes Configure, Rebind, SetMark and SetUp; guards toldDown
	toldDown bool       // what SetUp was told last

	stop     chan struct{} // closed by Close
	stopOnce sync.Once
	running  sync.WaitGroup
	fatal    chan error // capacity 1: the first reason to end
}

// device is a device as the loops see it.
type device struct {
	name     string
	kind     tundev.Kind
	link     offload.Link
	prefix   int // bytes of ours before each packet inside the session
	features tundev.Features
	queues   []tundev.Queue
	up       func() bool // nil: not known
	pulses   []*pulse    // of outbound, by queue
	mtu      atomic.Int32
	// paddingLimit is the IP length up to which packets read here may be padded, in bytes: at layer 3 the MTU, at
	// layer 2 what the path takes.
	paddingLimit atomic.Int32
	// routeMTUs are those that routes through the device set, ascending; nil: none do.
	routeMTUs atomic.Pointer[[]int]

	// newForwarder gives each loop its own forwarder, with its own scratch state.
	newForwarder func(*lane, tundev.Queue) forwarder

	drops drop.Counters // also counted in the tunnel's

	rxPackets, rxBytes, txPackets, txBytes atomic.Uint64 // as `ip -s link` counts: rx is what peers sent
}

// lane is one socket and, for each device, one queue.
type lane struct {
	t        *Tunnel
	id       int
	binding  atomic.Pointer[binding]
	reboundC chan struct{} // capacity 1: binding was replaced
	pulse    *pulse        // of inbound
}

// binding is a lane's socket. A new one replaces it when the UDP port changes.
type binding struct{ conn udp.Conn }

// New assembles a tunnel. Nothing runs and nothing is sent before Start.
func New(o Options) (*Tunnel, error) {
	if len(o.Conns) == 0 || len(o.Devices) == 0 {
		return nil, errors.New("tunnel: needs at least one socket and one device")
	}
	if o.Clock == nil {
		o.Clock = SystemClock()
	}
	t := &Tunnel{
		clock: o.Clock, log: o.Log, verifyChecksums: o.VerifyInnerChecksums,
		handshakes: newHandshakes(), hints: newHints(), pathHint: o.PathHint,
		peers: make(map[keys.PublicKey]*Peer), stop: make(chan struct{}), fatal: make(chan error, 1),
	}
	t.explain = newExplainer(t, o.Log)
	t.timers = newTimerLoop(t.newPulse("timers"))
	t.setIdentity(o.PrivateKey)
	for _, d := range o.Devices {
		if err := t.addDevice(d, o.Ethernet); err != nil {
			return nil, err
		}
	}
	for i, c := range o.Conns {
		l := &lane{t: t, id: i, reboundC: make(chan struct{}, 1), pulse: t.newPulse("receive %d", i)}
		c.OnHint(t.hints.put)
		l.binding.Store(&binding{c})
		t.lanes = append(t.lanes, l)
	}
	for i := range min(4, runtime.GOMAXPROCS(0)) {
		t.workers = append(t.workers, t.newPulse("handshakes %d", i))
	}
	t.slow.init(t)
	t.echoes.init()
	return t, nil
}

func (t *Tunnel) addDevice(d Device, eo EthernetOptions) error {
	dev := &device{name: d.Name, kind: d.Kind, features: d.Features, queues: d.Queues, up: d.Up}
	for i := range d.Queues {
		dev.pulses = append(dev.pulses, t.newPulse("send %s %d", d.Name, i))
	}
	dev.mtu.Store(int32(d.MTU))
	switch d.Kind {
	case tundev.TUN:
		dev.link = offload.IP
		dev.paddingLimit.Store(int32(d.MTU))
		dev.newForwarder = func(*lane, tundev.Queue) forwarder { return &packets{table: &t.routes} }
	case tundev.TAP:
		dev.link, dev.prefix = offload.Ethernet, l2.FrameHeaderLen
		e, err := newEthernet(t, dev, eo, d.MTU)
		if err != nil {
			return fmt.Errorf("tunnel: device %s: %w", d.Name, err)
		}
		t.ethernet = e
		dev.newForwarder = func(l *lane, q tundev.Queue) forwarder { return newFrames(e, l, q) }
	}
	for _, other := range t.devices {
		if other.kind == dev.kind {
			return fmt.Errorf("tunnel: device %s: there is one of this kind already", d.Name)
		}
	}
	t.devices = append(t.devices, dev)
	return nil
}

// setIdentity installs our key pair and what is derived from it.
func (t *Tunnel) setIdentity(k keys.PrivateKey) {
	id := noise.NewIdentity(k)
	t.private.Store(&k)
	t.cookies.Store(noise.NewCookieChecker(id))
	t.identity.Store(id)
}

// Start begins to carry packets. It is called once.
func (t *Tunnel) Start() {
	t.spawn(func() { t.timers.run(t.clock, t.stop, t.look) })
	t.spawn(func() { t.explain.report(t.stop) })
	for _, p := range t.workers {
		t.spawn(func() { t.work(p) })
	}
	if t.ethernet != nil {
		t.spawn(func() { t.ethernet.run(t.stop) })
	}
	for _, l := range t.lanes {
		t.spawn(func() { newInbound(t, l).run() })
	}
	for _, d := range t.devices {
		for i, q := range d.queues {
			t.spawn(func() { t.carry(newOutbound(t, t.lanes[i%len(t.lanes)], d, q, d.pulses[i])) })
		}
	}
}

// spawn runs f on a goroutine that Close waits for.
func (t *Tunnel) spawn(f func()) { t.running.Go(f) }

// carry runs the loop of one device queue. Its end is the end of the tunnel.
func (t *Tunnel) carry(o *outbound) {
	err := o.run()
	if !t.closed.Load() {
		t.fail(fmt.Errorf("device %s: %w", o.dev.name, err))
	}
}

// fail ends the tunnel; the first reason is the one that Wait returns.
func (t *Tunnel) fail(err error) {
	select {
	case t.fatal <- err:
	default:
	}
}

// Wait blocks until the tunnel cannot go on, and says why; or until Close was called, and returns nil.
func (t *Tunnel) Wait() error {
	select {
	case err := <-t.fatal:
		return err
	case <-t.stop:
		return nil
	}
}

// Close stops the tunnel, closes its sockets and devices and returns when nothing of it runs any more.
func (t *Tunnel) Close() error {
	var errs []error
	t.stopOnce.Do(func() {
		t.closed.Store(true)
		close(t.stop)
		if t.ethernet != nil {
			t.ethernet.goodbye()
		}
		for _, d := range t.devices {
			for _, q := range d.queues {
				errs = append(errs, q.Close())
			}
		}
		t.configMu.Lock() // a Rebind under way finishes first
		for _, l := range t.lanes {
			errs = append(errs, l.binding.Load().conn.Close())
		}
		t.configMu.Unlock()
	})
	t.running.Wait()
	return errors.Join(errs...)
}

// survive runs a loop of the packet path. A panic there is a bug of ours: the loop begins again, and the caller makes
// its state anew. It returns false when the loop has ended by itself.
func (t *Tunnel) survive(what string, loop func()) (again bool) {
	again = true
	t.guard(what, func() {
		loop()
		again = false
	})
	return again && !t.closed.Load()
}

// guard runs one unit of slow work. A panic there is a bug of ours: it is counted and logged, and the loop goes on.
func (t *Tunnel) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			t.drops.Add(drop.Internal, 1)
			t.log.Error("bug: panic in "+what, zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	f()
}

// jitter is random in [0, RekeyTimeoutJitterMax).
func (t *Tunnel) jitter() time.Duration { return rand.N(protocol.RekeyTimeoutJitterMax) }

// peer returns the peer with a public key, or nil.
func (t *Tunnel) peer(key keys.PublicKey) *Peer {
	t.peersMu.RLock()
	defer t.peersMu.RUnlock()
	return t.peers[key]
}

// mayAnswer reports whether a cookie reply to index can be genuine: it answers an initiation that waits for its
// response, or a response of the last seconds, by which time its index is that of a session.
func (t *Tunnel) mayAnswer(index uint32, now boottime.Time) bool {
	owner, ok := t.index.get(index)
	return ok && (owner.slot == nil ||
		!owner.slot.session.Initiator() && now.Sub(owner.slot.established) < protocol.RekeyTimeout)
}

// awaited reports whether index belongs to a handshake that waits for its response.
func (t *Tunnel) awaited(index uint32) bool {
	owner, ok := t.index.get(index)
	return ok && owner.slot == nil
}
