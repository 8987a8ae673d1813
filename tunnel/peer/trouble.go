package peer

import (
	"net/netip"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// LoopMemory is how long a datagram of ours that came back is remembered. A loop that has been
// repaired is forgotten after that time.
const LoopMemory = 10 * time.Second

// Fail remembers why the last attempt to reach the peer failed, as a text.
func (p *Peer) Fail(now boottime.Time, wall time.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(now, wall, why)
}

// fail is Fail. Callers hold mu.
func (p *Peer) fail(now boottime.Time, wall time.Time, why string) {
	f := p.blame()
	f.lastError, f.lastErrorAt = why, now
	if past := p.history(); past.failingSince == 0 {
		past.failingSince = boottime.WallOf(wall)
	}
}

// doubtShown is how long a doubt is shown: a host that has a reason to ask for a session does so
// every five seconds.
const doubtShown = 20 * time.Second

// Doubt remembers, as a text, what a handshake suggests against the peer. It changes no state: a
// copy of an old message proves nothing about the present, and a working session continues to work.
func (p *Peer) Doubt(now boottime.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.blame()
	f.doubt, f.doubtAt = why, now
}

// NoAnswer is called when an initiation had no response in time. It returns a text that explains
// why, or "" if the peer's endpoint is not known.
func (p *Peer) NoAnswer(now boottime.Time, wall time.Time) (why string) {
	ep := p.endpoint.Load()
	if ep == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.sendFailure()
	switch {
	case p.stopped:
		return "" // it has said why
	case p.Looped(now):
		p.fail(now, wall, LoopText(ep.Addr))
	case f != nil:
		p.fail(now, wall, udp.Refusal(ep.Addr, f.Err))
	case p.said(p.Timers.InitiatedAt()) != "":
		p.fail(now, wall, saidText(ep.Addr, p.said(0)))
	case now.Sub(p.blamed().lastErrorAt) >= timers.RekeyTimeout || p.blamed().lastError == "":
		// There is no better explanation for this attempt.
		p.fail(now, wall, "no answer from "+ep.Addr.String()+
			": peer down, datagrams blocked, wrong public key for it, or ours unknown there")
	}
	return p.blamed().lastError
}

// NoteLoop notes that a datagram of ours to the peer came back. It reports whether to log that,
// which it does at most once a second.
func (p *Peer) NoteLoop(now boottime.Time) bool {
	at := &p.incident().loopedAt
	last := at.Load()
	return (last == 0 || now.Sub(boottime.Time(last)) >= time.Second) && at.CompareAndSwap(last, int64(now))
}

// Looped reports whether the peer's datagrams came back lately.
func (p *Peer) Looped(now boottime.Time) bool {
	i := p.incidents.Load()
	if i == nil {
		return false
	}
	at := boottime.Time(i.loopedAt.Load())
	return at != 0 && now.Sub(at) < LoopMemory
}

// LoopText describes a peer whose datagrams come back.
func LoopText(ep netip.AddrPort) string {
	return "datagrams to " + ep.String() + " come back to us: a route or an allowed IP leads the peer's endpoint into the tunnel itself"
}
