package ethernet

import (
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/offload"
)

// form returns the number by which Reshape identifies a change of the VLAN tag, or 0 for a frame
// that stays unchanged.
func (f *frames) form(r l2.Rewrite) int {
	if r == (l2.Rewrite{}) {
		return 0
	}
	for i, known := range f.forms {
		if known == r {
			return i + 1
		}
	}
	f.forms = append(f.forms, r)
	return len(f.forms)
}

// Reshape implements lane.Forwarder: it changes the VLAN tag of the frame behind the virtio header
// of buf, which lies in mem, and returns the frame with its header moved along.
func (f *frames) Reshape(mem, buf []byte, form int) []byte {
	var r l2.Rewrite
	if form > 0 {
		r = f.forms[form-1]
	}
	var h offload.VirtioHeader
	h.Decode(buf)
	if h.GSOType == offload.GSONone {
		h = offload.VirtioHeader{} // Begin has completed the checksum already
	}
	if h.Flags&offload.NeedsChecksum != 0 {
		h.CsumStart = uint16(int(h.CsumStart) + r.Grow())
	}
	off := r.Apply(mem[:lane.Headroom+len(buf)], lane.Headroom+offload.VirtioHeaderLen)
	start := off - offload.VirtioHeaderLen
	h.Encode(mem[start:])
	return mem[start : lane.Headroom+len(buf)]
}

// afterMACs returns what follows the Ethernet header and up to two VLAN tags of a frame.
func afterMACs(frame []byte) []byte {
	at := 12
	for range 2 {
		if len(frame) >= at+2 && (frame[at] == 0x81 && frame[at+1] == 0 || frame[at] == 0x88 && frame[at+1] == 0xa8) {
			at += 4
		}
	}
	return frame[min(len(frame), at+2):]
}
