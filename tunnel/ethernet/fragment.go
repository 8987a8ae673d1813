package ethernet

import (
	"tund/crypto/wire"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
)

// fragmenter cuts frames in two. It belongs to one loop.
type fragmenter struct{ parts [2][]byte }

// cut makes two payloads of at most limit bytes from a frame that is too long for one, to the peer
// behind p. They are of equal length, so that they are sent in one run, and are valid until the
// next call. ok is false if two are not enough.
func (f *fragmenter) cut(p *port, hops uint8, frame []byte, limit int) (first, second []byte, ok bool) {
	at, ok := l2.Cut(len(frame), limit)
	if !ok || p == nil {
		return nil, nil, false
	}
	id := p.fragments.Reserve(1)
	for i, part := range [2][]byte{frame[:at], frame[at:]} {
		b := append(f.parts[i][:0], make([]byte, l2.FragmentHeaderLen)...)
		l2.PutFragmentHeader(b, hops, len(frame), id, at, i == 1)
		b = append(b, part...)
		if len(b) < l2.FragmentHeaderLen+at { // a frame of odd length
			b = append(b, 0)
		}
		f.parts[i] = wire.Pad(b, 0, limit)
	}
	return f.parts[0], f.parts[1], true
}

// Cut implements lane.Forwarder.
func (f *frames) Cut(r *lane.Recipient, plaintext []byte) (first, second []byte, ok bool) {
	return f.fragments.cut(f.lan.port(l2.PortID(r.Peer.Port.Load())), 0, plaintext[l2.FrameHeaderLen:], r.Limit)
}
