package ethernet

import (
	"tund/internal/boottime"
	"tund/tunnel/capture"
	"tund/tunnel/peer"
)

// captureRelayed hands a frame that a hub passes from one peer to others to those who capture, if
// there are any: as it came, unless the device gets it too and the lane does that, and once for
// each peer that gets it.
func (f *frames) captureRelayed(from *peer.Peer, frame []byte, now boottime.Time) {
	captures := f.lan.env.Taps.Load()
	if captures == nil {
		return
	}
	one := capture.Packet{Data: frame, Device: f.lan.dev.Index, In: true, Peer: from, Time: now}
	if !f.verdict.ToDevice {
		captures.Packet(0, &one)
	}
	one.In = false
	for _, out := range f.verdict.Out {
		if port := f.lan.port(out.Port); port != nil {
			one.Peer = port.peer
			captures.Packet(0, &one)
		}
	}
}
