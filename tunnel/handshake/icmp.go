package handshake

import (
	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/udp"
)

// Bounds on ICMP messages. Anyone can send us ICMP messages about datagrams that we sent, or never
// sent.
const (
	// icmpQueueLength is the number of messages that wait between the sockets and the workers.
	icmpQueueLength = 64
	// ICMPPerSecond is the number of messages handled per second: each costs a walk over the peers.
	ICMPPerSecond = 32
)

// icmpQueue holds ICMP reports on their way from the sockets to the workers.
type icmpQueue struct {
	reports chan udp.ICMPReport
	taken   limit.Bucket
}

func newICMPQueue() *icmpQueue {
	return &icmpQueue{reports: make(chan udp.ICMPReport, icmpQueueLength)}
}

var icmpRate = limit.PerSecond(ICMPPerSecond, ICMPPerSecond)

// ICMP takes an ICMP report about a datagram of ours. It is the handler for udp.Conn.OnICMP and
// never blocks.
func (h *Handshakes) ICMP(x udp.ICMPReport) {
	select {
	case h.icmp.reports <- x:
	default:
	}
}

// allow takes one message from the budget.
func (q *icmpQueue) allow(now boottime.Time) bool { return q.taken.Take(now, 1, icmpRate) }

// reported handles one ICMP message: it notes it with the peer whose current endpoint it concerns
// (peer.NoteICMP).
func (w *Worker) reported(h udp.ICMPReport) {
	now := w.env.Clock.Now()
	if !w.icmp.allow(now) {
		return
	}
	p := w.peers.At(h.To)
	if p == nil {
		return
	}
	if ask := p.NoteICMP(h.Errno, now); ask != 0 {
		w.env.Deadlines.Arm(&p.Deadline, ask)
	}
}
