package l2

import (
	"time"

	"tund/internal/boottime"
)

// Stations: what the Linux bridge of the TAP knows about our LAN.
//
// The switch itself hears only what the bridge sends out of the TAP: broadcasts, and frames to
// hosts behind peers. A host that talks only to others on its own LAN is silent at the TAP. The
// bridge hears it, so its forwarding database is read (by the caller: this package has no socket),
// and each MAC that it has at a port other than the TAP is a local entry here:
//
//   - It does not age out here. It ends when the bridge says so: when it ages out there, it is
//     remembered like any silent host (home.go); when its port went down or the entry was flushed,
//     it is forgotten, and the MAC may appear behind a peer at once.
//   - A station that the bridge has just heard is believed like a frame from the TAP, and takes its
//     MAC back from a peer. A list read later cannot do that: it takes nothing from a peer that
//     used the MAC after the bridge last heard it.
//   - A claim to a local MAC is not decided by the silence of the TAP alone: the bridge is asked
//     when it last heard the host (Actions.Ask, StationHeard). If that was after the claim, the
//     claim fails. A host without a known address is asked for at once: if the bridge has not heard
//     it for silentWait, it has been silent for long enough and the MAC moves, so that the first
//     frame from the new place is late by no more than the question takes; otherwise it moves when
//     that time is over, unless the bridge has heard it again.
//   - A fixed station (an address of the gateway itself, or a static entry that an administrator or
//     a hypervisor made) belongs to the LAN until it is removed there. No peer can claim it, and
//     its age says nothing.
//
// A bridge without VLAN filtering has one entry for a MAC in all VLANs. It counts for untagged
// frames; in another VLAN it counts once a peer uses the MAC there.
//
// On a LAN that has a second gateway to the same sites (loop.go), hosts of other sites appear at a
// port of the bridge as well: the frames of one gateway reach the other through the LAN. There only
// fixed stations count, so that such hosts are not taken for local ones and need not be claimed
// back when the other gateway fails. A peer that says that there is another gateway is believed if
// the LAN has brought probes of another switch: it must not rid hosts of their protection.
//
// Peers are not told of stations that have moved here: they learn it from frames.
//
// Stations are bounded like all entries of the TAP: what exceeds Config.MaxEntries is as if it had
// not been read.

// Station is a MAC address that the bridge of the TAP has at one of its other ports.
type Station struct {
	MAC  MAC
	VLAN uint16 // as it is on the TAP; 0: untagged
	// Fixed: no peer may claim it.
	Fixed bool
	Idle  time.Duration // since the bridge last heard it
}

func (st *Station) key() uint64 { return entryKey(st.VLAN, st.MAC) }

func (st *Station) valid() bool {
	return st.MAC != 0 && st.MAC <= Broadcast && !st.MAC.Group() && st.VLAN <= maxVID
}

// Departure says why a station is no longer at another port of the bridge.
type Departure uint8

// The reasons.
const (
	// DepartureMoved: the bridge has heard it from the TAP.
	DepartureMoved Departure = iota
	// DepartureAged: the bridge has not heard it for its ageing time.
	DepartureAged
	// DepartureRemoved: its port went down or left the bridge, or the entry was deleted.
	DepartureRemoved
)

// checkWait is for how long a claim waits for the bridge to be asked when it last heard the host.
const checkWait = 300 * time.Millisecond

// SyncStations sets the complete list of stations, after the bridge has been read. Local entries
// that were stations and are not listed become ordinary ones, which age out. all is not retained.
// allVLANs says that the bridge does not distinguish VLANs.
func (s *Switch) SyncStations(now boottime.Time, all []Station, allVLANs bool) {
	listed := make(map[uint64]bool, len(all))
	for i := range all {
		listed[all[i].key()] = true
	}
	s.fdb.syncStations(listed, allVLANs)
	s.AddStations(now, all)
}

// NoStations says that the TAP is in no bridge whose forwarding database can be read. Stations
// become ordinary local entries, and claims are decided without asking a bridge.
func (s *Switch) NoStations() { s.fdb.noStations() }

// AddStations adds stations that the bridge has heard; the list is not retained. MACs that are
// pinned elsewhere or frozen behind a peer are left there. Tick should be called soon.
func (s *Switch) AddStations(now boottime.Time, stations []Station) {
	view, shared := s.view.Load(), s.sharedVLANs(now)
	if view.cfg.NoLearning {
		return
	}
	for i := range stations {
		st := &stations[i]
		if shared.has(st.VLAN) && !st.Fixed {
			continue
		}
		if owner, pinned := view.pinned[st.MAC]; !st.valid() || st.MAC == s.mac || pinned && owner != LocalPort {
			continue
		}
		if s.assigned.later(st, now) {
			continue // the bridge has not heard it since it was assigned to a peer
		}
		o := s.fdb.addStation(st, now)
		if o.fresh {
			s.appeared(now, st.key(), LocalPort)
		}
		if o.fresh && st.Fixed {
			s.suspect(now) // the address of another port of the bridge: a new path between LANs
		}
		o.station = true
		s.noteOutcome(now, st.key(), LocalPort, o)
	}
}

// sharedVLANs returns the VLANs in which our LAN has another gateway to a peer.
func (s *Switch) sharedVLANs(now boottime.Time) (shared vlanSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		switch {
		case b.other != LocalPort:
		case b.vid == everyVLAN:
			for i := range shared {
				shared[i] = ^uint64(0)
			}
		default:
			shared.add(b.vid)
		}
	}
	for _, p := range s.ports {
		for vid := range p.standby {
			if s.hasNeighbour(now, vid) {
				shared.add(vid)
			}
		}
		for vid := range p.active {
			if s.hasNeighbour(now, vid) {
				shared.add(vid)
			}
		}
	}
	return shared
}

// RemoveStation ends a station. A MAC that is not one, or no longer at the TAP, is ignored. Tick
// should be called soon.
func (s *Switch) RemoveStation(now boottime.Time, vid uint16, mac MAC, why Departure) {
	if key := entryKey(vid, mac); s.fdb.removeStation(key, why, now) {
		s.withdraw(now, key)
	}
}

// StationHeard answers an Actions.Ask: the bridge last heard the MAC at another port than the TAP
// idle ago; known is false if it has no such entry. Tick should be called soon.
func (s *Switch) StationHeard(now boottime.Time, vid uint16, mac MAC, idle time.Duration, known bool) {
	key := entryKey(vid, mac)
	s.noteOutcome(now, key, LocalPort, s.fdb.stationHeard(key, idle, known, now))
}

// syncStations ends the stations that are not listed.
func (t *fdb) syncStations(listed map[uint64]bool, allVLANs bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bridged, t.allVLANs = true, allVLANs
	t.each(func(slot int32) {
		v, key := t.value(slot), t.keyAt(slot)
		if v&flagStation != 0 && !listed[key] && !(allVLANs && listed[entryKey(0, keyMAC(key))]) {
			t.setValue(slot, v&^(flagStation|flagFixed))
		}
	})
}

func (t *fdb) noStations() {
	t.syncStations(nil, false)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bridged = false
}

// addStation records a station.
func (t *fdb) addStation(st *Station, now boottime.Time) (o outcome) {
	key, heard := st.key(), second(max(now.Add(-st.Idle), 0))
	flags := flagStation
	if st.Fixed {
		flags |= flagFixed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v, slot, ok := t.findLocked(key)
	switch {
	case !ok:
		t.forgetHome(key)
		if t.insert(key, LocalPort, heard, flags) >= 0 {
			o.fresh = true
		}
		return o
	case v&flagStatic != 0, v&flagFrozen != 0 && v.port() != LocalPort:
		return o
	case v.port() != LocalPort && !st.Fixed && t.justConceded(slot, now):
		return o
	case v.port() != LocalPort:
		if !st.Fixed && heard <= t.seenAt(slot) && st.Idle >= time.Second {
			return o // a peer has used it since
		}
		if o = t.move(slot, v, LocalPort, now); !o.moved {
			return o
		}
	case heard > t.seenAt(slot):
		t.refresh(slot, heard)
	}
	t.setValue(slot, t.value(slot)&^(flagStation|flagFixed)|flags)
	return o
}

// removeStation ends a station, and reports whether its host is gone.
func (t *fdb) removeStation(key uint64, why Departure, now boottime.Time) (gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, slot, ok := t.findLocked(key)
	if !ok || v&flagStation == 0 {
		if why == DepartureRemoved {
			if h, known := t.homes[key]; known && h.port == LocalPort {
				t.forgetHome(key)
				gone = true
			}
		}
		return gone
	}
	t.setValue(slot, v&^(flagStation|flagFixed))
	switch {
	case why == DepartureMoved:
		t.refresh(slot, second(now)) // from now on it ages like any other
	case why == DepartureRemoved:
		t.remove(slot)
		return true
	case since(second(now), t.seenAt(slot)) > t.ageSecs && v&flagClaimed == 0:
		t.remember(slot)
		t.remove(slot)
	}
	return false
}

// stationHeard handles the bridge's answer about a host whose MAC a peer claims.
func (t *fdb) stationHeard(key uint64, idle time.Duration, known bool, now boottime.Time) outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, slot, ok := t.findLocked(key)
	if !ok || v.port() != LocalPort || v&flagClaimed == 0 {
		return outcome{}
	}
	c := &t.cold[slot].claim
	heard := now.Add(-idle)
	if known && heard.Sub(c.at) >= c.grace() {
		return t.ownerSeen(slot, v, now)
	}
	if known && t.cold[slot].hostLen == 0 && !c.quick {
		c.until = min(c.at, heard).Add(silentWait)
	}
	if c.check = checkAnswered; now.Before(c.until) {
		c.check = checkEarlyDone
	}
	return outcome{}
}

// stationElsewhere creates the entry of key, which is not in the table and was used by a peer, if a
// bridge that does not distinguish VLANs has the MAC. mu is held.
func (t *fdb) stationElsewhere(key uint64) (slot int32, ok bool) {
	untagged := entryKey(0, keyMAC(key))
	if !t.allVLANs || key == untagged {
		return -1, false
	}
	v, at, known := t.findLocked(untagged)
	if !known || v&flagStation == 0 {
		return -1, false
	}
	slot = t.insert(key, LocalPort, t.seenAt(at), v&(flagStation|flagFixed))
	return slot, slot >= 0
}

// check is how far the question to the bridge about a claimed MAC has come.
type check uint8

const (
	checkNone      check = iota
	checkEarly           // asked when the claim began
	checkEarlyDone       // it had been heard too recently to tell
	checkAsked           // asked at the end of the wait
	checkAnswered        // it has been silent for long enough
)

// ripe reports whether silence may decide the claim to the entry in slot, whose value is v. mu is
// held.
func (t *fdb) ripe(slot int32, v entryValue, now boottime.Time) bool {
	c := &t.cold[slot].claim
	if v.port() == LocalPort && t.bridged && c.check < checkAnswered {
		return !now.Before(c.until.Add(checkWait))
	}
	return !now.Before(c.until)
}
