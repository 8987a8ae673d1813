package peer

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/timers"
)

// ExtensionMode says whether a peer is asked for what tund peers do beyond WireGuard
// (tunnel/extension).
type ExtensionMode uint32

// The modes.
const (
	// ExtensionsOff: never; the peer is treated as plain WireGuard.
	ExtensionsOff ExtensionMode = iota
	// ExtensionsAuto: in the first session, and later if it has answered.
	ExtensionsAuto
	// ExtensionsOn: in every session.
	ExtensionsOn
)

// Extension is what a peer does beyond WireGuard, as far as lanes and status need it. Everything is
// atomic. Except for the mode, it is written only by tunnel/extension.
type Extension struct {
	mode     atomic.Uint32
	features atomic.Uint32
	limit    atomic.Int32 // see Limit
	large    atomic.Bool  // large datagrams have been sent since TakeLarge
	// What a peer needs that has, or has had, a session; nil: nothing yet.
	more atomic.Pointer[extensionState]
}

// extensionState is the part of Extension that only peers need which have, or have had, a session.
type extensionState struct {
	rate, tooBig limit.Bucket
	deadline     timers.Deadline[Peer]
	liveness     atomic.Int64 // ns
	report       atomic.Pointer[PathReport]
	path         atomic.Int32 // path MTU in bytes; 0: not known
	narrow       atomic.Bool  // see Narrow
	// Boottime at which the first packet was sent since NoteHeard; 0: none.
	waiting atomic.Int64
}

// extended returns the state of a peer that has, or is to have, a session.
func (p *Peer) extended() *extensionState {
	e := &p.Extension
	if e.more.Load() == nil {
		s := new(extensionState)
		s.deadline.Owner = p
		e.more.CompareAndSwap(nil, s)
	}
	return e.more.Load()
}

// Extended reports whether anything has been noted of what the peer does beyond WireGuard, or is to
// be done about it.
func (e *Extension) Extended() bool { return e.more.Load() != nil }

// ControlRate bounds the control messages of the peer.
func (p *Peer) ControlRate() *limit.Bucket { return &p.extended().rate }

// TooBig bounds the ICMP messages about packets too large for the path to the peer. It belongs to
// tunnel/lane.
func (p *Peer) TooBig() *limit.Bucket { return &p.extended().tooBig }

// ExtensionDeadline is when tunnel/extension looks at the peer.
func (p *Peer) ExtensionDeadline() *timers.Deadline[Peer] { return &p.extended().deadline }

// PathMTU returns the size of the largest IP packet that the path to the peer has been found to
// carry, in bytes; 0: that is not known.
func (e *Extension) PathMTU() int {
	if s := e.more.Load(); s != nil {
		return int(s.path.Load())
	}
	return 0
}

// Limit returns the size of the largest plaintext that fits into such a packet, in bytes; 0: none
// is known.
func (e *Extension) Limit() int { return int(e.limit.Load()) }

// Narrow reports whether not even datagrams of the least size that every path is taken to carry
// arrive at the peer, although small ones do.
func (e *Extension) Narrow() bool {
	s := e.more.Load()
	return s != nil && s.narrow.Load()
}

// SetPath notes what the path has been found to carry, and reports whether that is new.
func (p *Peer) SetPath(mtu, limit int, narrow bool) (changed bool) {
	s := p.extended()
	old, was := s.path.Swap(int32(mtu)), s.narrow.Swap(narrow)
	return p.Extension.limit.Swap(int32(limit)) != int32(limit) || old != int32(mtu) || was != narrow
}

// NoteSent notes that packets were sent. It reports whether they are the first since NoteHeard, to
// a peer that may be asked whether it gets them. Lanes call it once for each run.
func (e *Extension) NoteSent(now boottime.Time) (first bool) {
	if e.features.Load() == 0 {
		return false
	}
	s := e.more.Load()
	return s != nil && s.waiting.Load() == 0 && s.waiting.CompareAndSwap(0, int64(now))
}

// NoteHeard notes that packets came, or the answer to the question whether the peer gets ours.
func (e *Extension) NoteHeard() {
	if s := e.more.Load(); s != nil && s.waiting.Load() != 0 {
		s.waiting.Store(0)
	}
}

// Waiting returns when the first packet was sent since NoteHeard; 0: none, or the peer is not known
// as tund.
func (e *Extension) Waiting() boottime.Time {
	if s := e.more.Load(); s != nil {
		return boottime.Time(s.waiting.Load())
	}
	return 0
}

// NoteLarge notes that a large datagram was sent to the peer. It reports whether that is the first
// since TakeLarge, to a peer that may be probed. Lanes call it once for each run.
func (e *Extension) NoteLarge() (first bool) {
	return e.features.Load() != 0 && !e.large.Load() && e.large.CompareAndSwap(false, true)
}

// Large reports whether large datagrams have been sent since TakeLarge.
func (e *Extension) Large() bool { return e.large.Load() }

// TakeLarge reports the same, and starts over.
func (e *Extension) TakeLarge() bool { return e.large.Swap(false) }

// PathReport is what echo requests have shown of the path to a peer.
type PathReport struct {
	RTT  time.Duration // averaged; 0: not known
	Loss float64       // share of the last echo requests, at most 32, that had no answer: 0 to 1
	// Share of the datagrams that the path loses all the time, 0 to 1, as liveness has shown; 0:
	// it is not known to lose any.
	Lossy float64
}

// Liveness returns the interval in which the peer is asked whether it is alive; 0: it is not.
func (e *Extension) Liveness() time.Duration {
	if s := e.more.Load(); s != nil {
		return time.Duration(s.liveness.Load())
	}
	return 0
}

// SetLiveness changes the interval, and reports whether it is new.
func (p *Peer) SetLiveness(every time.Duration) (changed bool) {
	if every == 0 && !p.Extension.Extended() {
		return false
	}
	return time.Duration(p.extended().liveness.Swap(int64(every))) != every
}

// Report returns what is known of the path, or nil.
func (e *Extension) Report() *PathReport {
	if s := e.more.Load(); s != nil {
		return s.report.Load()
	}
	return nil
}

// SetReport notes what is known of the path; nil: nothing. The report does not change afterwards.
func (p *Peer) SetReport(r *PathReport) {
	if r != nil || p.Extension.Extended() {
		p.extended().report.Store(r)
	}
}

// Mode returns whether the peer is asked for extensions.
func (e *Extension) Mode() ExtensionMode { return ExtensionMode(e.mode.Load()) }

// SetMode changes whether the peer is asked for extensions, and reports whether that is new.
func (e *Extension) SetMode(m ExtensionMode) (changed bool) {
	return ExtensionMode(e.mode.Swap(uint32(m))) != m
}

// Features returns what the peer takes part in, as its hello said (extension.Features); 0: it is
// not known as tund.
func (e *Extension) Features() uint32 { return e.features.Load() }

// SetFeatures notes what the hello of the peer said.
func (e *Extension) SetFeatures(f uint32) { e.features.Store(f) }
