// Package ethernet is layer 2 of a tunnel: it connects the learning switch (tunnel/l2), which
// handles ports and frames, to the lanes, which handle peers and plaintexts. frames is the part
// that a lane uses (lane.Forwarder). LAN is the slow part: it runs the clock of the switch,
// transports its control messages, assigns ports to peers, and tells the switch which peers have a
// session.
//
// Nothing outside this package and l2 interprets frames. The package opens no device, makes no
// sessions, and takes no forwarding decisions, which are the switch's. All methods of LAN are safe
// for concurrent use, including those of a nil *LAN, which stands for a tunnel without a TAP device
// and has no ports.
package ethernet

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/sizes"
	"tund/internal/watchdog"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/tundev"
)

// Options configures the switch of a tunnel with a TAP device.
type Options struct {
	Switch l2.Config
	// Fragment lets a frame that does not fit into one datagram travel as two. Without it, such a
	// frame is sent whole, and the underlay has to fragment it.
	Fragment bool
	// MSSClamp lowers the MSS of TCP connections in both directions to what fits into one datagram.
	MSSClamp bool
	// Follow, if not nil, is told what happens at the switch, by the goroutine of its clock. It
	// must not wait for anything. SetOptions does not change it.
	Follow func(News)
}

// LAN is the Ethernet side of a tunnel.
type LAN struct {
	env      *lane.Env
	sw       *l2.Switch
	dev      *lane.Device
	progress *watchdog.Progress // of the goroutine of Run
	news     func(News)         // nil: nobody follows

	fragment atomic.Bool
	mssClamp atomic.Bool
	limit    atomic.Int64 // greatest number of FDB entries
	inner    atomic.Int32 // largest plaintext that fits into one datagram on the path, in bytes
	frame    atomic.Int32 // longest frame of the TAP, headers and two tags included

	bridge   Bridge
	ports    atomic.Pointer[[]*port] // by id; replaced as a whole
	sessions *timers.Heap[port]      // ports whose session is due to be checked

	// Guards changes of ports, and what follows. Lock order: before the switch's own.
	mu       sync.Mutex
	free     []l2.PortID               // of removed peers
	carrying int                       // ports that carry frames
	pinned   map[l2.MAC]keys.PublicKey // the peer that each pinned address belongs to

	wake     chan struct{} // capacity 1
	messages chan message  // for the switch; dropped when full, since they are repeated
}

const (
	// defaultPath is the MTU assumed for a path about which nothing is known.
	defaultPath = 1500
	// macLen and tagLen are the sizes of an Ethernet header and of a VLAN tag, in bytes.
	macLen, tagLen = 14, 4
)

// New returns the LAN behind a device with the given MTU, and makes it the device's forwarder. It
// starts nothing; see Run.
func New(env *lane.Env, d *lane.Device, o Options, progress *watchdog.Progress) (*LAN, error) {
	o.Switch.MTU, o.Switch.Name = d.MTU(), d.Name
	sw, err := l2.New(o.Switch, rand.Reader)
	if err != nil {
		return nil, err
	}
	e := &LAN{
		env: env, sw: sw, dev: d, progress: progress, news: o.Follow,
		wake: make(chan struct{}, 1), messages: make(chan message, maxMessages),
		pinned: make(map[l2.MAC]keys.PublicKey),
	}
	e.sessions = timers.NewHeap[port](e.kick)
	sw.SetHeard(func(id l2.PortID) boottime.Time {
		if p := e.peer(id); p != nil {
			return p.LastReceived()
		}
		return 0
	})
	e.bridge = Bridge{e, make(chan BridgeRequest, maxRequests)}
	e.note(&o)
	e.ports.Store(new([]*port))
	e.SetPath(defaultPath)
	e.SetMTU(d.MTU())
	d.NewForwarder = func(l *lane.Lane, q tundev.Queue) lane.Forwarder { return &frames{lan: e, lane: l, queue: q} }
	return e, nil
}

// note stores those options that are not the switch's own.
func (e *LAN) note(o *Options) {
	e.fragment.Store(o.Fragment)
	e.mssClamp.Store(o.MSSClamp)
	limit := o.Switch.MaxEntries
	if limit <= 0 {
		limit = l2.DefaultMaxEntries
	}
	e.limit.Store(int64(limit))
}

// ErrNoEthernet is returned when a tunnel without a TAP device gets a request about frames.
var ErrNoEthernet = errors.New("no TAP device")

// SetOptions changes how frames are switched and cut, while traffic continues. The forwarding
// database keeps the size with which it was made: Room tells how many entries it can have.
func (e *LAN) SetOptions(o Options) error {
	if e == nil {
		return ErrNoEthernet
	}
	o.Switch.Name = e.dev.Name
	if err := e.sw.SetConfig(o.Switch); err != nil {
		return err
	}
	e.note(&o)
	e.kick()
	return nil
}

// Room is the greatest Options.Switch.MaxEntries that SetOptions accepts.
func (e *LAN) Room() int {
	if e == nil {
		return 0
	}
	return e.sw.Room()
}

// SetPath sets the size in bytes of the largest IP packet that the path to the peers carries.
// Frames that would need a larger one are cut.
func (e *LAN) SetPath(mtu int) {
	if e == nil {
		return
	}
	inner := max(mtu, sizes.MinIPv6MTU) - sizes.Overhead
	e.inner.Store(int32(inner))
	e.dev.SetPadLimit(inner - l2.FrameHeaderLen - macLen)
}

// SetMTU notes a new MTU of the TAP, in bytes.
func (e *LAN) SetMTU(mtu int) {
	e.sw.SetMTU(mtu)
	e.frame.Store(int32(mtu + macLen + 2*tagLen))
}

// maxFrame is the length of the longest frame that may pass.
func (e *LAN) maxFrame() int { return int(e.frame.Load()) }

// innerOf is the largest plaintext that fits into one datagram to p, in bytes: as the interfaces
// say, or less if the path to p has been found to be narrower.
func (e *LAN) innerOf(p *peer.Peer) int32 {
	inner := e.inner.Load()
	if found := int32(p.Extension.Limit()); found != 0 {
		inner = min(inner, found)
	}
	return inner
}

// cutLimit is the largest plaintext for one datagram to p, or 0 if frames are not to be cut.
func (e *LAN) cutLimit(p *peer.Peer) int {
	if !e.fragment.Load() {
		return 0
	}
	return int(e.innerOf(p))
}

// mssLimit is the largest IP packet that fits into a plaintext of inner bytes inside a tagged
// frame, or 0 if TCP is left unchanged.
func (e *LAN) mssLimit(inner int32) int {
	if !e.mssClamp.Load() {
		return 0
	}
	return int(inner) - l2.FrameHeaderLen - macLen - tagLen
}

// kick makes the clock of the switch tick soon.
func (e *LAN) kick() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run is the clock of the switch. It sends the switch's messages through the socket of the lane,
// and ends with the tunnel.
func (e *LAN) Run(l *lane.Lane) {
	out := lane.NewBatch(e.env, l, lane.MaxDatagram).MayWait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.progress.Idle()
		select {
		case <-e.env.Stop:
			return
		case m := <-e.messages:
			e.env.Guard("switch", func() { e.control(m) })
		case <-e.wake:
		case <-timer.C:
		}
		e.progress.Busy()
		e.env.Guard("switch", func() { e.tick(timer, out) })
	}
}

func (e *LAN) tick(timer *time.Timer, out *lane.Batch) {
	timer.Reset(l2.TickInterval) // set again even if the following code panics
	now := e.env.Clock.Now()
	next := e.followSessions(now)
	a := e.sw.Tick(now)
	timer.Reset(max(min(a.Next.Sub(now), next), time.Millisecond))
	for _, frame := range a.ToDevice {
		e.writeFrame(e.dev.Queues[0], frame)
	}
	e.sendAll(out, a.ToPeers, now)
	if a.Flush {
		e.bridge.request(BridgeRequest{Flush: true})
	}
	for i := range a.Ask {
		e.bridge.request(BridgeRequest{Ask: &a.Ask[i]})
	}
	e.tell(&a)
}

// sendAll sends messages of the switch to peers.
func (e *LAN) sendAll(out *lane.Batch, messages []l2.Message, now boottime.Time) {
	for _, m := range messages {
		if p := e.peer(m.Port); p != nil {
			out.Transmit(p, wire.Pad(m.Payload, 0, 0), now)
		}
	}
	out.Flush(now)
}

// Goodbye tells the peers, through the socket of the lane, that we are leaving. Nothing is sent to
// them afterwards.
func (e *LAN) Goodbye(l *lane.Lane) {
	if e == nil {
		return
	}
	now := e.env.Clock.Now()
	e.sendAll(lane.NewBatch(e.env, l, lane.MaxDatagram).MayWait(), e.sw.Goodbye(now), now)
}

// writeFrame writes a frame that the switch itself made to the TAP.
func (e *LAN) writeFrame(q tundev.Queue, frame []byte) {
	b := make([]byte, offload.VirtioHeaderLen+len(frame))
	copy(b[offload.VirtioHeaderLen:], frame)
	if q.Write(b) != nil {
		e.env.Drops.Add(drop.DeviceWrite, 1)
		e.dev.CountDrop(drop.DeviceWrite, 1)
	}
}
