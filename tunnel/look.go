package tunnel

import (
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/protocol"
)

// look performs what is due for p and arms its next deadline. It runs on the timer loop.
func (t *Tunnel) look(p *Peer, now boottime.Time) {
	if t.down.Load() {
		return // SetUp arms those that need it
	}
	t.guard("timers", func() { t.perform(p, t.dueOf(p, now), now) })
	p.mu.Lock()
	next, ok := p.timers.Next()
	p.mu.Unlock()
	if ok {
		t.timers.arm(p, next)
	}
}

// dueOf asks the timers of p, and says why a handshake that ran out of time did. A handshake that somebody wants is
// due as well; its attempts start anew before the timers look at them (kernel send.c,
// wg_packet_send_queued_handshake_initiation).
func (t *Tunnel) dueOf(p *Peer, now boottime.Time) protocol.Actions {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.timers.Handshaking()
	wanted := p.wantHandshake.Swap(false)
	if wanted {
		p.timers.HandshakeWanted()
	}
	due := p.timers.Due(now)
	doubted, again := p.doubted(now)
	if doubted {
		p.timers.HandshakeWanted()
	}
	if wanted || doubted {
		due |= protocol.SendInitiation
	}
	if again != 0 {
		t.timers.arm(p, again)
	}
	if waiting && !p.timers.Handshaking() {
		p.count.Failed++
		p.unanswered.Add(1)
		t.explain.noAnswer(p, now)
	}
	if due&protocol.ZeroKeys != 0 {
		p.dropSessions(t)
	}
	return due
}

func (t *Tunnel) perform(p *Peer, due protocol.Actions, now boottime.Time) {
	if due&protocol.ClearSource != 0 {
		p.clearSource()
	}
	if due&protocol.GiveUp != 0 {
		p.staged.purge(&t.budget, &t.drops, drop.StagedTimeout)
	}
	if due&protocol.SendInitiation != 0 {
		t.initiate(p, now)
	}
	if due&protocol.SendKeepalive != 0 {
		t.keepalive(p, now)
	} else if s := p.current.Load(); s != nil && s.usable(now) && p.staged.count.Load() != 0 {
		t.flushStaged(p, now) // staged while the session came up
	}
}
