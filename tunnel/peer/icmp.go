package peer

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/tunnel/timers"
)

// Bounds on what ICMP messages cause. Anybody can send us such messages about datagrams of ours, or
// of his invention.
const (
	// ICMPShown is for how long the words of a message are shown.
	ICMPShown = 20 * time.Second
	// icmpSilence is for how long a peer must have been silent, and messages as well, for one to be
	// acted on. A peer that lives has answered within that time, as a rule; one that restarts is
	// there again.
	icmpSilence = time.Second
	// icmpPatience bounds the wait for messages to end: they may be forged.
	icmpPatience = 4 * time.Second
)

// icmpNote is the last ICMP message about a peer. It decides nothing but when to ask the peer
// whether it is there.
type icmpNote struct {
	errno   syscall.Errno
	at      boottime.Time // 0: there was none
	suspect boottime.Time // since when we doubt that the peer knows its session; 0: we do not
}

// NoteICMP notes an ICMP message about the peer's endpoint, as the error it means. It is a reason
// to see whether the peer still knows its session: after a restart it does not, and its host says
// so until the port is open again. Without such a message that takes 15 seconds. Nothing else comes
// of it: no session ends, no endpoint moves, and a peer that has something to say is left alone. It
// returns when to ask Due; 0: no sooner than planned.
func (p *Peer) NoteICMP(errno syscall.Errno, now boottime.Time) (ask boottime.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.icmp == nil {
		p.icmp = new(icmpNote)
	}
	p.icmp.errno, p.icmp.at = errno, now
	kp := p.current.Load()
	if kp == nil || !kp.Usable(now) || p.Timers.Handshaking() ||
		now.Sub(p.Timers.LastTraversal()) >= timers.KeepaliveTimeout {
		return 0
	}
	if p.icmp.suspect == 0 || p.icmp.suspect < boottime.Time(p.lastReceived.Load()) {
		p.icmp.suspect = now
	}
	return p.askAt()
}

// askAt returns when to begin a handshake with a peer in doubt. Callers hold mu.
func (p *Peer) askAt() boottime.Time {
	// While its host says that nobody is there, asking would only put off the next question by
	// RekeyTimeout.
	at := min(p.icmp.at, p.icmp.suspect.Add(icmpPatience))
	at = max(at, boottime.Time(p.lastReceived.Load())).Add(icmpSilence)
	return p.Timers.MayInitiate(at)
}

// doubted reports whether a handshake is due because of an ICMP message. Callers hold mu.
func (p *Peer) doubted(now boottime.Time) bool {
	if p.icmp == nil || p.icmp.suspect == 0 {
		return false
	}
	since := p.icmp.suspect
	over := boottime.Time(p.lastReceived.Load()) > since || p.Timers.Handshaking() || p.current.Load() == nil
	if !over && now < p.askAt() {
		return false
	}
	p.icmp.suspect = 0
	return !over
}

// said returns the words for the last ICMP message about the peer, if it came after since;
// otherwise "". Callers hold mu.
func (p *Peer) said(since boottime.Time) string {
	if p.icmp == nil || p.icmp.at < since {
		return ""
	}
	switch p.icmp.errno {
	case unix.ECONNREFUSED:
		return "port unreachable: nothing listens there"
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return "no route to host, says the network"
	case unix.ENETUNREACH, unix.ENONET:
		return "network unreachable, says a router"
	case unix.EACCES:
		return "forbidden by a router"
	}
	return p.icmp.errno.Error()
}
