package l2

import (
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Rules for moving a MAC address from one port to another.
//
// Two requirements must hold at once. A peer must not be able to take over the MAC of a host that
// is alive elsewhere, on our own LAN or behind another peer. And a VM that migrates to another site
// must be reachable there within a second. Silence alone cannot distinguish the two cases, because
// many hosts are silent for seconds. So the switch asks the host.
//
//   - A frame from the TAP is believed immediately: the LAN is ours, and every other site applies
//     these rules itself.
//   - A frame from a peer whose source MAC is known elsewhere is a claim. The frame is refused
//     (drop.SourceForeign) and nothing is learned, but it starts a challenge: after claimGrace, the
//     switch sends an ARP request or neighbour solicitation for the host to its old port. A reply,
//     or any other frame from there, proves the host alive: the claim fails, is reported, and
//     further claims are ignored for claimBackoff. If the old port is silent until claimWait after
//     the claim, the MAC moves.
//   - Frames from the old port within claimGrace prove nothing, because they may have been in
//     flight when the VM migrated.
//   - A host whose IP address is unknown, and cannot be guessed (guess.go), cannot be asked. Its
//     MAC moves once the host has been silent for silentWait, which counts from its last frame; the
//     Linux bridge is asked when that was (station.go), at once. So a host whose bridge has not
//     heard it for that long moves without delay, as on a bridge.
//   - A gateway that takes over from another one asks at once, and waits for less (takeover.go).
//   - A port that is down owns nothing: its entries are flushed when its session ends.
//   - A MAC whose entry has aged out still has to be claimed: the host is asked for where it was
//     last seen (home.go).
//   - Pinned MACs (macs = [...], tunctl fdb pin) never move.
//   - Messages of VRRP and similar protocols are forwarded although their source is only claimed
//     (virtual.go).
//
// Moves, including legitimate ones, are damped: five within 180 seconds freeze the entry for 300
// seconds (RFC 7432 §15.1), at the TAP if it was there at any time, otherwise where it was before
// the first of them. Failed claims do not count as moves. Addresses that routers share are not
// damped: they move with each election (vrrp.go).
//
// Of hosts on our LAN, the Linux bridge knows more than the switch does: see station.go.
//
// What an attacker gains: a peer may take over MACs of hosts that are switched off. Each claim
// costs us one ARP request per claimBackoff, for at most maxClaims MACs at a time. Where that is
// not acceptable, MACs can be pinned with macs = [...].
const (
	// Twice the longest one-way delay assumed between two sites, to allow for jitter.
	claimGrace = 150 * time.Millisecond
	// Leaves the other half of the second within which a VM must be reachable.
	claimWait      = 500 * time.Millisecond
	silentWait     = 2 * time.Second
	claimBackoff   = 2 * time.Second
	maxClaims      = 512
	maxPortClaims  = 256 // claims by one port: as many as the MACs that a port may have
	freezeMoves    = 5   // RFC 7432 §15.1
	freezeWindow   = 180 // seconds, RFC 7432 §15.1
	freezeDuration = 300 // seconds
)

// claim is the claim of a port to a MAC that another port has. It is part of cold.
type claim struct {
	by     PortID
	asked  bool
	check  check
	quick  bool          // decided quickly; see takeover.go
	at     boottime.Time // 0: no claim is pending
	until  boottime.Time // silence until then decides the claim
	refuse boottime.Time // no new claim is accepted before this time
}

// outcome is the result of looking up and learning a source address.
type outcome struct {
	reason  drop.Reason
	moved   bool   // the MAC moved from port owner
	fresh   bool   // the MAC was unknown
	tick    bool   // first frame of the MAC from its own port within this second
	unnamed bool   // the same, and no IP address of the host is known
	frozen  bool   // this move froze the entry
	station bool   // the bridge has told us, not a frame
	claimed bool   // a challenge was started: Tick should be called soon
	alive   bool   // the owner answered while port owner had a claim pending
	owner   PortID // moved: the previous port; alive: the port whose claim failed
	at      PortID // moved, frozen: the port where the MAC is now
}

// learn records that key was seen at port, and decides whether the frame may pass. In the usual
// case, a known MAC at its own port, it takes no lock.
func (t *fdb) learn(key uint64, port PortID, now boottime.Time) outcome {
	v, slot, ok := t.find(key)
	if ok && v.port() == port && v&flagClaimed == 0 {
		tick := t.refresh(slot, second(now))
		return outcome{tick: tick, unnamed: tick && v&flagNamed == 0}
	}
	if ok && v.port() != port && v&immovable != 0 {
		return outcome{reason: foreignReason(v)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v, slot, ok = t.findLocked(key)
	switch {
	case !ok:
		return t.learnNew(key, port, now)
	case v.port() == port:
		t.refresh(slot, second(now))
		return t.ownerSeen(slot, v, now)
	case v&immovable != 0:
		return outcome{reason: foreignReason(v)}
	case port == LocalPort && t.justConceded(slot, now):
		return outcome{}
	case port == LocalPort:
		return t.move(slot, v, port, now)
	}
	return t.claimSlot(slot, v, port, now)
}

// immovable are the flags of entries that no frame moves.
const immovable = flagStatic | flagFrozen | flagFixed

func foreignReason(v entryValue) drop.Reason {
	if v&(flagStatic|flagFixed) != 0 {
		return drop.SourceForeign
	}
	return drop.MACFrozen
}

func (t *fdb) learnNew(key uint64, port PortID, now boottime.Time) outcome {
	slot, ok := t.restore(key, port)
	if !ok && port != LocalPort {
		slot, ok = t.stationElsewhere(key)
	}
	if ok {
		if v := t.value(slot); v&immovable != 0 {
			return outcome{reason: foreignReason(v)}
		}
		return t.claimSlot(slot, t.value(slot), port, now)
	}
	if t.insert(key, port, second(now), 0) >= 0 {
		return outcome{fresh: true}
	}
	if t.port(port).hard {
		return outcome{reason: drop.MACLimit}
	}
	return outcome{} // not learned, but forwarded: replies are flooded
}

// ownerSeen handles a frame from the port that has the MAC; another port may have a claim pending.
func (t *fdb) ownerSeen(slot int32, v entryValue, now boottime.Time) outcome {
	c := &t.cold[slot].claim
	if v&flagClaimed == 0 || now.Sub(c.at) < c.grace() {
		return outcome{}
	}
	by := c.by
	t.dropClaim(slot, v)
	c.refuse = now.Add(claimBackoff)
	return outcome{alive: true, owner: by}
}

// claimSlot handles a frame from a peer whose source MAC another port has.
func (t *fdb) claimSlot(slot int32, v entryValue, port PortID, now boottime.Time) outcome {
	c := &t.cold[slot].claim
	if v&flagClaimed != 0 {
		if c.by == port && t.ripe(slot, v, now) {
			return t.move(slot, v, port, now)
		}
		return outcome{reason: drop.SourceForeign}
	}
	if now.Before(c.refuse) || len(t.claims) >= maxClaims || t.claimsBy(port) >= maxPortClaims {
		return outcome{reason: drop.SourceForeign}
	}
	c.by, c.at, c.asked, c.check, c.quick = port, now, false, checkNone, t.doubted(slot, v, port, now)
	c.until = t.claimEnd(slot, v, now)
	t.claims = append(t.claims, slot)
	t.setValue(slot, v|flagClaimed)
	return outcome{reason: drop.SourceForeign, claimed: true}
}

func (t *fdb) claimsBy(port PortID) int {
	n := 0
	for _, slot := range t.claims {
		if t.value(slot)&flagClaimed != 0 && t.cold[slot].claim.by == port {
			n++
		}
	}
	return n
}

// claimEnd returns until when the owner of the entry in slot, whose value is v, has to be silent to
// lose it to a claim that begins now. Of a host in the LAN of a bridge, the bridge knows better
// when it last spoke.
func (t *fdb) claimEnd(slot int32, v entryValue, now boottime.Time) boottime.Time {
	least, most := now.Add(claimWait), now.Add(silentWait)
	known := t.cold[slot].hostLen != 0
	switch {
	case known && t.cold[slot].claim.quick:
		return now.Add(doubtWait)
	case known, t.cold[slot].claim.quick:
		return least
	case v.port() == LocalPort && t.bridged:
		return most
	}
	heard := boottime.Time(t.seenAt(slot)+1) * 1e9 // at the latest: in whole seconds
	return max(least, min(most, heard.Add(silentWait)))
}

// dropClaim ends a pending claim. dueClaims removes it from claims the next time it runs.
func (t *fdb) dropClaim(slot int32, v entryValue) {
	t.setValue(slot, v&^flagClaimed)
	t.cold[slot].claim.at = 0
}

// move moves the entry to port, unless it is damped. The move that reaches freezeMoves freezes the
// entry: at the TAP if it was there at any time, otherwise where it was before the moves began, so
// that an attacker who caused the last move does not keep it.
func (t *fdb) move(slot int32, v entryValue, port PortID, now boottime.Time) outcome {
	c := &t.cold[slot]
	sec := second(now)
	if c.moves == 0 || since(sec, c.movesFrom) >= freezeWindow {
		c.moves, c.movesFrom, c.origin = 0, sec, v.port()
	}
	if v.port() == LocalPort || port == LocalPort {
		c.origin = LocalPort
	}
	if port == LocalPort && v.port() != LocalPort {
		c.from = v.port()
	}
	at, flags := port, entryValue(0)
	if virtualMAC(keyMAC(t.keyAt(slot))) {
		c.moves = 0
	} else if c.moves+1 >= freezeMoves {
		at, flags = c.origin, flagFrozen
	}
	if at != v.port() {
		if reason := t.relink(slot, v.port(), at); reason != drop.None {
			return outcome{reason: reason}
		}
		c.created = sec
		key := t.keyAt(slot)
		t.changes.add(Change{Op: ChangeMoved, MAC: keyMAC(key), VLAN: keyVID(key), Port: at, From: v.port()})
	}
	c.moves++
	c.claim = claim{}
	out := outcome{moved: at != v.port(), owner: v.port(), at: at}
	if flags&flagFrozen != 0 {
		c.frozenUntil = sec + freezeDuration
		out.frozen = true
	}
	if at != port {
		out.reason = drop.MACFrozen
	}
	t.setValue(slot, entryValue(at)|flags|v&flagNamed)
	t.refresh(slot, sec)
	return out
}

// relink moves the entry from one port's list to another's, if that has room or can make some.
func (t *fdb) relink(slot int32, from, to PortID) drop.Reason {
	p := t.port(to)
	if p.n >= p.limit {
		p.full = true
		if p.hard {
			return drop.MACLimit
		}
		if !t.evict(p, false) {
			return drop.SourceForeign // an owner keeps its MAC if the new port could not hold it
		}
	}
	t.unlink(t.port(from), slot)
	t.append(p, slot)
	return drop.None
}

// setHost records the IP address of the host that has key, if key is known, so that the host can be
// asked for. addr has 4 or 16 bytes.
func (t *fdb) setHost(key uint64, addr []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, slot, ok := t.findLocked(key); ok {
		t.name(slot, addr)
	}
}

// name records the IP address of the host in slot, unless addr is empty. mu is held.
func (t *fdb) name(slot int32, addr []byte) {
	t.cold[slot].hostLen = uint8(copy(t.cold[slot].host[:], addr))
	if len(addr) > 0 {
		t.setValue(slot, t.value(slot)|flagNamed)
	}
}

// challenge is a request to be sent for a host to the port that has its MAC.
type challenge struct {
	key  uint64
	port PortID
	host [16]byte
	len  uint8
}

// claimOutcome is the result of a claim that was decided by silence.
type claimOutcome struct {
	key uint64
	by  PortID
	outcome
}

// claimsDue is what is due for the pending claims. The caller owns its slices.
type claimsDue struct {
	ask   []challenge
	check []Station // to be asked of the bridge
	done  []claimOutcome
	next  boottime.Time // when to look again; 0: no claim is pending
}

// dueClaims returns the challenges to send now, the claims decided by silence, and when to call it
// again.
func (t *fdb) dueClaims(now boottime.Time) (due claimsDue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := t.claims[:0]
	for _, slot := range t.claims {
		v, c := t.value(slot), &t.cold[slot]
		if v&flagClaimed == 0 || c.claim.at == 0 {
			continue // dropped, or the slot has been reused for another MAC
		}
		if t.ripe(slot, v, now) {
			due.done = append(due.done, t.settleClaim(slot, v, now))
			continue
		}
		keep = append(keep, slot)
		if at := t.pursue(slot, v, now, &due); due.next == 0 || at.Before(due.next) {
			due.next = at
		}
	}
	t.claims = keep
	return due
}

// settleClaim moves the entry in slot to the port that claims it. mu is held.
func (t *fdb) settleClaim(slot int32, v entryValue, now boottime.Time) claimOutcome {
	c := &t.cold[slot].claim
	o := claimOutcome{key: t.keyAt(slot), by: c.by}
	if c.quick {
		t.cold[slot].moves = 0
	}
	o.outcome = t.move(slot, v, c.by, now)
	if !o.moved && !o.frozen {
		t.dropClaim(slot, v)
		c.refuse = now.Add(claimBackoff)
	}
	return o
}

// pursue does what is due for the claim to the entry in slot, and returns when the next step is
// due. mu is held.
func (t *fdb) pursue(slot int32, v entryValue, now boottime.Time, due *claimsDue) boottime.Time {
	c := &t.cold[slot]
	if grace := c.claim.at.Add(c.claim.grace()); c.hostLen != 0 && !c.claim.asked {
		if now.Before(grace) {
			return grace
		}
		c.claim.asked = true
		due.ask = append(due.ask, challenge{t.keyAt(slot), v.port(), c.host, c.hostLen})
	}
	end := c.claim.until
	if v.port() != LocalPort || !t.bridged {
		return end
	}
	ask := func(as check) {
		c.claim.check = as
		key := t.keyAt(slot)
		due.check = append(due.check, Station{MAC: keyMAC(key), VLAN: keyVID(key)})
	}
	switch {
	case now.Before(end):
		if c.hostLen == 0 && c.claim.check == checkNone {
			ask(checkEarly)
		}
		return end
	case c.claim.check < checkAsked:
		ask(checkAsked)
	}
	return end.Add(checkWait)
}
