package handshake

import (
	"time"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
)

// manyAttempts is the number of unanswered attempts in a row that is worth a log message.
const manyAttempts = 2

// wakeTimers is called when the earliest deadline has moved forward.
func (h *Handshakes) wakeTimers() {
	select {
	case h.timersWake <- struct{}{}:
	default: // one wake-up is enough
	}
}

// RunTimers handles each peer when its deadline comes, until the tunnel ends. One worker runs it.
func (w *Worker) RunTimers() {
	sleep := time.NewTimer(time.Hour)
	defer sleep.Stop()
	for {
		now := w.env.Clock.Now()
		p, wait := w.env.Deadlines.Next(now)
		if p != nil {
			w.due(p, now)
			w.progress.Busy()
		}
		if p != nil || wait == 0 {
			if w.env.Stopped() {
				return
			}
			continue
		}
		sleep.Reset(wait)
		w.progress.Idle()
		select {
		case <-w.env.Stop:
			return
		case <-w.timersWake:
		case <-sleep.C:
		}
		w.progress.Busy()
	}
}

// due performs the actions that are due for p and arms its next deadline.
func (w *Worker) due(p *peer.Peer, now boottime.Time) {
	if w.env.Link.KnownDown() {
		return // setting the link up arms the peers that need it
	}
	w.env.Guard("timers", func() { w.perform(p, now) })
	if next, ok := p.NextDeadline(); ok {
		w.env.Deadlines.Arm(&p.Deadline, next)
	}
}

func (w *Worker) perform(p *peer.Peer, now boottime.Time) {
	due, unanswered := p.Due(now)
	if unanswered {
		w.noAnswer(p, now)
	}
	if due&timers.ZeroKeys != 0 {
		p.DropSessions(w.env.Index)
		w.env.SessionChanged(p)
	}
	if due&timers.ClearSource != 0 {
		p.ClearSource()
	}
	if due&timers.GiveUp != 0 {
		w.purge(p)
	}
	if due&timers.SendInitiation != 0 {
		w.initiate(p, now)
	}
	if due&timers.SendKeepalive != 0 {
		w.keepalive(p, now)
	} else if p.Staged.Len() != 0 && p.SendingControl(0, now) != nil {
		// Packets staged while the session came up, or while it waited for confirmation.
		w.out.SendStaged(p, now)
	}
}

// noAnswer is called when an initiation had no response in time.
func (w *Worker) noAnswer(p *peer.Peer, now boottime.Time) {
	w.env.SessionChanged(p)
	why := p.NoAnswer(now, w.env.Clock.Wall())
	// This is not the attempt count of the timers, which continuing traffic resets.
	if n := p.Unanswered(); n >= manyAttempts && why != "" {
		w.env.Log.Peer(p, now, "handshake failed: "+why, zap.Int("attempts", n))
	}
}
