package peer

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/tunnel/timers"
)

// Bounds on the effects of ICMP messages. Anybody can send us such messages about datagrams that we
// sent, or that he made up.
const (
	// ICMPShown is how long the text for a message is shown.
	ICMPShown = 20 * time.Second
	// icmpSilence is how long both the peer and such messages must have been silent before a
	// message is acted on. A live peer has normally answered within that time, and one that
	// restarts is usually back.
	icmpSilence = time.Second
	// icmpPatience limits the wait for messages to cease: they may be forged.
	icmpPatience = 4 * time.Second
)

// icmpNote is the last ICMP message about a peer. It only affects when we check whether the peer is
// still there.
type icmpNote struct {
	errno   syscall.Errno
	at      boottime.Time // 0: none yet
	suspect boottime.Time // when we began to doubt that the peer knows its session; 0: no doubt
}

// NoteICMP notes an ICMP message about the peer's endpoint, given as the corresponding error. It is
// a reason to check whether the peer still knows its session: after a restart it does not, and its
// host says so until the port is open again. Without such a message, the check takes 15 seconds to
// begin. The message has no other effect: no session ends, no endpoint moves, and a peer from which
// anything arrives is left alone. NoteICMP returns when to call Due; 0 means no sooner than
// planned.
func (p *Peer) NoteICMP(errno syscall.Errno, now boottime.Time) (ask boottime.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	note := &p.incident().icmp
	note.errno, note.at = errno, now
	kp := p.current.Load()
	if kp == nil || !kp.Usable(now) || p.Timers.Handshaking() ||
		now.Sub(p.Timers.LastTraversal()) >= timers.KeepaliveTimeout {
		return 0
	}
	if note.suspect == 0 || note.suspect < boottime.Time(p.lastReceived.Load()) {
		note.suspect = now
	}
	return p.askAt(note)
}

// icmp returns the note of the last ICMP message; nil: there was no incident at all. Callers hold
// mu.
func (p *Peer) icmp() *icmpNote {
	if i := p.incidents.Load(); i != nil {
		return &i.icmp
	}
	return nil
}

// askAt returns when to begin a handshake with a peer in doubt. Callers hold mu.
func (p *Peer) askAt(note *icmpNote) boottime.Time {
	// While the peer's host reports that nobody is listening, a handshake now would only delay the
	// next one by RekeyTimeout.
	at := min(note.at, note.suspect.Add(icmpPatience))
	at = max(at, boottime.Time(p.lastReceived.Load())).Add(icmpSilence)
	return p.Timers.MayInitiate(at)
}

// doubted reports whether a handshake is due because of an ICMP message. Callers hold mu.
func (p *Peer) doubted(now boottime.Time) bool {
	note := p.icmp()
	if note == nil || note.suspect == 0 {
		return false
	}
	since := note.suspect
	over := boottime.Time(p.lastReceived.Load()) > since || p.Timers.Handshaking() || p.current.Load() == nil
	if !over && now < p.askAt(note) {
		return false
	}
	note.suspect = 0
	return !over
}

// said returns the text for the last ICMP message about the peer if it came after since, and ""
// otherwise. Callers hold mu.
func (p *Peer) said(since boottime.Time) string {
	note := p.icmp()
	if note == nil || note.at == 0 || note.at < since {
		return ""
	}
	switch note.errno {
	case unix.ECONNREFUSED:
		return "port unreachable: nothing listens there"
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return "no route to host, says the network"
	case unix.ENETUNREACH, unix.ENONET:
		return "network unreachable, says a router"
	case unix.EACCES:
		return "forbidden by a router or a firewall, on the way or at the peer"
	}
	return note.errno.Error()
}

// saidText describes a peer that has been silent since the network said words of it. It is the same
// text before the first handshake fails and after it, so that one cause has one name.
func saidText(ep netip.AddrPort, words string) string {
	return "no answer from " + ep.String() + ": " + words
}
