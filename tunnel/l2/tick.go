package l2

import (
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// TickInterval is the longest permitted time between two calls of Tick.
const TickInterval = 250 * time.Millisecond

const (
	dueNow        boottime.Time = 1 // always in the past, unlike 0, which means never
	helloRetry                  = time.Second
	helloSlow                   = time.Minute // between hellos to a peer that does not answer
	helloTries                  = 8           // hellos sent at helloRetry before slowing down
	silentTries                 = 5           // unanswered hellos before an event
	slowAgeing                  = 10 * time.Second
	warnInterval                = time.Minute
	maxWarnings                 = 1024
	maxQueueFrame               = 1024 // frames queued for the TAP between two ticks
	// Messages queued for peers between two ticks: some for each peer.
	maxQueueMsg   = 4096
	maxQueueEvent = 128
)

// Message is an inner payload for a peer, to be encrypted and sent as it is.
type Message struct {
	Port    PortID
	Payload []byte
}

// Actions is what the switch wants to have done. The caller owns all of it.
type Actions struct {
	ToDevice [][]byte // frames to write to the TAP
	ToPeers  []Message
	Events   []Event
	// MACs (and their VLANs) about which the bridge of the TAP is to be asked when it last heard
	// them. StationHeard takes the answers, within checkWait.
	Ask []Station
	// The bridge of the TAP is to forget what it has learned there: the hosts of a peer are now
	// reached through another port of it.
	Flush   bool
	Changes []Change // of the forwarding database, in order
	Lost    int      // changes that are missing here, because there were too many
	// Of which host has which IP address, in order. Those that are not among them are counted in
	// Lost as well.
	Neighbors []NeighborChange
	Next      boottime.Time // call Tick again no later than this
}

// slowPort is the state of a port that only the slow plane and control messages use. It is guarded
// by Switch.mu.
type slowPort struct {
	cfg      PortConfig
	state    *portState
	up       bool
	peer     peerInfo
	helloAt  boottime.Time // when the next hello is due; 0: never
	tries    int           // hellos sent without an answer
	announce bool          // announce our MACs at the next tick
	changes  limit.Until   // reported

	// Key of the peer's tag in our probes; disclosed to this peer alone.
	key    [16]byte
	opened boottime.Time // when a block of the port last ended
	seenBy int           // sightings in Switch.pairs that arrived at this port
	// VLANs in which the peer calls us a standby gateway, and since when.
	standby map[uint16]boottime.Time
	// VLANs in which it says that we are the one in use of two gateways; nil: none.
	active map[uint16]bool
	watch  *watch // nil as long as there is nothing to tell
}

// carries reports whether frames are exchanged with the peer: it has a session, and both sides are
// configured for Ethernet.
func (p *slowPort) carries() bool { return p.up && p.cfg.Ethernet && p.peer.ethernet }

// SetPortUp tells the switch that a session with the peer has come up (once when there was none
// before, not for each rekey), or that there is no session any more. When the port comes up, hello
// and announcements follow at the next Tick, which should be immediate. When it goes down,
// everything learned there is removed, so that frames for its hosts are flooded immediately and the
// hosts may appear elsewhere. An unknown id is ignored.
func (s *Switch) SetPortUp(id PortID, up bool, now boottime.Time) {
	s.mu.Lock()
	p := s.ports[id]
	if p == nil || p.up == up {
		s.mu.Unlock()
		return
	}
	p.up = up
	if up {
		p.helloAt, p.tries = dueNow, 0
	} else {
		s.leave(now, id, p)
	}
	s.refresh(id)
	s.mu.Unlock()
	if !up {
		s.forget(id, false)
	}
}

// Tick does the periodic work: ageing, claims, hellos, announcements and loop probes. It returns
// what has been queued since the last call. Call it at Actions.Next, and after Verdict.Wake,
// Control and SetPortUp.
func (s *Switch) Tick(now boottime.Time) Actions {
	claims := s.settleClaims(now)
	s.askGuesses()
	s.tickWithdrawn(now)
	s.tickMoves(now)
	s.fdb.age(now)
	s.reportFull(now)
	s.review(now)
	s.query(now)
	s.mu.Lock()
	slow := !now.Before(s.ageAt)
	if slow {
		s.ageAt = now.Add(slowAgeing)
		s.ageMasters(now)
	}
	if now.Sub(s.tickedAt) > 2*TickInterval {
		s.lateAt = now
	}
	s.tickedAt = now
	pairs := s.agePairs(now)
	s.unblock(now, func(b *block) bool { return b.over(now, s.lateAt) })
	s.renewPeers(now)
	s.tickProbes(now)
	var announce []PortID
	for id, p := range s.ports {
		s.tickHello(now, id, p)
		if p.announce {
			p.announce = false
			announce = append(announce, id)
		}
	}
	worthless, doubts := s.stale, s.doubts
	s.stale, s.doubts = nil, nil
	s.mu.Unlock()
	s.fdb.flushStale(worthless)
	s.fdb.doubtHosts(now, doubts)
	if slow {
		s.groups.age(now)
		s.hosts.age(now)
	}
	for _, id := range announce {
		s.announceAll(id)
	}
	changes, lost := s.fdb.takeChanges()
	neighbors, more := s.hosts.takeChanges()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.queue
	s.queue = Actions{}
	out.Changes, out.Neighbors, out.Lost = changes, neighbors, lost+more
	out.Next = now.Add(TickInterval)
	if claims != 0 && claims.Before(out.Next) {
		out.Next = claims
	}
	if s.probeAt.Before(out.Next) {
		out.Next = s.probeAt // other sites notice when our probes are late
	}
	if pairs != 0 && pairs.Before(out.Next) {
		out.Next = pairs
	}
	for i := range s.blocks {
		if at := s.blocks[i].overAt(s.lateAt); at.Before(out.Next) {
			out.Next = at
		}
	}
	return out
}

func (s *Switch) tickHello(now boottime.Time, id PortID, p *slowPort) {
	if p.helloAt == 0 || now.Before(p.helloAt) {
		return
	}
	if !p.cfg.Ethernet && !p.peer.known {
		p.helloAt = 0 // Ethernet is not configured for it; a hello of its own is answered
		return
	}
	s.sendHello(now, id, p, true)
	p.tries++
	switch {
	case p.tries < helloTries:
		p.helloAt = now.Add(helloRetry)
	case p.peer.known:
		p.helloAt = 0 // it has answered before: the next session brings another hello
	default:
		p.helloAt = now.Add(helloSlow)
	}
	if p.tries == silentTries && !p.peer.known {
		s.event(now, Event{Kind: EventSilent, Port: id})
	}
}

// settleClaims sends the challenges that are due and completes the moves that silence has decided.
// It returns when the next one is due; 0 if none is pending.
func (s *Switch) settleClaims(now boottime.Time) boottime.Time {
	due := s.fdb.dueClaims(now)
	for i := range due.ask {
		s.challenge(&due.ask[i])
	}
	if len(due.check) > 0 {
		s.mu.Lock()
		s.queue.Ask = append(s.queue.Ask, due.check...) // at most maxClaims between two ticks
		s.mu.Unlock()
	}
	next := due.next
	for _, c := range due.done {
		s.noteOutcome(now, c.key, c.by, c.outcome)
		if c.moved && c.at != LocalPort {
			s.tellLAN(now, keyVID(c.key), keyMAC(c.key))
		}
	}
	if due := s.settleQuestions(now); next == 0 || due != 0 && due.Before(next) {
		next = due
	}
	return next
}

// announceAll queues an announcement to the port of what lives on our side: the MACs of our LAN
// and, on a hub, those of the other peers.
func (s *Switch) announceAll(id PortID) {
	view := s.view.Load()
	p := view.port(id)
	if p == nil || !p.ready {
		return
	}
	entries := s.fdb.recent(func(port PortID) bool {
		return port == LocalPort || view.cfg.Hub && port != id
	}, DefaultMaxPerPort)
	var batch []byte
	for _, e := range entries {
		from := view.port(e.Port)
		vid, ok := p.vlans.wire(e.VLAN)
		if !ok || from == nil || p.cfg.Isolated && from.cfg.Isolated || from.blocked != nil && from.blocked.has(e.VLAN) {
			continue
		}
		batch = append(batch, byte(vid>>8), byte(vid), 0, 0, 0, 0, 0, 0)
		e.MAC.Put(batch[len(batch)-6:])
		if len(batch) == maxAnnounceBatch*announceEntryLen {
			s.sendAnnounce(id, batch)
			batch = batch[:0]
		}
	}
	if len(batch) > 0 {
		s.sendAnnounce(id, batch)
	}
}

func (s *Switch) sendAnnounce(id PortID, batch []byte) { s.sendMACs(id, controlAnnounce, batch) }

// sendMACs queues a message of the given type with a list of MACs.
func (s *Switch) sendMACs(id PortID, kind byte, batch []byte) {
	b := appendControl(make([]byte, 0, ControlHeaderLen+len(batch)), kind, len(batch))
	s.mu.Lock()
	s.toPeer(id, append(b, batch...))
	s.mu.Unlock()
}

// announceOne queues an announcement to all peers of one MAC that has moved to our side.
func (s *Switch) announceOne(key uint64) {
	for _, p := range s.view.Load().peers {
		if vid, ok := p.vlans.wire(keyVID(key)); ok {
			b := []byte{byte(vid >> 8), byte(vid), 0, 0, 0, 0, 0, 0}
			keyMAC(key).Put(b[2:])
			s.sendAnnounce(p.id, b)
		}
	}
}

// noteOutcome reports what the forwarding database did with a source seen at port.
func (s *Switch) noteOutcome(now boottime.Time, key uint64, port PortID, o outcome) {
	e := Event{Port: port, Other: o.owner, MAC: keyMAC(key), VLAN: keyVID(key)}
	switch {
	case o.frozen:
		e.Kind, e.Port = EventFrozen, o.at
		s.noteFrozen(key)
	case o.moved:
		e.Kind = EventMoved
	case o.alive:
		e.Kind, e.Port, e.Other = EventSpoof, o.owner, port
		s.noteSpoof(o.owner, spoof{at: now, mac: e.MAC, vid: e.VLAN, owner: port})
	case o.reason == drop.MACLimit:
		e.Kind = EventFull
		s.noteRefused(now, port, refusedMACs)
	default:
		return
	}
	s.mu.Lock()
	s.event(now, e)
	s.mu.Unlock()
	if o.moved || o.alive {
		s.suspect(now)
	}
	if o.alive {
		s.mu.Lock()
		delete(s.held, key) // its claim has failed
		s.mu.Unlock()
		s.suspectPair(now, port, o.owner, keyVID(key))
	}
	if o.moved {
		s.moved(now, key, o)
	}
	if o.moved && o.at == LocalPort && !o.station {
		s.announceOne(key)
	}
}

// reportFull reports the ports that have reached their limit of learned MACs.
func (s *Switch) reportFull(now boottime.Time) {
	for _, id := range s.fdb.takeFull() {
		s.mu.Lock()
		s.event(now, Event{Kind: EventFull, Port: id})
		s.watchOf(id).series[refusedMACs].note(now)
		s.mu.Unlock()
	}
}

// guardBPDU blocks a peer that sent a spanning tree frame, if BPDU guard is configured.
func (s *Switch) guardBPDU(f *frameInfo, v *Verdict) {
	f.in.state.bpduUntil.Store(int64(f.now.Add(bpduGuardTime)))
	v.Wake = true
	s.mu.Lock()
	s.event(f.now, Event{Kind: EventBPDU, Port: f.in.id})
	s.mu.Unlock()
	s.fdb.flushPort(f.in.id, false)
}

// toDevice, toPeer and event queue for the next tick. mu is held. What does not fit into the queue
// is lost: either its cause will repeat it, or it was only a courtesy.

func (s *Switch) toDevice(frame []byte) {
	if len(s.queue.ToDevice) < maxQueueFrame {
		s.queue.ToDevice = append(s.queue.ToDevice, frame)
	}
}

func (s *Switch) toPeer(id PortID, payload []byte) {
	if len(s.queue.ToPeers) < maxQueueMsg {
		s.queue.ToPeers = append(s.queue.ToPeers, Message{id, payload})
	}
}
