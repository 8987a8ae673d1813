package peer

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/tunnel/datasession"
	"tund/tunnel/timers"
)

// Data sessions carry the packets of a peer that is tund as well, beside the WireGuard session that
// they were agreed in. Each is a Keypair with an index, keys, a counter and a replay window of its
// own, and ends with its WireGuard session, which goes on receiving and carries control messages
// while there are no data sessions.

// overlap is how long the data sessions of the last WireGuard session still carry packets when a
// new one has none yet: until the agreement about them has certainly ended.
const overlap = datasession.GiveUpAfter + 2*time.Second

// renewedEarly is by how much two sessions that follow each other by renewal may lie closer
// together than timers.RekeyAfterTime, because each side counts from its own message.
const renewedEarly = 10 * time.Second

// DataSessions are the data sessions of one WireGuard session.
type DataSessions struct {
	// Constant.
	Suite       aead.Suite
	PostQuantum bool
	Count       int // how many there are
	main        *Keypair
	all         []*Keypair // by number
	leads       bool       // this side keeps flows in their lanes, and the peer follows
	byLane      []*Keypair // which of them packets of a lane of ours leave in

	standing atomic.Bool  // the peer is known to have them
	until    atomic.Int64 // boottime until which packets leave in them
}

// dataTrouble says why there are no data sessions, in words, and since when.
type dataTrouble struct {
	why      string
	since    time.Time
	demanded bool // the peer drops packets that come in no data session
}

// secret is a key that must not be printed.
type secret [keys.Size]byte

// Format prints "(hidden)" for every verb.
func (secret) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Main returns the WireGuard session: kp itself, or the one in which a data session was agreed.
func (kp *Keypair) Main() *Keypair {
	if kp.data != nil {
		return kp.data.main
	}
	return kp
}

// IsPostQuantum reports whether kp is a data session whose keys have a post-quantum secret.
func (kp *Keypair) IsPostQuantum() bool { return kp.data != nil && kp.data.PostQuantum }

// TakeExporter returns the exporter of the session's handshake and forgets it. ok is false if it is
// not known: it was taken before, or another process began the session. Only the goroutine that
// agrees on data sessions calls it.
func (kp *Keypair) TakeExporter() (exporter [keys.Size]byte, ok bool) {
	exporter = kp.exporter
	kp.exporter = secret{}
	return exporter, exporter != [keys.Size]byte{}
}

// HasExporter reports whether TakeExporter would return the exporter. Only the goroutine that
// agrees on data sessions calls it.
func (kp *Keypair) HasExporter() bool { return kp.exporter != secret{} }

// Sending returns the session in which packets from a lane leave for the peer: a data session, or
// the current one. nil: there is none, and packets have to wait. It takes no lock.
func (p *Peer) Sending(lane int, now boottime.Time) *Keypair {
	d := p.data.Load()
	if d != nil && int64(now) < d.until.Load() && (d.PostQuantum || !p.Strict()) {
		return d.byLane[lane%len(d.byLane)]
	}
	if p.Strict() {
		return nil
	}
	return p.usable(now)
}

// DataUntil returns until when packets may leave in the data sessions in use; 0: there are none.
func (p *Peer) DataUntil() boottime.Time {
	if d := p.data.Load(); d != nil {
		return boottime.Time(d.until.Load())
	}
	return 0
}

// Leads reports whether this side is the one that keeps the packets of each flow in the lane where
// they began (tunnel/lane.Flows). It does if there are several data sessions, and our public key is
// the greater one.
func (p *Peer) Leads() bool {
	d := p.data.Load()
	return d != nil && d.leads
}

// SendingControl returns the session in which a control message or a keepalive leaves: that of
// packets, or else the current one, also where packets must wait for data sessions.
func (p *Peer) SendingControl(lane int, now boottime.Time) *Keypair {
	if kp := p.Sending(lane, now); kp != nil {
		return kp
	}
	return p.usable(now)
}

// usable returns the current session if it is young enough; otherwise nil.
func (p *Peer) usable(now boottime.Time) *Keypair {
	if kp := p.current.Load(); kp != nil && kp.Usable(now) {
		return kp
	}
	return nil
}

// SetPostQuantum says whether data sessions with a post-quantum secret are wanted, and reports
// whether that is new. With datasession.Require, packets leave and are accepted in nothing else.
func (p *Peer) SetPostQuantum(pq datasession.PostQuantum) (changed bool) {
	return datasession.PostQuantum(p.postQuantum.Swap(uint32(pq))) != pq
}

// PostQuantum returns what SetPostQuantum set.
func (p *Peer) PostQuantum() datasession.PostQuantum {
	return datasession.PostQuantum(p.postQuantum.Load())
}

// Strict reports whether packets may pass in data sessions only.
func (p *Peer) Strict() bool { return p.PostQuantum() == datasession.Require }

// ReserveData picks receiver indices for n data sessions of a WireGuard session. Number i belongs
// to the lane that messages with this index are steered to. nil: the session has ended.
func (p *Peer) ReserveData(ix *Index, main *Keypair, n, lanes int) []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.holds(main) || main.reserved != nil {
		return nil
	}
	for i := range n {
		main.reserved = append(main.reserved, ix.reserve(p, (i+p.laneOffset(lanes))%lanes, lanes))
	}
	return main.reserved
}

// laneOffset spreads peers with fewer lanes than we have over ours.
func (p *Peer) laneOffset(lanes int) int { return int(p.key[0]) % lanes }

// holds reports whether kp is a session of the peer that can still receive. Callers hold mu.
func (p *Peer) holds(kp *Keypair) bool {
	return kp != nil && (kp == p.current.Load() || kp == p.next || slices.Contains(p.former[:], kp))
}

// InstallData gives a WireGuard session the data sessions that were agreed, for which ReserveData
// has picked our indices. Packets leave in them at once if the peer is known to have them;
// otherwise from its first message in one of them on. It reports whether the WireGuard session
// still exists.
func (p *Peer) InstallData(ix *Index, main *Keypair, a *datasession.Agreement, lanes int, standing bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.holds(main) || main.sessions != nil || len(main.reserved) < len(a.Lanes) {
		return false
	}
	sessions := make([]*session.Session, len(a.Lanes))
	for i := range a.Lanes {
		l := &a.Lanes[i]
		sessions[i] = session.NewData(a.Suite, &l.Send, &l.Receive, l.Local, l.Remote, main.Session.Initiator())
	}
	d := newDataSessions(p, main, sessions, a.PostQuantum, lanes)
	d.leads = len(sessions) > 1 && bytes.Compare(main.own[:], p.key[:]) > 0
	for _, kp := range d.all {
		ix.assign(kp.Session.LocalIndex(), kp)
	}
	for _, index := range main.reserved[len(a.Lanes):] {
		ix.Release(index)
	}
	main.reserved = main.reserved[:len(a.Lanes)]
	main.sessions = d
	p.countLanes(lanes)
	if standing {
		p.stand(d)
	}
	return true
}

// newDataSessions makes keypairs of the data sessions of main, by number.
func newDataSessions(p *Peer, main *Keypair, sessions []*session.Session, postQuantum bool, lanes int) *DataSessions {
	d := &DataSessions{
		Suite: sessions[0].Suite(), PostQuantum: postQuantum, Count: len(sessions), main: main,
		byLane: make([]*Keypair, lanes),
	}
	d.until.Store(int64(main.Established.Add(timers.RejectAfterTime)))
	for i, s := range sessions {
		kp := &Keypair{Session: s, Peer: p, Established: main.Established, data: d}
		kp.LastLink.Store(main.LastLink.Load())
		for j := i; j < lanes; j += len(sessions) {
			d.byLane[(j+p.laneOffset(lanes))%lanes] = kp
		}
		d.all = append(d.all, kp)
	}
	return d
}

// countLanes begins to count by lane, if there are several. Callers hold mu.
func (p *Peer) countLanes(lanes int) {
	if lanes > 1 && p.lanes.Load() == nil {
		counts := make([]laneCounts, lanes)
		p.lanes.Store(&counts)
	}
}

// stand makes packets leave in data sessions that the peer is known to have, unless they do in
// newer ones. Callers hold mu.
func (p *Peer) stand(d *DataSessions) {
	d.standing.Store(true)
	old := p.data.Load()
	if old == nil || !p.holds(old.main) || d.main.Established >= old.main.Established {
		p.data.Store(d)
	}
	p.dataTrouble = nil
}

// superseded decides how long packets still leave in the data sessions of an older WireGuard
// session than kp, which has just become current. After a renewal both sides have them until the
// new ones stand. A session that comes out of turn may mean that the peer has started over and has
// none. Callers hold mu.
func (p *Peer) superseded(kp *Keypair) {
	d := p.data.Load()
	if d == nil || d.main == kp {
		return
	}
	if kp.Established.Sub(d.main.Established) < timers.RekeyAfterTime-renewedEarly && !d.worn() {
		p.data.Store(nil)
		return
	}
	d.until.Store(min(d.until.Load(), int64(kp.Established.Add(overlap))))
}

// worn reports whether one of the sessions has carried so many messages that either side may have
// renewed it for that reason.
func (d *DataSessions) worn() bool {
	for _, kp := range d.all {
		kp.Session.LockReceive()
		highest := kp.Session.Highest()
		kp.Session.UnlockReceive()
		if limit := kp.Session.RekeyAfter(); max(highest, kp.Session.Sent()) > limit-limit/16 {
			return true
		}
	}
	return false
}

// Carried is called when packets have come in a session. A peer that has data sessions sends none
// in a WireGuard session: if ours belong to an older one, it does not have them any longer.
func (p *Peer) Carried(kp *Keypair) {
	p.Extension.NoteHeard()
	if kp.data != nil {
		return
	}
	if d := p.data.Load(); d != nil && kp.Established > d.main.Established {
		p.data.CompareAndSwap(d, nil)
	}
}

// Standing reports whether the data sessions of a WireGuard session are in use: the peer is known
// to have them.
func (p *Peer) Standing(main *Keypair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return main.sessions != nil && main.sessions.standing.Load()
}

// StopData ends the use of the data sessions of WireGuard sessions before kp, the current one, as
// there are none in it. why says so to an operator; demanded: the peer drops what comes in no data
// session, so it is down. It reports whether that is news.
func (p *Peer) StopData(kp *Keypair, why string, demanded bool, wall time.Time) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() != kp || kp.sessions != nil && kp.sessions.standing.Load() {
		return false
	}
	if d := p.data.Load(); d != nil && d.main != kp {
		p.data.Store(nil)
	}
	if p.dataTrouble != nil && p.dataTrouble.why == why {
		return false
	}
	if p.dataTrouble != nil {
		wall = p.dataTrouble.since
	}
	p.dataTrouble = &dataTrouble{why, wall, demanded}
	return true
}

// forgetData takes the indices of a session and its data sessions out of use. Packets that leave in
// them go on to do so for as long as superseded has said: the peer may have them still, although it
// sends in others. Callers hold mu.
func (p *Peer) forgetData(ix *Index, kp *Keypair) {
	for _, index := range kp.reserved {
		ix.Release(index)
	}
	kp.reserved = nil
}

// zero ends the data sessions.
func (d *DataSessions) zero() {
	for _, kp := range d.all {
		kp.Session.Zero()
	}
}

// ── counters of lanes ───────────────────────────────────────────────────────

// laneCounts counts the transport messages of one lane with one peer. Each has cache lines of its
// own, because lanes count at the same time.
type laneCounts struct {
	rx, tx atomic.Uint64
	_      [112]byte
}

// CountLane counts transport messages that a lane has received from the peer and sent to it. It
// does nothing for a peer that has one lane.
func (p *Peer) CountLane(lane int, rx, tx uint64) {
	counts := p.lanes.Load()
	if counts == nil || lane >= len(*counts) {
		return
	}
	if rx != 0 {
		(*counts)[lane].rx.Add(rx)
	}
	if tx != 0 {
		(*counts)[lane].tx.Add(tx)
	}
}

// LaneCounts are the transport messages of one of our lanes with a peer.
type LaneCounts struct{ RxPackets, TxPackets uint64 }

// laneStatus reads the counters of all lanes; nil for a peer that has one.
func (p *Peer) laneStatus() (list []LaneCounts) {
	if counts := p.lanes.Load(); counts != nil {
		for i := range *counts {
			list = append(list, LaneCounts{(*counts)[i].rx.Load(), (*counts)[i].tx.Load()})
		}
	}
	return list
}
