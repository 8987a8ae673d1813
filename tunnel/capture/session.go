package capture

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tund/internal/boottime"
	"tund/internal/capture/filter"
	"tund/internal/capture/stream"
)

const (
	// drainEvery is how often the rings are drained. A lane that woke the reader would make a
	// system call for it. It bounds what whole packets cost: a ring each time, 250 MB/s.
	drainEvery = 4 * time.Millisecond
	// drainSeldom is the same for captures that copy at most littleSnap bytes of each packet. In
	// this time a ring has room for 400,000 packets a second, and the reader of a fast flow takes
	// the processor from its lanes a quarter as often.
	drainSeldom = 16 * time.Millisecond
	littleSnap  = 128
	// markAfter is how often the reader hears how far it has got while packets come.
	markAfter = 32 * time.Millisecond
	// markEvery is how often the reader hears of what was lost, and that the capture runs, while
	// nothing is captured.
	markEvery = time.Second
	// quietAfter is how long after the last packets the reader hears that nothing is outstanding,
	// so that it need not hold them back until markEvery.
	quietAfter = 100 * time.Millisecond
	// settle is how long a record may take from the reading of the clock, once for each batch, to
	// its ring.
	settle = 20 * time.Millisecond
)

// Bounds on the snap length, in bytes.
const (
	// MinSnap has room for the headers of Ethernet, a VLAN, IPv4 and UDP.
	MinSnap = 48
	// MaxSnap is a whole superpacket.
	MaxSnap = 65535 + 32
)

// Options says what a capture takes.
type Options struct {
	// Start is sent to the reader first.
	Start stream.Start
	// Devices has for each of Start.Interfaces the device of Packet, or Underlay. Packets of other
	// devices are not taken.
	Devices []int
	Filter  *filter.Filter // nil: everything
	Secrets bool           // the keys of handshakes as well
	// Clock is that of the packet path.
	Clock boottime.Clock
}

// Underlay stands for the network that carries our datagrams, among Options.Devices.
const Underlay = -1

// maxInterfaces is the number of interfaces that a capture may have: two devices and the underlay.
const maxInterfaces = 3

// Session is one capture.
type Session struct {
	taps    *Taps
	start   stream.Start
	filter  *filter.Filter
	snap    int
	secrets bool
	devices []int // by interface
	outer   int   // index of the interface of the underlay; -1: not taken
	clock   boottime.Clock
	rings   []*ring

	ended   chan struct{} // closed by end
	endOnce sync.Once
	why     string // set before ended is closed
}

// Start begins a capture, of at most maxInterfaces. It runs until Stop, or until the Taps are
// closed.
func (t *Taps) Start(o Options) (*Session, error) {
	s := &Session{
		taps: t, start: o.Start, filter: o.Filter, snap: o.Start.SnapLength, secrets: o.Secrets, clock: o.Clock,
		devices: o.Devices, outer: slices.Index(o.Devices, Underlay), ended: make(chan struct{}),
	}
	if n := len(o.Devices); n == 0 || n > maxInterfaces || n != len(o.Start.Interfaces) {
		return nil, fmt.Errorf("a capture of %d devices", n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.room(); err != nil {
		return nil, err
	}
	for i := range t.writers + 1 {
		s.rings = append(s.rings, newRing(i))
	}
	s.rings[0].secrets = s.secrets
	t.replace(append(t.sessions(), s))
	return s, nil
}

// room says why no further capture may begin. Callers hold mu.
func (t *Taps) room() error {
	switch {
	case t.closed:
		return ErrClosed
	case len(t.sessions()) >= maxSessions:
		return ErrBusy
	}
	return nil
}

// sessions returns a copy of the list of those that run. Callers hold mu.
func (t *Taps) sessions() []*Session {
	if set := t.running.Load(); set != nil {
		return slices.Clone(set.sessions)
	}
	return nil
}

// replace makes a list of sessions those that run. Callers hold mu.
func (t *Taps) replace(sessions []*Session) {
	if len(sessions) == 0 {
		t.running.Store(nil)
		return
	}
	set := &Set{sessions: sessions}
	for _, s := range sessions {
		set.outer = set.outer || s.outer >= 0
		set.secrets = set.secrets || s.secrets
	}
	t.running.Store(set)
}

// Close ends all captures, and admits no further ones.
func (t *Taps) Close(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, s := range t.sessions() {
		s.end(why)
	}
	t.replace(nil)
}

// Stop ends the capture, for a reason that the reader is told, unless it has ended. Packets that
// the path is handing over may still be written to its rings, where nobody reads them.
func (s *Session) Stop(why string) {
	s.taps.mu.Lock()
	defer s.taps.mu.Unlock()
	s.taps.replace(slices.DeleteFunc(s.taps.sessions(), func(o *Session) bool { return o == s }))
	s.end(why)
}

// end tells the reader that nothing more will come.
func (s *Session) end(why string) {
	s.endOnce.Do(func() {
		s.why = why
		close(s.ended)
	})
}

// Ended is closed when the capture has ended.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// deviceOf returns the interface that a device is; ok is false if it is not captured.
func (s *Session) deviceOf(device uint8) (index uint8, ethernet, ok bool) {
	for i, d := range s.devices {
		if d == int(device) {
			return uint8(i), s.start.Interfaces[i].Kind == stream.KindTAP, true
		}
	}
	return 0, false, false
}

// ring returns the ring of a writer.
func (s *Session) ring(w Writer) *ring {
	if int(w) < len(s.rings) {
		return s.rings[w]
	}
	return s.rings[0] // of a loop that began after the capture
}

// Stream passes the records of the capture to send, until the capture or ctx ends or send fails;
// send borrows what it is given, and has to be done with it when it returns. flush is called when
// nothing more lies ready. While send takes its time, packets are lost. It is called once: no keys
// are left in the rings when it returns, and none are put there.
func (s *Session) Stream(ctx context.Context, send func([]byte) error, flush func() error) error {
	defer s.rings[0].forget()
	start := s.start // lanes read it
	start.Offset = s.mark().Offset
	if err := send(stream.AppendJSON(nil, stream.KindStart, start)); err != nil {
		return err
	}
	tick := time.NewTicker(s.pace())
	defer tick.Stop()
	var marked boottime.Time
	some := false // packets were sent since the last mark
	open := false // the reader holds packets back, perhaps
	for ended := false; ; {
		now := s.clock.Now()
		any, err := s.drain(send)
		if err != nil {
			return err
		}
		some = some || any
		quiet := now.Sub(marked)
		if some && quiet >= markAfter || ended || quiet >= markEvery || open && quiet >= quietAfter {
			marked, open, some = now, some, false
			if err := s.sendMark(now, ended, send); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			ended = true // what is in the rings is still sent
		case <-tick.C:
		}
	}
}

// pace is the time between two looks at the rings.
func (s *Session) pace() time.Duration {
	if s.snap <= littleSnap {
		return drainSeldom
	}
	return drainEvery
}

// sendMark sends how far the reader has got what the rings had at a time, and whether that is all.
func (s *Session) sendMark(now boottime.Time, ended bool, send func([]byte) error) error {
	mark := s.mark()
	mark.Until = int64(now.Add(-settle))
	b := stream.AppendJSON(nil, stream.KindMark, mark)
	if ended {
		b = stream.Append(b, stream.Header{Kind: stream.KindEnd}, []byte(s.why))
	}
	return send(b)
}

// drain sends what lies in the rings.
func (s *Session) drain(send func([]byte) error) (any bool, err error) {
	for _, r := range s.rings {
		some, err := r.drain(send)
		if err != nil {
			return true, err
		}
		any = any || some
	}
	return any, nil
}

// Counts returns how many packets were taken so far, and how many were lost.
func (s *Session) Counts() (taken, lost uint64) {
	m := s.mark()
	for i := range m.Taken {
		taken, lost = taken+m.Taken[i], lost+m.Lost[i]
	}
	return taken, lost
}

// mark returns the counters of the capture, and the offset of the clock.
func (s *Session) mark() stream.Mark {
	n := len(s.start.Interfaces)
	m := stream.Mark{Taken: make([]uint64, n), Lost: make([]uint64, n)}
	for _, r := range s.rings {
		for i := range n {
			m.Taken[i] += r.taken[i].Load()
			m.Lost[i] += r.lost[i].Load()
		}
	}
	m.Offset = s.clock.Wall().UnixNano() - int64(s.clock.Now())
	return m
}
