package l2

import (
	"encoding/binary"
	"math/bits"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// suspectPair tests whether the peers at two ports serve the same LAN, because a host that lives at
// port owner has also been seen at port by. The tests tell the two that they are suspected, so that
// they send probes; without these, nothing is blocked. Peers that know no tests are left alone.
func (s *Switch) suspectPair(now boottime.Time, owner, by PortID, vid uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range []PortID{owner, by} {
		if p := s.ports[id]; id == LocalPort || p == nil || !p.carries() || !p.peer.keyed || s.isBlocked(id, vid) {
			return
		}
	}
	key := pairKey{min(owner, by), max(owner, by), vid}
	p := s.pairs[key]
	if p == nil || p.suspected == 0 {
		if owner == by || s.ports[by].seenBy >= maxSeenBy {
			return
		}
		s.ports[by].seenBy++
		if p == nil {
			p = &pair{}
			s.pairs[key] = p
		}
		p.suspector = by
	}
	p.suspected = now
	s.test(now, key, p)
}

// newTestMAC returns a source MAC for a join test: three random bytes, and a two-byte check value
// by which we, and nobody else, recognize it without a table lookup. mu is held.
func (s *Switch) newTestMAC() MAC {
	random := s.derive("join test")
	n := MAC(random[0])<<16 | MAC(random[1])<<8 | MAC(random[2])
	return testMACByte<<40 | n<<16 | MAC(s.testCheck(n))
}

func (s *Switch) testCheck(n MAC) uint16 {
	hi, lo := bits.Mul64(uint64(n)^s.testSeed[0], s.testSeed[1])
	return uint16(hi ^ lo)
}

// isJoinTest reports whether the frame may be one of our own join tests coming back.
func (s *Switch) isJoinTest(f *frameInfo) bool {
	src := f.h.Src
	return f.in.id != LocalPort && f.h.EtherType == typeARP && f.h.Dst == Broadcast && src>>40 == testMACByte &&
		uint16(src) == s.testCheck(src>>16&0xffffff)
}

// joinTestBack handles a frame for which isJoinTest holds, and reports whether it was a test that
// is expected at that port.
func (s *Switch) joinTestBack(f *frameInfo, v *Verdict) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.tests[f.h.Src]
	if !ok || key.vid != f.vid {
		return false
	}
	p := s.pairs[key]
	for i := range p.test {
		if p.test[i] == f.h.Src && key.port(1-i) == f.in.id {
			delete(s.tests, p.test[i])
			p.test[i], p.proven[i], p.tries = 0, f.now, 0
			if s.isProven(f.now, key, p) {
				p.askAt = f.now.Add(retestTime)
			}
			v.Wake = s.cut(f.now, key, p) || v.Wake
			return true
		}
	}
	return false
}

// inUse reports whether a host has the MAC of key, as far as we know: one that has long been silent
// and one in another VLAN of a bridge that does not distinguish them, too. A frame from its MAC
// would lead what is sent to it to us.
func (s *Switch) inUse(key uint64) bool {
	if _, assigned := s.assigned.find(key); assigned {
		return true
	}
	return s.fdb.knows(key)
}

func (t *fdb) knows(key uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, ok := t.findLocked(key); ok {
		return true
	}
	if _, silent := t.homes[key]; silent {
		return true
	}
	v, _, ok := t.findLocked(entryKey(0, keyMAC(key)))
	return ok && t.allVLANs && v&flagStation != 0
}

// joinTest handles a peer's request for a join test: it sends an ARP probe from the MAC named in
// the request to our LAN. No known host may have that MAC.
func (s *Switch) joinTest(now boottime.Time, p *port, body []byte) drop.Reason {
	if len(body) < joinTestLen {
		return drop.BadInnerPacket
	}
	if !p.ready {
		return drop.NotEthernetPeer
	}
	vid, ok := p.vlans.fromWire(binary.BigEndian.Uint16(body))
	if !ok {
		return drop.VLANRefused
	}
	mac, view := MACFromBytes(body[2:]), s.view.Load()
	_, pinned := view.pinned[mac]
	if mac>>40 != testMACByte || pinned || mac == s.mac || s.inUse(entryKey(vid, mac)) {
		return drop.SourceForeign
	}
	if !p.state.joinTests.Take(now, 1, testRate) {
		return drop.ControlRate
	}
	s.suspect(now)
	b := appendHeader(make([]byte, 0, 64), Broadcast, mac, vid, vid != 0, typeARP)
	b = appendARP(b, 1, mac, []byte{0, 0, 0, 0}, 0, []byte{169, 254, byte(mac>>24)%254 + 1, byte(mac >> 16)})
	s.mu.Lock()
	s.toDevice(b)
	s.mu.Unlock()
	return drop.None
}
