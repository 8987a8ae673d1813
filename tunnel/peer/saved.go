package peer

import (
	"fmt"
	"math/rand/v2"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Saved is what another process needs to continue with a peer: its sessions, where it is, and what
// was counted. Times are of CLOCK_BOOTTIME, so they are valid until the host is booted again.
type Saved struct {
	PublicKey keys.PublicKey
	Endpoint  udp.Endpoint // zero: not known
	Sessions  []SavedSession

	LastTimestamp, LastSent noise.Timestamp
	LastInitiation          boottime.Time
	LastReceived            boottime.Time
	LastHandshake, UpSince  time.Time
	RxBytes, TxBytes        uint64
	RxPackets, TxPackets    uint64
}

// SavedSession is one of a peer's sessions.
type SavedSession struct {
	Role        Role
	Session     session.Saved
	Established boottime.Time
	HeardAt     boottime.Time // when something last came under it; 0: never
	AnsweredAt  boottime.Time // when we last responded to the peer's renewal of it; 0: never
	RenewAfter  time.Duration
	Crossed     bool
	Own         keys.PublicKey // ours, with which it was made
	Data        *SavedData     // nil: it has no data sessions
}

// SavedData are the data sessions of a session.
type SavedData struct {
	Sessions    []session.Saved // by number
	PostQuantum bool
	Standing    bool          // the peer is known to have them
	InUse       bool          // packets leave in them
	Leads       bool          // see Peer.Leads
	Until       boottime.Time // and do so until then
}

// Role says which of a peer's sessions one is.
type Role uint8

// The roles of a session. Of two previous ones, the one that the peer used last comes last.
const (
	Current Role = iota
	Previous
	Next
)

// Zero erases the keys.
func (s *SavedSession) Zero() {
	s.Session.Zero()
	if s.Data != nil {
		for i := range s.Data.Sessions {
			s.Data.Sessions[i].Zero()
		}
	}
}

// Format prints "(hidden)" for every verb.
func (s *SavedData) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Format prints "(hidden)" for every verb.
func (s SavedSession) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Save ends the peer's sessions and returns what continues them. It returns nil for a peer without
// sessions. The caller has stopped all loops: nothing may use the peer any longer.
func (p *Peer) Save() *Saved {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	past := p.known()
	s := &Saved{
		PublicKey: p.key, LastReceived: p.LastReceived(),
		LastHandshake: past.handshakeWall.Time(), UpSince: past.upSince.Time(),
		RxBytes: p.rxBytes.Load(), TxBytes: p.txBytes.Load(),
		RxPackets: p.rxPackets.Load(), TxPackets: p.txPackets.Load(),
	}
	if hs := p.Handshake.state; hs != nil {
		s.LastTimestamp, s.LastSent, s.LastInitiation = hs.LastTimestamp, hs.LastSent, hs.LastInitiation
	}
	if ep := p.endpoint.Load(); ep != nil {
		s.Endpoint = *ep
	}
	for _, k := range []struct {
		role Role
		*Keypair
	}{{Current, p.current.Load()}, {Previous, p.former[1]}, {Previous, p.former[0]}, {Next, p.next}} {
		kp := k.Keypair
		if kp == nil {
			continue
		}
		if saved, ok := kp.Session.Save(); ok {
			s.Sessions = append(s.Sessions, SavedSession{
				Role: k.role, Session: *saved, Established: kp.Established,
				HeardAt: boottime.Time(kp.heardAt.Load()), AnsweredAt: boottime.Time(kp.answeredAt.Load()), RenewAfter: kp.renewAfter, Crossed: kp.crossed, Own: kp.own,
				Data: p.saveData(kp.sessions),
			})
		}
	}
	if len(s.Sessions) == 0 {
		return nil
	}
	return s
}

// Continue makes the peer, which has no sessions yet, continue those that Save returned in another
// process with as many lanes, and reports whether one of them can be used at now. Sessions that are
// too old are left out, and so are those of a key that is not ours, as ours tells, and those that
// this program cannot continue.
func (p *Peer) Continue(s *Saved, ix *Index, lanes int, ours func(keys.PublicKey) bool, now boottime.Time) (usable bool) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	hs := p.Handshake.State()
	hs.LastTimestamp, hs.LastSent, hs.LastInitiation = s.LastTimestamp, s.LastSent, s.LastInitiation
	var newest boottime.Time
	for i := range s.Sessions {
		kp := p.revive(&s.Sessions[i], now)
		if kp == nil || !ours(kp.own) || !ix.claim(kp) {
			continue
		}
		switch s.Sessions[i].Role {
		case Previous:
			p.former = [2]*Keypair{kp, p.former[0]}
		case Next:
			p.next = kp
		default:
			p.current.Store(kp)
			usable = true
		}
		newest = max(newest, kp.Established)
		if data := s.Sessions[i].Data; data != nil {
			p.continueData(ix, kp, data, lanes)
		}
	}
	if newest == 0 {
		return false
	}
	if s.Endpoint.Addr.IsValid() {
		p.SetEndpoint(s.Endpoint)
	}
	p.lastReceived.Store(int64(s.LastReceived))
	past := p.history()
	past.handshakeWall, past.upSince = boottime.WallOf(s.LastHandshake), boottime.WallOf(s.UpSince)
	p.rxBytes.Store(s.RxBytes)
	p.txBytes.Store(s.TxBytes)
	p.rxPackets.Store(s.RxPackets)
	p.txPackets.Store(s.TxPackets)
	p.Timers.SessionDerived(newest, rand.N(timers.RekeyTimeoutJitterMax))
	return usable
}

// revive makes a keypair of a saved session, or nil if it cannot be used.
func (p *Peer) revive(s *SavedSession, now boottime.Time) *Keypair {
	if age := now.Sub(s.Established); age < 0 || age >= timers.RejectAfterTime {
		return nil
	}
	continued, err := session.Continue(&s.Session)
	if err != nil {
		return nil
	}
	kp := &Keypair{Session: continued, Peer: p, Established: s.Established, renewAfter: s.RenewAfter, crossed: s.Crossed, own: s.Own}
	kp.heardAt.Store(int64(s.HeardAt))
	kp.answeredAt.Store(int64(s.AnsweredAt))
	return kp
}

// saveData ends data sessions and returns what continues them; nil if there are none. Callers hold
// mu.
func (p *Peer) saveData(d *DataSessions) *SavedData {
	if d == nil {
		return nil
	}
	s := &SavedData{
		PostQuantum: d.PostQuantum, Standing: d.standing.Load(), InUse: p.data.Load() == d,
		Leads: d.leads,
		Until: boottime.Time(d.until.Load()),
	}
	for _, kp := range d.all {
		saved, ok := kp.Session.Save()
		if !ok {
			return nil
		}
		s.Sessions = append(s.Sessions, *saved)
	}
	return s
}

// continueData continues the data sessions of main. If one of them cannot be continued, none is:
// the peer notices that and begins a new session. Callers hold mu.
func (p *Peer) continueData(ix *Index, main *Keypair, s *SavedData, lanes int) {
	var sessions []*session.Session
	for i := range s.Sessions {
		continued, err := session.Continue(&s.Sessions[i])
		if err != nil || len(s.Sessions) > lanes {
			return
		}
		sessions = append(sessions, continued)
	}
	if len(sessions) == 0 {
		return
	}
	d := newDataSessions(p, main, sessions, s.PostQuantum, lanes)
	for _, kp := range d.all {
		if !ix.claim(kp) {
			break
		}
		main.reserved = append(main.reserved, kp.Session.LocalIndex())
	}
	if len(main.reserved) < len(d.all) {
		p.forgetData(ix, main)
		return
	}
	d.leads = s.Leads
	d.standing.Store(s.Standing)
	d.until.Store(int64(s.Until))
	main.sessions = d
	p.countLanes(lanes)
	if s.InUse {
		p.data.Store(d)
	}
}
