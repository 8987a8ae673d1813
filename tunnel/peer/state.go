package peer

import (
	"time"

	"tund/internal/boottime"
	"tund/tunnel/timers"
)

// State is the verdict on one peer.
type State string

// The states of a peer.
const (
	// There is a session, and everything sent was answered or needs no answer.
	StateUp         State = "up"
	StateConnecting State = "connecting" // a handshake is under way
	StateIdle       State = "idle"       // there has been no traffic for it yet
	StateDown       State = "down"       // attempts to reach it failed
)

// Bounds within which a peer with a session counts as up even if it cannot be reached.
const (
	// silentHandshakes is how many handshakes in a row may have no response before a silent peer is
	// down. Single ones are lost now and then; with this value, a peer that dies is down 25 seconds
	// after the first packet that it does not answer.
	silentHandshakes = 2
	// refusedTooLong is how long the kernel may refuse everything that we send to a peer before the
	// peer is down: routes and addresses come and go within seconds while a link changes.
	refusedTooLong = 15 * time.Second
	// UnconfirmedResponses is how many responses in a row may lead to no session before a peer is
	// down that has none, or from which nothing else comes. The peer asked for each of them, at
	// least 5 seconds after the one before.
	UnconfirmedResponses = 3
)

// State returns the state of the peer.
func (p *Peer) State(now boottime.Time) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state(now)
}

// state is the only rule by which a peer is judged. Keys that are still valid do not make it up,
// since they only show that it was there up to three minutes ago. Callers hold mu.
func (p *Peer) state(now boottime.Time) State {
	if p.refused(now) || p.silent() || p.dead() || p.unheard() || p.isMute(now) {
		return StateDown
	}
	if cur := p.current.Load(); cur != nil && cur.Usable(now) {
		return p.stateInSession(now)
	}
	failed := p.blamed().lastError != ""
	switch {
	case p.stopped, p.Timers.GaveUp(), p.Timers.Handshaking() && p.unanswered.Load() > 0 && failed,
		p.unconfirmed >= UnconfirmedResponses:
		return StateDown
	case p.Timers.Handshaking(), p.Timers.Wanted(), p.next != nil && p.next.Usable(now):
		return StateConnecting
	case failed:
		return StateDown
	}
	return StateIdle
}

// Alive reports whether the peer is worth sending to: it has a session and is not known to be
// unreachable. With liveness, a peer that dies ceases to be alive after three intervals; without,
// 25 seconds after the first packet that it does not answer. A peer is alive again as soon as
// anything authenticated comes from it. It takes the peer's lock: it is not for each packet.
func (p *Peer) Alive(now boottime.Time) bool { return p.State(now) == StateUp }

// Dead notes that echo requests sent since the given time had no answer: the peer is down until
// anything authenticated comes. It reports whether that is new. why says it in words.
func (p *Peer) Dead(since boottime.Time, why string) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead() || p.LastReceived() >= since {
		return false
	}
	f := p.blame()
	f.deadSince, f.deadWhy, f.deaf = since, why, false
	return true
}

// Deaf notes that echo requests sent since the given time had no answer although other things come
// from the peer: what we send does not arrive there. The peer is down until Hears is called or it
// has a new session, each of which proves that something has arrived. It reports whether that is
// new. why says it in words.
func (p *Peer) Deaf(since boottime.Time, why string) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead() {
		return false
	}
	f := p.blame()
	f.deadSince, f.deadWhy, f.deaf = since, why, true
	return true
}

// Hears notes that the peer has answered something that we sent, or is not to be judged by that any
// longer. It reports whether the peer was taken to be deaf.
func (p *Peer) Hears() (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.blamed().deaf {
		return false
	}
	p.faults.deadSince, p.faults.deaf = 0, false
	return true
}

// isDeaf reports whether what we send is known not to arrive at the peer.
func (p *Peer) isDeaf() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blamed().deaf
}

// IsDead reports whether the peer is down for lack of answers to echo requests.
func (p *Peer) IsDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead()
}

// dead is IsDead. Callers hold mu.
func (p *Peer) dead() bool {
	f := p.blamed()
	return f.deadSince != 0 && (f.deaf || p.LastReceived() < f.deadSince)
}

// stateInSession is the state of a peer with a session that answers: it is up if packets pass.
// Callers hold mu.
func (p *Peer) stateInSession(now boottime.Time) State {
	demanded := p.dataTrouble != nil && p.dataTrouble.demanded
	switch {
	case p.Sending(0, now) != nil && !demanded:
		return StateUp
	case p.dataTrouble != nil:
		return StateDown
	}
	return StateConnecting
}

// What explains why a peer that has said goodbye is down.
const (
	stoppedText = "stopped: the peer said that it stops"
	removedText = "removed: the peer said that this host is no longer in its configuration"
)

// Stopped notes that the peer has said goodbye in a session: it has none any more with that
// identity of ours, and is down until it has one again. A session that it began since stays: the
// goodbye was under way meanwhile. removed: it does not stop, but has removed us from its
// configuration.
func (p *Peer) Stopped(ix *Index, main *Keypair, removed bool, now boottime.Time, wall time.Time) {
	why := stoppedText
	if removed {
		why = removedText
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(ix, func(kp *Keypair) bool {
		return kp.own == main.own && !(kp == p.next && kp.Established > main.Established)
	})
	if p.current.Load() == nil {
		p.stopped = true
		p.fail(now, wall, why)
	}
}

// mute tells of data without an answer.
type mute struct {
	times int32         // sessions in a row in which data had none, and nothing came
	since boottime.Time // when the first such data was sent
	at    boottime.Time // when the last was noticed
}

const (
	// muteTimes is in how many sessions in a row data has to be without an answer before a peer is
	// down with which handshakes succeed.
	muteTimes = 2
	// muteFor is how long it is then down if no more data is sent to it: nothing else could show
	// that it has recovered.
	muteFor = 2 * timers.UnansweredAfter

	muteText = "nothing comes in our sessions, although handshakes succeed: something on the way drops data"
)

// noData notes that data had no answer for timers.UnansweredAfter. Callers hold mu.
func (p *Peer) noData(now boottime.Time) {
	m, cur := &p.history().mute, p.current.Load()
	switch {
	case p.LastReceived() >= m.at:
		*m = mute{times: 1, since: now.Add(-timers.UnansweredAfter), at: now}
	case cur != nil && cur.Established >= m.at: // a handshake has succeeded meanwhile
		m.times++
		m.at = now
	}
}

// isMute reports whether data has had no answer in several sessions. Callers hold mu.
func (p *Peer) isMute(now boottime.Time) bool {
	m := p.known().mute
	return m.times >= muteTimes && p.LastReceived() < m.at && now.Sub(m.at) < muteFor
}

// silent reports whether handshakes have no response and nothing authenticated has come since the
// first of them began. Callers hold mu.
func (p *Peer) silent() bool {
	return p.vain >= silentHandshakes && p.LastReceived() < p.blamed().vainSince
}

// unheard reports whether the peer has asked for a session again and again, has used none that we
// answered with, and has sent nothing else since: what we send does not arrive there. Callers hold
// mu.
func (p *Peer) unheard() bool {
	return p.unconfirmed >= UnconfirmedResponses && p.LastReceived() < p.blamed().unheardSince
}

// inVain notes that the last initiation had no response. Callers hold mu.
func (p *Peer) inVain() {
	if p.vain == 0 || p.LastReceived() >= p.blamed().vainSince {
		p.vain, p.blame().vainSince = 0, p.Timers.InitiatedAt()
	}
	p.vain++
}

// refused reports whether the kernel has long refused everything that we sent to the peer.
func (p *Peer) refused(now boottime.Time) bool {
	since := boottime.Time(p.refusedSince.Load())
	return since != 0 && now.Sub(since) >= refusedTooLong
}

// downSince returns since when a peer that is down has been unreachable, in wall-clock time.
// Callers hold mu.
func (p *Peer) downSince(now boottime.Time, wall time.Time) time.Time {
	var since boottime.Time
	if p.silent() {
		since = p.blamed().vainSince
	}
	if dead := p.blamed().deadSince; p.dead() && (since == 0 || dead < since) {
		since = dead
	}
	if unheard := p.blamed().unheardSince; p.unheard() && (since == 0 || unheard < since) {
		since = unheard
	}
	if mute := p.known().mute.since; p.isMute(now) && (since == 0 || mute < since) {
		since = mute
	}
	if at := boottime.Time(p.refusedSince.Load()); p.refused(now) && (since == 0 || at < since) {
		since = at
	}
	if since == 0 {
		failing := p.known().failingSince.Time()
		if failing.IsZero() && p.dataTrouble != nil {
			return p.dataTrouble.since
		}
		return failing
	}
	return wall.Add(-now.Sub(since))
}
