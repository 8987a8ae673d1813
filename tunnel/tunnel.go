// Package tunnel is the engine: it carries packets between devices and peers, encrypted as
// WireGuard does.
//
// It is an assembly. Data flows one way through its parts: device → lane → session → socket, and
// back (docs/architecture.md). tunnel/lane moves packets, tunnel/handshake makes sessions and runs
// the timers, tunnel/ethernet is layer 2, and tunnel/peer is what all of them know of a peer. This
// package puts them together, takes changes of the configuration (Configure) and of the host
// (SetUp, PathsChanged, …), and describes it all (Status). No part knows it.
//
// The package opens no device and no socket, sets no address or route, and reads no file: it is
// given what it uses (internal/daemon assembles it). It is safe for concurrent use.
//
// Life: New (no side effects) → Start → Close, or Suspend, after which another process continues
// its sessions (Continue). Wait returns when a device is gone or Close was
// called.
package tunnel

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/ethernet"
	"tund/tunnel/extension"
	"tund/tunnel/failover"
	"tund/tunnel/handshake"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/lane"
	"tund/tunnel/negotiate"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/peerlog"
	"tund/tunnel/staged"
	"tund/tunnel/tundev"
)

// maxWorkers bounds the goroutines that answer handshakes.
const maxWorkers = 4

// Tunnel is one running instance: one identity, its peers and its devices.
type Tunnel struct {
	// Constant after New.
	log        *zap.Logger
	failover   func(to, from string, prefixes int) // nil: nobody is told
	env        *lane.Env
	devices    []*lane.Device
	lanes      []*lane.Lane
	handshakes *handshake.Handshakes
	lan        *ethernet.LAN // nil without a TAP device
	extensions *extension.Exchange
	negotiator *negotiate.Negotiator // nil without data sessions
	loops      watchdog.Loops
	workers    []*handshake.Worker
	timers     *handshake.Worker

	// Synchronized in themselves.
	drops  drop.Counters
	peers  *peer.Table
	routes l3.Table[*peer.Peer]

	// Routers by destination; nil: allowed IPs decide. viaRoutes is what it was made of; configMu
	// guards that.
	via       atomic.Pointer[lane.Via]
	viaRoutes []ViaRoute

	judgeMu sync.Mutex // guards judge; held for comparisons
	judge   failover.Judge[*peer.Peer]
	sharing chan struct{} // capacity 1: peers share allowed IPs since the last change

	configMu sync.Mutex // serializes Configure, Rebind, SetMark and SetUp; guards what follows
	toldDown bool       // what SetUp was told last
	// The ports before the last Rebinds, by slot; that of the port in use has none.
	former [maxFormer + 1]formerPort
	// Of the loops that receive from the sockets of a slot, by lane. The slice is constant.
	receiving [][maxFormer + 1]*watchdog.Progress
	rebinds   int
	loopsOf   *sync.WaitGroup // those that receive from the sockets in use

	stop     chan struct{} // closed by Close
	stopOnce sync.Once
	running  sync.WaitGroup // all loops
	receives sync.WaitGroup // those of them that receive
	fatal    chan error     // capacity 1: the first reason to end
}

// New assembles a tunnel. Nothing runs and nothing is sent before Start.
func New(o Options) (*Tunnel, error) {
	if len(o.Conns) == 0 || len(o.Devices) == 0 {
		return nil, errors.New("tunnel: needs at least one socket and one device")
	}
	if o.Clock == nil {
		o.Clock = boottime.System()
	}
	t := &Tunnel{
		log: o.Log, failover: o.Failover, peers: peer.NewTable(), stop: make(chan struct{}), fatal: make(chan error, 1),
		sharing: make(chan struct{}, 1), loopsOf: new(sync.WaitGroup),
	}
	t.env = &lane.Env{
		Clock: o.Clock, Drops: &t.drops, Index: new(peer.Index), Waiting: new(staged.Budget), Log: peerlog.New(o.Log),
		Link: new(lane.LinkState), Routes: lane.NewRouteLoops(), Flows: lane.NewFlows(len(o.Conns)), Stop: t.stop,
		VerifyChecksums: o.VerifyInnerChecksums,
	}
	t.handshakes = handshake.New(t.env, t.peers, o.PrivateKey, o.Timestamps)
	for _, d := range o.Devices {
		if err := t.addDevice(d, o.Ethernet); err != nil {
			return nil, err
		}
	}
	t.extensions = extension.New(t.env, t.peers, t.loops.New("extensions"))
	t.extensions.OnPath(o.PathFound)
	if len(o.Ciphers) > 0 {
		t.negotiator = negotiate.New(t.env, t.extensions, len(o.Conns))
		t.negotiator.SetCosts(o.Ciphers)
	}
	t.joinControl()
	for i, c := range o.Conns {
		c.OnICMP(t.handshakes.ICMP)
		progress := [maxFormer + 1]*watchdog.Progress{
			t.loops.New("receive %d", i), t.loops.New("receive %d, after a change of port", i), t.loops.New("receive %d, after another change of port", i),
		}
		for _, idle := range progress[1:] {
			idle.Idle()
		}
		t.lanes = append(t.lanes, lane.New(i, c, progress[0]))
		t.receiving = append(t.receiving, progress)
	}
	t.timers = t.handshakes.NewWorker(t.lanes[0], t.loops.New("timers"))
	for i := range min(maxWorkers, runtime.GOMAXPROCS(0)) {
		t.workers = append(t.workers, t.handshakes.NewWorker(t.lanes[0], t.loops.New("handshakes %d", i)))
	}
	return t, nil
}

// joinControl connects the lanes with those parts of the tunnel that get control messages and
// follow sessions: the switch and the extensions.
func (t *Tunnel) joinControl() {
	frames := t.lan.Control(t.env)
	t.env.Control = func(kp *peer.Keypair, payload []byte, now boottime.Time) drop.Reason {
		if payload[0]>>4 == extension.Nibble {
			return t.extensions.Take(kp.Main(), payload, now)
		}
		return frames(kp.Peer, payload, now)
	}
	t.env.PathInUse, t.env.Unanswered = t.extensions.PathInUse, t.extensions.Unanswered
	t.env.SessionChanged = func(p *peer.Peer) {
		t.lan.SessionChanged(p)
		t.extensions.SessionChanged(p)
	}
}

// addDevice gives the tunnel a device. What a third kind needs goes here: what its frames begin
// with, and its forwarder.
func (t *Tunnel) addDevice(d Device, eo EthernetOptions) (err error) {
	dev := &lane.Device{Name: d.Name, Index: uint8(len(t.devices)), Features: d.Features, Queues: d.Queues}
	for i := range d.Queues {
		dev.Progress = append(dev.Progress, t.loops.New("send %s %d", d.Name, i))
	}
	if d.Up != nil {
		t.env.Link.Up = append(t.env.Link.Up, d.Up)
	}
	dev.SetMTU(d.MTU)
	switch d.Kind {
	case tundev.TUN:
		dev.Link = offload.IP
		dev.SetPadLimit(d.MTU)
		dev.NewForwarder = func(_ *lane.Lane, q tundev.Queue) lane.Forwarder {
			return lane.NewIPForwarder(&t.routes, &t.via, dev, q, t.extensions.ForeignSource)
		}
	case tundev.TAP:
		dev.Link, dev.Prefix = offload.Ethernet, l2.FrameHeaderLen
		if t.lan, err = ethernet.New(t.env, dev, eo, t.loops.New("switch")); err != nil {
			return fmt.Errorf("tunnel: device %s: %w", d.Name, err)
		}
	}
	for _, other := range t.devices {
		if other.Link == dev.Link {
			return fmt.Errorf("tunnel: device %s: there is one of this kind already", d.Name)
		}
	}
	t.devices = append(t.devices, dev)
	return nil
}

// Start begins to carry packets. It is called once.
func (t *Tunnel) Start() {
	t.running.Go(func() { t.env.Log.Run(t.stop) })
	t.running.Go(t.timers.RunTimers)
	t.running.Go(t.runFailover)
	for _, w := range t.workers {
		t.running.Go(w.Run)
	}
	if t.lan != nil {
		t.running.Go(func() { t.lan.Run(t.lanes[0]) })
	}
	t.running.Go(func() { t.extensions.Run(t.lanes[0]) })
	for _, l := range t.lanes {
		t.receive(l)
	}
	for _, d := range t.devices {
		for i := range d.Queues {
			loop := lane.NewSendLoop(t.env, t.lanes[i%len(t.lanes)], d, i)
			t.running.Go(func() { t.carry(d, loop) })
		}
	}
}

// carry runs the loop of one device queue. Its end is the end of the tunnel.
func (t *Tunnel) carry(d *lane.Device, loop *lane.SendLoop) {
	err := loop.Run()
	if !t.env.Stopped() {
		t.fail(fmt.Errorf("device %s: %w", d.Name, err))
	}
}

// fail ends the tunnel; the first reason is the one that Wait returns.
func (t *Tunnel) fail(err error) {
	select {
	case t.fatal <- err:
	default:
	}
}

// Wait blocks until the tunnel cannot go on, and says why; or until Close was called, and returns
// nil.
func (t *Tunnel) Wait() error {
	select {
	case err := <-t.fatal:
		return err
	case <-t.stop:
		return nil
	}
}

// Close stops the tunnel, closes its sockets and devices and returns when nothing of it runs any
// more.
func (t *Tunnel) Close() error {
	var errs []error
	t.stopOnce.Do(func() {
		close(t.stop)
		t.env.Taps.Close(captureEnds)
		t.goodbye()
		for _, d := range t.devices {
			for _, q := range d.Queues {
				errs = append(errs, q.Close())
			}
		}
		t.configMu.Lock() // a Rebind under way finishes first
		errs = append(errs, t.closeFormers())
		for _, l := range t.lanes {
			errs = append(errs, l.Conn().Close())
		}
		t.configMu.Unlock()
	})
	t.running.Wait()
	return errors.Join(errs...)
}

// goodbye tells the peers that run tund that nothing comes any more, for now or for ever.
func (t *Tunnel) goodbye() {
	t.lan.Goodbye(t.lanes[0])
	t.extensions.Goodbye(t.lanes[0])
}

// Pulse reads the progress of every loop. It takes the locks that loops hold while they work, so it
// does not return either when one of those is never given back. Valid after Start.
func (t *Tunnel) Pulse() []Beat {
	_, _ = t.peers.All(), t.env.Deadlines.Len()
	return t.loops.Beats()
}
