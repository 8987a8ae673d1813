package peer

import (
	"net/netip"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/udp"
)

// RefusedFor is how long the last refusal of the kernel to send is shown while the peer is up.
const RefusedFor = 20 * time.Second

// SendFailure is the last refusal of the kernel to send to a peer.
type SendFailure struct {
	Err error
	At  boottime.Time
}

// SendFailed notes that the kernel refused to send. It allocates at most once a second, takes no
// lock, and reports whether it made a new note.
func (p *Peer) SendFailed(err error, now boottime.Time) (fresh bool) {
	if udp.Unreachable(err) && p.refusedSince.Load() == 0 {
		p.refusedSince.CompareAndSwap(0, int64(now))
	}
	failure := &p.incident().sendFailure
	if f := failure.Load(); f != nil && now.Sub(f.At) <= time.Second && f.Err == err {
		return false
	}
	failure.Store(&SendFailure{err, now})
	return true
}

// sendFailure returns why the kernel last refused to send to the peer; nil: it never did, or it has
// accepted a handshake message since.
func (p *Peer) sendFailure() *SendFailure {
	if i := p.incidents.Load(); i != nil {
		return i.sendFailure.Load()
	}
	return nil
}

// accepted notes that the kernel accepted a datagram for the peer.
func (p *Peer) accepted() {
	if p.refusedSince.Load() != 0 {
		p.refusedSince.Store(0)
	}
}

// AfterRefusal moves the peer on to its next possible endpoint because the kernel refused to send
// to the present one, so there is no answer to wait for. first is the endpoint at which this round
// began, and tried is how many endpoints were refused in it. AfterRefusal reports whether there is
// another endpoint to try. If the kernel refused all of them, it is this host that is cut off, and
// the peer keeps its endpoint: a host that changes its own address has no routes for a moment.
func (p *Peer) AfterRefusal(first netip.AddrPort, tried int) bool {
	h := &p.Handshake
	h.Lock()
	defer h.Unlock()
	ep := p.endpoint.Load()
	if len(h.candidates) == 0 || ep == nil {
		return false
	}
	next := h.after(ep.Addr)
	if next == first || tried > len(h.candidates)+1 {
		p.SetEndpoint(udp.Endpoint{Addr: first})
		p.renewZone() // the kernel may have refused because of the link's index
		return false
	}
	p.SetEndpoint(udp.Endpoint{Addr: next})
	return true
}
