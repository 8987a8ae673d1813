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
	// Deadline is when tunnel/extension looks at the peer.
	Deadline timers.Deadline[Peer]

	mode     atomic.Uint32
	features atomic.Uint32
	liveness atomic.Int64 // ns
	report   atomic.Pointer[PathReport]
}

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
