package tunnel

import (
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/sizes"
	"tund/tunnel/l2"
	"tund/tunnel/offload"
	"tund/tunnel/protocol"
	"tund/tunnel/tundev"
)

// EthernetOptions is what a tunnel with a TAP device is told of its switch.
type EthernetOptions struct {
	Switch l2.Config
	// Fragment lets a frame that does not fit into one datagram travel as two. Without it such a frame is sent whole,
	// and the underlay has to fragment it.
	Fragment bool
	// MSSClamp lowers the MSS of TCP connections in both directions to what fits into one datagram.
	MSSClamp bool
}

// ethernet is the slow plane of the switch: it runs its clock, carries its control messages, and knows which peer is
// behind which port.
type ethernet struct {
	t   *Tunnel
	sw  *l2.Switch
	dev *device

	fragment atomic.Bool
	mssClamp atomic.Bool
	limit    atomic.Int64            // greatest number of FDB entries
	inner    atomic.Int32            // largest plaintext that fits into one datagram on the path, in bytes
	frame    atomic.Int32            // longest frame of the TAP, headers and two tags included
	peers    atomic.Pointer[[]*Peer] // by port; replaced as a whole

	greeted []boottime.Time // by port: when a silent peer was last asked for a sign of life; of run alone

	mu   sync.Mutex // guards changes of peers, and free
	free []uint32   // ports of removed peers

	pulse    *pulse               // of run
	wake     chan struct{}        // capacity 1
	messages chan ethernetMessage // control messages for the switch; full: dropped, they are repeated
	recentMu sync.Mutex           // guards recent
	recent   []Event
}

// ethernetMessage is a control message of a peer.
type ethernetMessage struct {
	from    *Peer
	payload []byte
}

// Event is something the switch wants an operator to know.
type Event struct {
	At   time.Time
	Text string
	Port string
}

// Bounds of the slow plane of the switch.
const (
	maxControlMessages = 256  // waiting
	maxControlBytes    = 2048 // of one
	maxEvents          = 64   // remembered for status
	// deadAttempts is how many initiations without an answer make an Ethernet port go down, so that what was
	// learned behind it may appear elsewhere: 10 seconds.
	deadAttempts = 2
	// greetAfter is how long a peer with a session may be silent before it is sent something that it has to answer.
	greetAfter = protocol.KeepaliveTimeout
	// defaultPath is the MTU assumed of a path of which nothing is known.
	defaultPath = 1500
	// outerOverhead is what an underlay of IPv6 adds to a plaintext.
	outerOverhead = sizes.Overhead
)

func newEthernet(t *Tunnel, d *device, o EthernetOptions, mtu int) (*ethernet, error) {
	o.Switch.MTU = mtu
	sw, err := l2.New(o.Switch, rand.Reader)
	if err != nil {
		return nil, err
	}
	e := &ethernet{
		t: t, sw: sw, dev: d, pulse: t.newPulse("switch"),
		wake: make(chan struct{}, 1), messages: make(chan ethernetMessage, maxControlMessages),
	}
	e.note(&o)
	e.peers.Store(new([]*Peer))
	e.setPath(defaultPath)
	e.setMTU(mtu)
	return e, nil
}

// note keeps what of o is not the switch's own.
func (e *ethernet) note(o *EthernetOptions) {
	e.fragment.Store(o.Fragment)
	e.mssClamp.Store(o.MSSClamp)
	limit := o.Switch.MaxEntries
	if limit <= 0 {
		limit = l2.DefaultMaxEntries
	}
	e.limit.Store(int64(limit))
}

// SetEthernet changes how frames are switched and cut, while they pass. The forwarding database keeps the size it was
// made with: EthernetRoom says how many entries it can be given.
func (t *Tunnel) SetEthernet(o EthernetOptions) error {
	if t.ethernet == nil {
		return ErrNoEthernet
	}
	t.configMu.Lock()
	defer t.configMu.Unlock()
	if err := t.ethernet.sw.SetConfig(o.Switch); err != nil {
		return err
	}
	t.ethernet.note(&o)
	t.ethernet.kick()
	return nil
}

// EthernetRoom is the greatest EthernetOptions.Switch.MaxEntries that SetEthernet takes; 0 without a TAP device.
func (t *Tunnel) EthernetRoom() int {
	if t.ethernet == nil {
		return 0
	}
	return t.ethernet.sw.Room()
}

// setPath says how large an IP packet the path to the peers takes.
func (e *ethernet) setPath(mtu int) {
	inner := max(mtu, sizes.MinIPv6MTU) - outerOverhead
	e.inner.Store(int32(inner))
	e.dev.paddingLimit.Store(int32(inner - l2.FrameHeaderLen - 14))
}

func (e *ethernet) setMTU(mtu int) {
	e.sw.SetMTU(mtu)
	e.frame.Store(int32(mtu + 14 + 8))
}

// maxFrame is the longest frame that may cross.
func (e *ethernet) maxFrame() int { return int(e.frame.Load()) }

// cutLimit is the largest plaintext for one datagram; 0 when frames are not to be cut.
func (e *ethernet) cutLimit() int {
	if !e.fragment.Load() {
		return 0
	}
	return int(e.inner.Load())
}

// mssLimit is the largest IP packet that fits into one datagram with a tagged frame around it; 0: TCP is left alone.
func (e *ethernet) mssLimit() int {
	if !e.mssClamp.Load() {
		return 0
	}
	return int(e.inner.Load()) - l2.FrameHeaderLen - 14 - tagRoom
}

// peer returns who is behind a port, or nil.
func (e *ethernet) peer(id l2.PortID) *Peer {
	if all := *e.peers.Load(); int(id) < len(all) {
		return all[id]
	}
	return nil
}

// setPort gives p a port, or the port it has another configuration.
func (e *ethernet) setPort(p *Peer, c l2.PortConfig) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := p.port.Load()
	if id == 0 {
		all := *e.peers.Load()
		if n := len(e.free); n > 0 {
			id, e.free = e.free[n-1], e.free[:n-1]
		} else {
			id = uint32(max(len(all), 1))
		}
		if id > uint32(l2.MaxPortID) {
			return nil // more peers than ports: those without Ethernet come last and lose nothing
		}
		next := make([]*Peer, max(len(all), int(id)+1))
		copy(next, all)
		next[id] = p
		e.peers.Store(&next)
		p.port.Store(id)
	}
	err := e.sw.SetPort(l2.PortID(id), c)
	e.kick()
	return err
}

// release lets go of pinned MACs that p will not have any more, so that another peer of the same change may have them.
func (e *ethernet) release(p *Peer, next []l2.MAC) {
	id := l2.PortID(p.port.Load())
	c, ok := e.sw.Port(id)
	if id == l2.LocalPort || !ok {
		return
	}
	had := len(c.MACs)
	c.MACs = slices.DeleteFunc(c.MACs, func(m l2.MAC) bool { return !slices.Contains(next, m) })
	switch len(c.MACs) {
	case had:
	case 0:
		e.sw.RemovePort(id) // rather no port for a moment than one that learns anything
	default:
		_ = e.sw.SetPort(id, c) // takes nothing that it did not have
	}
}

// removePort frees the port of a removed peer.
func (e *ethernet) removePort(p *Peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := p.port.Swap(0)
	if id == 0 {
		return
	}
	next := append([]*Peer(nil), *e.peers.Load()...)
	next[id] = nil
	e.peers.Store(&next)
	e.free = append(e.free, id)
	e.sw.RemovePort(l2.PortID(id))
}

// kick makes the switch's clock tick soon.
func (e *ethernet) kick() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take queues a control message of p for the switch.
func (e *ethernet) take(p *Peer, payload []byte) drop.Reason {
	if l2.PayloadKind(payload) != l2.KindControl || len(payload) > maxControlBytes {
		return drop.BadInnerPacket
	}
	if !p.controls.allow(e.t.clock.Now()) {
		return drop.RateLimited
	}
	select {
	case e.messages <- ethernetMessage{p, append([]byte(nil), payload...)}:
		return drop.None
	default:
		return drop.HandshakeQueue
	}
}

// run is the clock of the switch. It ends when stop is closed.
func (e *ethernet) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.pulse.rest()
		select {
		case <-stop:
			return
		case m := <-e.messages:
			e.t.guard("switch", func() { e.control(m) })
		case <-e.wake:
		case <-timer.C:
		}
		e.pulse.wake()
		e.t.guard("switch", func() { e.tick(timer) })
	}
}

// control hands the switch a message and those that wait behind it, so that one tick serves them all.
func (e *ethernet) control(m ethernetMessage) {
	now := e.t.clock.Now()
	for waiting := len(e.messages); ; waiting-- {
		e.t.drops.Add(e.sw.Control(now, l2.PortID(m.from.port.Load()), m.payload), 1)
		if waiting == 0 {
			return
		}
		m = <-e.messages
	}
}

func (e *ethernet) tick(timer *time.Timer) {
	timer.Reset(l2.TickInterval) // also when what follows panics
	now := e.t.clock.Now()
	e.followSessions(now)
	a := e.sw.Tick(now)
	timer.Reset(max(a.Next.Sub(now), time.Millisecond))
	for _, frame := range a.ToDevice {
		e.writeFrame(e.dev.queues[0], frame)
	}
	for _, m := range a.ToPeers {
		if p := e.peer(m.Port); p != nil {
			e.t.sendInner(p, pad(m.Payload, 0, 0), now)
		}
	}
	for _, ev := range a.Events {
		e.report(ev)
	}
}

// followSessions tells the switch which peers have a session, and asks for one with those that carry Ethernet: a
// port is wanted up whether or not there is anything to send.
func (e *ethernet) followSessions(now boottime.Time) {
	for id, p := range *e.peers.Load() {
		if p == nil {
			continue
		}
		s := p.current.Load()
		heard := now.Sub(boottime.Time(p.lastReceived.Load())) < greetAfter // then handshakes are lost, not the peer
		alive := s != nil && s.usable(now) && (heard || p.unanswered.Load() < deadAttempts)
		e.sw.SetPortUp(l2.PortID(id), alive, now)
		e.greet(id, p, alive, now)
		if p.ethernet.Load() && (s == nil || !s.usable(now)) && p.endpoint.Load() != nil && !p.timers.Handshaking() {
			sent := boottime.Time(p.handshakeSent.Load())
			if sent == 0 || now.Sub(sent) > protocol.RekeyTimeout {
				e.t.wantHandshake(p, now)
			}
		}
	}
}

// greet sends a peer that has been silent for long something that it has to answer: its death is noticed, and what was
// learned behind it forgotten, though no host has anything to say to it.
func (e *ethernet) greet(id int, p *Peer, alive bool, now boottime.Time) {
	if id >= len(e.greeted) {
		e.greeted = append(e.greeted, make([]boottime.Time, id+1-len(e.greeted))...)
	}
	last := max(boottime.Time(p.lastReceived.Load()), e.greeted[id])
	if alive && now.Sub(last) >= greetAfter {
		e.greeted[id] = now
		e.sw.Greet(now, l2.PortID(id))
	}
}

// goodbye tells the peers that we leave. Nothing is sent to them afterwards.
func (e *ethernet) goodbye() {
	now := e.t.clock.Now()
	for _, m := range e.sw.Goodbye(now) {
		if p := e.peer(m.Port); p != nil {
			e.t.sendInner(p, pad(m.Payload, 0, 0), now)
		}
	}
}

// writeFrame writes one frame of the switch's own to the TAP.
func (e *ethernet) writeFrame(q tundev.Queue, frame []byte) {
	b := make([]byte, offload.VirtioHeaderLen+len(frame))
	copy(b[offload.VirtioHeaderLen:], frame)
	if q.Write(b) != nil {
		e.t.drops.Add(drop.DeviceWrite, 1)
	}
}

// report tells people. The switch itself bounds how often.
func (e *ethernet) report(ev l2.Event) {
	e.t.explain.later(func() { e.t.log.Warn(ev.String(), zap.String("peer", ev.Name)) })
	e.recentMu.Lock()
	defer e.recentMu.Unlock()
	if len(e.recent) >= maxEvents {
		e.recent = e.recent[1:]
	}
	e.recent = append(e.recent, Event{At: e.t.clock.Wall(), Text: ev.String(), Port: ev.Name})
}

// events returns what was reported lately, oldest first.
func (e *ethernet) lately() []Event {
	e.recentMu.Lock()
	defer e.recentMu.Unlock()
	return append([]Event(nil), e.recent...)
}

func (e *ethernet) status(now boottime.Time) *EthernetStatus {
	s := &EthernetStatus{
		Entries: e.sw.Entries(now), Ports: e.sw.Ports(now), Events: e.lately(), Limit: int(e.limit.Load()),
		Names: map[l2.PortID]string{l2.LocalPort: e.dev.name},
	}
	for id, p := range *e.peers.Load() {
		if p != nil {
			p.mu.Lock()
			s.Names[l2.PortID(id)] = p.display()
			p.mu.Unlock()
		}
	}
	return s
}

// ErrNoEthernet is returned for a request about frames by a tunnel without a TAP device.
var ErrNoEthernet = errors.New("no TAP device")

// FlushFDB removes entries from the forwarding database and returns their number. port selects those behind a peer, or
// behind the device, by name; empty: all.
func (t *Tunnel) FlushFDB(f l2.Filter, port string) (int, error) {
	if t.ethernet == nil {
		return 0, ErrNoEthernet
	}
	if port != "" {
		id, err := t.ethernet.portNamed(port)
		if err != nil {
			return 0, err
		}
		f.Port = &id
	}
	return t.ethernet.sw.Flush(f), nil
}

// PinFDB makes a static entry behind the peer, or the device, with the name.
func (t *Tunnel) PinFDB(vlan uint16, mac l2.MAC, port string) error {
	if t.ethernet == nil {
		return ErrNoEthernet
	}
	id, err := t.ethernet.portNamed(port)
	if err != nil {
		return err
	}
	return t.ethernet.sw.Pin(t.clock.Now(), vlan, mac, id)
}

func (e *ethernet) portNamed(name string) (l2.PortID, error) {
	for id, n := range e.status(e.t.clock.Now()).Names {
		if n == name {
			return id, nil
		}
	}
	return 0, l2.ErrNoPort
}
