package tunnel

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/sizes"
	"tund/tunnel/protocol"
	"tund/tunnel/udp"
)

// Bounds on hints. Anybody can send us ICMP messages about datagrams of ours, or of his invention.
const (
	// maxHintsWaiting is the number of hints between the sockets and the slow plane.
	maxHintsWaiting = 64
	// hintsPerSecond is how many are looked at: each costs a walk over the peers.
	hintsPerSecond = 32
	// hintSilence is for how long a peer must have been silent, and hints as well, for a hint to be acted on. A peer
	// that lives has answered within that time, as a rule; one that restarts is there again.
	hintSilence = time.Second
	// hintPatience bounds the wait for hints to end: they may be forged.
	hintPatience = 4 * time.Second
	// hintWords is for how long the words of a hint are shown.
	hintWords = 20 * time.Second
	// minPathMTU is the least MTU that is believed.
	minPathMTU = sizes.MinIPv6MTU
)

// hints is what ICMP said, on its way from the sockets to the slow plane.
type hints struct {
	queue  chan udp.Hint
	second atomic.Int64
	count  atomic.Int64
}

// note is the last hint about a peer. It decides nothing but when to ask the peer whether it is there.
type note struct {
	errno   syscall.Errno
	mtu     int           // 0: not told
	at      boottime.Time // 0: there was none
	suspect boottime.Time // since when we doubt that the peer knows its session; 0: we do not
}

func newHints() *hints { return &hints{queue: make(chan udp.Hint, maxHintsWaiting)} }

// put is the handler of the sockets; it never waits.
func (h *hints) put(x udp.Hint) {
	select {
	case h.queue <- x:
	default:
	}
}

// allow takes one from the budget.
func (h *hints) allow(now boottime.Time) bool {
	second := int64(now) / int64(time.Second)
	if old := h.second.Load(); old != second && h.second.CompareAndSwap(old, second) {
		h.count.Store(0)
	}
	return h.count.Add(1) <= hintsPerSecond
}

// hinted takes a hint. It names the peer whose current endpoint it is about, and then it is a reason to see whether the
// peer still knows its session: after a restart it does not, and its host says so until the port is open again. Without
// hints that takes 15 seconds. Nothing else comes of it: no session ends, no endpoint moves, and a peer that has
// something to say is left alone.
func (t *Tunnel) hinted(h udp.Hint) {
	now := t.clock.Now()
	if !t.hints.allow(now) {
		return
	}
	p := t.peerAt(h.To)
	if p == nil {
		return
	}
	p.mu.Lock()
	p.note.errno, p.note.mtu, p.note.at = h.Errno, h.MTU, now
	tooBig := h.Errno == unix.EMSGSIZE
	s := p.current.Load()
	if !tooBig && s != nil && s.usable(now) && !p.timers.Handshaking() && now.Sub(p.timers.LastTraversal()) < protocol.KeepaliveTimeout {
		if p.note.suspect == 0 || p.note.suspect < boottime.Time(p.lastReceived.Load()) {
			p.note.suspect = now
		}
		t.timers.arm(p, p.askAt())
	}
	p.mu.Unlock()
	if tooBig {
		t.drops.Add(drop.TooBig, 1)
		if t.pathHint != nil {
			t.pathHint()
		}
	}
}

// peerAt returns the peer whose endpoint is addr. A zone does not count: it may be a name there and a number here.
func (t *Tunnel) peerAt(addr netip.AddrPort) *Peer {
	t.peersMu.RLock()
	order := t.order
	t.peersMu.RUnlock()
	for _, p := range order {
		if ep := p.endpoint.Load(); ep != nil && ep.Addr.Port() == addr.Port() &&
			ep.Addr.Addr().WithZone("") == addr.Addr().WithZone("") {
			return p
		}
	}
	return nil
}

// askAt returns when to begin a handshake with a peer in doubt.
func (p *Peer) askAt() boottime.Time {
	// While its host says that nobody is there, asking would only put off the next question by RekeyTimeout.
	at := min(p.note.at, p.note.suspect.Add(hintPatience))
	at = max(at, boottime.Time(p.lastReceived.Load())).Add(hintSilence)
	if sent := boottime.Time(p.handshakeSent.Load()); sent != 0 {
		at = max(at, sent.Add(protocol.RekeyTimeout))
	}
	return at
}

// doubted reports whether a handshake is due because of a hint, and otherwise when to ask again; 0: not at all.
// Callers hold mu.
func (p *Peer) doubted(now boottime.Time) (due bool, again boottime.Time) {
	since := p.note.suspect
	if since == 0 {
		return false, 0
	}
	if boottime.Time(p.lastReceived.Load()) > since || p.timers.Handshaking() || p.current.Load() == nil {
		p.note.suspect = 0
		return false, 0
	}
	if at := p.askAt(); now < at {
		return false, at
	}
	p.note.suspect = 0
	return true, 0
}

// said returns the words for the last hint about the peer, if it came after since; otherwise "". Callers hold mu.
func (p *Peer) said(since boottime.Time) string {
	if p.note.at == 0 || p.note.at < since {
		return ""
	}
	switch p.note.errno {
	case unix.ECONNREFUSED:
		return "port unreachable: nothing listens there"
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return "no route to host, says the network"
	case unix.ENETUNREACH, unix.ENONET:
		return "network unreachable, says a router"
	case unix.EACCES:
		return "forbidden by a router"
	case unix.EMSGSIZE:
		if p.note.mtu < minPathMTU {
			return "datagrams are larger than the path takes"
		}
		return "datagrams are larger than the path takes, which is " + strconv.Itoa(p.note.mtu)
	}
	return p.note.errno.Error()
}
