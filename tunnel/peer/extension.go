package peer

import (
	"sync/atomic"
	"time"

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
	// Rate bounds the control messages of the peer.
	Rate limit.Bucket
	// TooBig bounds the ICMP messages about packets too large for the path to the peer. It belongs
	// to tunnel/lane.
	TooBig limit.Bucket
	// Deadline is when tunnel/extension looks at the peer.
	Deadline timers.Deadline[Peer]

	mode     atomic.Uint32
	features atomic.Uint32
	liveness atomic.Int64 // ns
	report   atomic.Pointer[PathReport]
	path     atomic.Int32 // path MTU in bytes; 0: not known
	limit    atomic.Int32 // see Limit
	large    atomic.Bool  // large datagrams have been sent since TakeLarge
}

// PathMTU returns the size of the largest IP packet that the path to the peer has been found to
// carry, in bytes; 0: that is not known.
func (e *Extension) PathMTU() int { return int(e.path.Load()) }

// Limit returns the size of the largest plaintext that fits into such a packet, in bytes; 0: none
// is known.
func (e *Extension) Limit() int { return int(e.limit.Load()) }

// SetPath notes what the path has been found to carry, and reports whether that is new.
func (e *Extension) SetPath(mtu, limit int) (changed bool) {
	old := e.path.Swap(int32(mtu))
	return e.limit.Swap(int32(limit)) != int32(limit) || old != int32(mtu)
}

// NoteLarge notes that a large datagram was sent to the peer. It reports whether that is the first
// since TakeLarge, to a peer that may be probed. Lanes call it once for each run.
func (e *Extension) NoteLarge() (first bool) {
	return e.features.Load() != 0 && !e.large.Load() && e.large.CompareAndSwap(false, true)
}

// Large reports whether large datagrams have been sent since TakeLarge.
func (e *Extension) Large() bool { return e.large.Load() }

// TakeLarge reports the same, and begins anew.
func (e *Extension) TakeLarge() bool { return e.large.Swap(false) }

// PathReport is what echo requests have shown of the path to a peer.
type PathReport struct {
	RTT  time.Duration // averaged; 0: not known
	Loss float64       // share of the last echo requests, at most 32, that had no answer: 0 to 1
}

// Liveness returns the interval in which the peer is asked whether it is alive; 0: it is not.
func (e *Extension) Liveness() time.Duration { return time.Duration(e.liveness.Load()) }

// SetLiveness changes the interval, and reports whether it is new.
func (e *Extension) SetLiveness(every time.Duration) (changed bool) {
	return time.Duration(e.liveness.Swap(int64(every))) != every
}

// Report returns what is known of the path, or nil.
func (e *Extension) Report() *PathReport { return e.report.Load() }

// SetReport notes what is known of the path. The report does not change afterwards.
func (e *Extension) SetReport(r *PathReport) { e.report.Store(r) }

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
