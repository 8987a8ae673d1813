package l2

import (
	"encoding/binary"
	"maps"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Hosts that are gone.
//
// When the bridge of the TAP removes a host because its port is gone (a container was deleted, a
// virtual machine has left), peers are told: controlWithdraw. They forget where the host was and
// which IP addresses it had, so that its address may appear elsewhere at once, and so that
// questions for its successor are flooded as without neighbour suppression.
//
// A host that appears elsewhere soon after has moved: what moves with it (move.go) does so as if
// its address had been claimed.
//
// A peer withdraws only what is at its own port, and never an address that has moved lately: that
// would reset the count of moves by which an address is frozen.
const (
	// maxWithdrawn bounds the hosts that are withdrawn between two ticks. The others are asked for
	// when their addresses appear elsewhere, as if their bridge had said nothing.
	maxWithdrawn = 4 * maxAnnounceBatch
	// Hosts that are gone, of which it is known where they were.
	maxDeparted = 1024
	// Of these, hosts of one peer, which may withdraw and announce as it likes.
	maxPortDeparted = DefaultMaxPerPort
	departedLife    = 10 * time.Second // virtual machines are away for less
)

// departed is where a host was that is gone.
type departed struct {
	at   boottime.Time
	port PortID
}

// withdraw notes that a host of our LAN is gone. Tick tells the peers.
func (s *Switch) withdraw(now boottime.Time, key uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.withdrawn) < maxWithdrawn {
		s.withdrawn = append(s.withdrawn, key)
	}
	s.depart(now, key, LocalPort)
}

// depart notes that a host is no longer at port. If a peer has a claim to its address, the frame
// that made it is decided again. mu is held.
func (s *Switch) depart(now boottime.Time, key uint64, port PortID) {
	if len(s.departed) < maxDeparted && (port == LocalPort || s.departedFrom(port) < maxPortDeparted) {
		s.departed[key] = departed{now, port}
	}
	if h, ok := s.held[key]; ok {
		s.released = append(s.released, h) // at most maxClaims
		delete(s.held, key)
	}
}

// departedFrom returns how many hosts that are gone were at port. mu is held.
func (s *Switch) departedFrom(port PortID) int {
	n := 0
	for _, d := range s.departed {
		if d.port == port {
			n++
		}
	}
	return n
}

// appeared notes that an address that was unknown is at port now.
func (s *Switch) appeared(now boottime.Time, key uint64, port PortID) {
	s.mu.Lock()
	was, known := s.departed[key]
	delete(s.departed, key)
	s.mu.Unlock()
	if known && was.port != port && now.Sub(was.at) <= departedLife {
		s.moved(now, key, outcome{owner: was.port, at: port})
	}
}

// tickWithdrawn tells the peers which hosts of our LAN are gone, unless they are back already.
func (s *Switch) tickWithdrawn(now boottime.Time) {
	s.mu.Lock()
	gone := s.withdrawn
	s.withdrawn = nil
	maps.DeleteFunc(s.departed, func(_ uint64, d departed) bool { return now.Sub(d.at) > departedLife })
	s.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	for _, p := range s.view.Load().peers {
		var batch []byte
		send := func() {
			if len(batch) > 0 {
				s.sendMACs(p.id, controlWithdraw, batch)
				batch = batch[:0]
			}
		}
		for _, key := range gone {
			vid, ok := p.vlans.wire(keyVID(key))
			if _, _, back := s.fdb.find(key); back || !ok {
				continue
			}
			batch = append(batch, byte(vid>>8), byte(vid), 0, 0, 0, 0, 0, 0)
			keyMAC(key).Put(batch[len(batch)-6:])
			if len(batch) == maxAnnounceBatch*announceEntryLen {
				send()
			}
		}
		send()
	}
}

// withdrawnBy handles a peer's message about hosts that are gone.
func (s *Switch) withdrawnBy(now boottime.Time, p *port, body []byte) drop.Reason {
	if !p.cfg.Ethernet {
		return drop.NotEthernetPeer
	}
	gone := make(map[uint64]bool)
	worst := drop.None
	for ; len(body) >= announceEntryLen && len(gone) < maxAnnounceBatch; body = body[announceEntryLen:] {
		if !p.state.announce.Take(now, 1, s.announceRate) {
			worst = drop.StormUnknown
			break
		}
		vid, ok := p.vlans.fromWire(binary.BigEndian.Uint16(body))
		if !ok {
			worst = drop.VLANRefused
			continue
		}
		if key := entryKey(vid, MACFromBytes(body[2:])); s.fdb.withdraw(key, p.id, now) {
			gone[key] = true
		}
	}
	if len(gone) == 0 {
		return worst
	}
	s.hosts.withdraw(p.id, gone)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range gone {
		s.depart(now, key, p.id)
	}
	return worst
}

// withdraw removes key from port, and reports whether it was there. It is not remembered.
func (t *fdb) withdraw(key uint64, port PortID, now boottime.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, known := t.homes[key]; known && h.port == port {
		t.forgetHome(key)
		return true
	}
	v, slot, ok := t.findLocked(key)
	if !ok || v.port() != port || v&immovable != 0 {
		return false
	}
	if c := &t.cold[slot]; c.moves > 0 && since(second(now), c.movesFrom) < freezeWindow {
		return false
	}
	t.remove(slot)
	return true
}

// withdraw removes the bindings of hosts, by the keys of their MACs, that were at port.
func (t *neighbors) withdraw(port PortID, gone map[uint64]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, b := range t.table {
		if b.port == port && gone[entryKey(key.vid, b.mac)] {
			t.forget(key, &b)
		}
	}
}
