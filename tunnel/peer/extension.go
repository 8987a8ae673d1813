package peer

import (
	"sync/atomic"

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
