// Package capture copies packets to programs that want to look at them (`tunctl capture`).
//
// Taps is where the packet path hands over what it carries. While nobody captures, Load returns
// nil, which costs the path one atomic load. While somebody does, the path evaluates the filter and
// copies the first bytes of each packet that it takes into a ring, which was allocated when the
// capture began; a packet for which the ring has no room is counted and not copied. The path never
// waits for a reader, and neither allocates nor makes system calls for it.
//
// Each loop of a lane has a ring of its own in each capture; whoever else sends (handshake workers,
// timers, the switch) shares one. A reader drains the rings in turn (Session.Stream) and gets
// records (internal/capture/stream), those of different rings in no particular order.
//
// The package decides nothing about packets, keeps none, and knows no file format. Taps and Session
// are safe for concurrent use; a Writer belongs to one goroutine.
package capture

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"tund/internal/boottime"
	"tund/internal/capture/filter"
	"tund/internal/capture/stream"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// maxSessions is how many captures may run at once. Each has a ring of 1 MB for each loop, and
// costs the path a filter and a copy for each packet.
const maxSessions = 4

// maxWriters is how many loops may have a ring of their own; those beyond share one. A machine with
// 16 lanes and two devices has 48.
const maxWriters = 63

// Errors of Start.
var (
	// ErrBusy: as many captures run as may.
	ErrBusy = fmt.Errorf("%d captures are running already", maxSessions)
	// ErrClosed: the tunnel is ending.
	ErrClosed = errors.New("the instance is stopping")
)

// Taps is where packets can be captured. The zero value is ready.
type Taps struct {
	running atomic.Pointer[Set]

	mu      sync.Mutex // guards what follows; held for assignments
	writers int
	free    []Writer // of the loops that have ended
	closed  bool
}

// Writer names one goroutine that hands over packets: the number of its ring. The zero Writer is
// that of the goroutines that share one.
type Writer uint8

// NewWriter returns a Writer for one loop of a lane. Captures that run already have no ring for it,
// unless another loop had it before; the loop shares one until they end.
func (t *Taps) NewWriter() Writer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		w := t.free[n-1]
		t.free = t.free[:n-1]
		return w
	}
	if t.writers < maxWriters {
		t.writers++
		return Writer(t.writers)
	}
	return 0
}

// EndWriter takes back the Writer of a loop that has ended, for the next one: the loops of a socket
// end when another takes its place. The loop hands over no packet any more.
func (t *Taps) EndWriter(w Writer) {
	if w == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, w)
}

// Load returns the captures that run, or nil if there are none.
func (t *Taps) Load() *Set { return t.running.Load() }

// Set is the captures that run at one moment. It does not change.
type Set struct {
	sessions []*Session
	outer    bool
	secrets  bool
}

// Outer reports whether any of the captures takes datagrams of the underlay.
func (s *Set) Outer() bool { return s.outer }

// Secrets reports whether any of the captures takes the keys of handshakes.
func (s *Set) Secrets() bool { return s.secrets }

// Packet is one packet or superpacket that the path hands over.
type Packet struct {
	Data     []byte // borrowed for the call: an IP packet, or a frame
	Device   uint8  // which device it was read from, or is meant for
	In       bool   // from the peer
	Waits    bool   // for a session
	Reason   drop.Reason
	Peer     *peer.Peer // nil: there is none
	Segments int        // packets of which it consists; 0 means 1
	Time     boottime.Time
}

// Packet offers a packet to each capture.
func (s *Set) Packet(w Writer, p *Packet) {
	for _, one := range s.sessions {
		one.packet(w, p)
	}
}

// packet copies a packet into the writer's ring if the filter takes it and there is room.
func (s *Session) packet(w Writer, p *Packet) {
	index, ethernet, ok := s.deviceOf(p.Device)
	if !ok {
		return
	}
	r := s.ring(w)
	if !r.lock(false) {
		r.lost[index].Add(1)
		return
	}
	defer r.writing.Unlock()
	if s.filter != nil {
		r.view.Reset(p.Data)
		r.view.Ethernet, r.view.In, r.view.Dropped = ethernet, p.In, p.Reason != drop.None
		if !r.match(s.filter, p.Peer) {
			return
		}
	}
	h := stream.Header{
		Kind: stream.KindPacket, Interface: index, Time: int64(p.Time), Length: uint32(len(p.Data)),
		Segments: uint16(p.Segments), Reason: uint16(p.Reason),
	}
	if p.In {
		h.Flags |= stream.In
	}
	if p.Waits {
		h.Flags |= stream.Waits
	}
	r.write(&h, p.Peer, p.Data[:min(len(p.Data), s.snap)], nil)
}

// match applies a filter to what the ring's view has.
func (r *ring) match(f *filter.Filter, p *peer.Peer) bool {
	if p != nil {
		r.view.HasPeer, r.view.Peer = true, filter.Key(p.PublicKey())
	}
	ok := f.Match(&r.view)
	r.view.Data = nil // it was borrowed
	return ok
}

// write writes a packet, with the name of its peer if the reader does not know it, or counts that
// it was lost.
func (r *ring) write(h *stream.Header, p *peer.Peer, first, second []byte) {
	slot, ok := r.slot(p)
	h.Peer = slot
	if !ok || !r.put(h, first, second) {
		r.lost[h.Interface].Add(1)
		return
	}
	r.taken[h.Interface].Add(1)
}
