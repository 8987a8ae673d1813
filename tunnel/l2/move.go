package l2

import (
	"encoding/binary"
	"slices"
	"time"

	"tund/internal/boottime"
)

// What moves together with a MAC address.
//
// The frame that started the claim was refused. If the claim succeeds, it is delivered after all:
// a host that announces itself with a single frame is heard.
//
// The multicast groups of the host have to follow it. Snooping knows them by port, and the host,
// which has noticed nothing, reports them again only when the querier asks, up to 125 seconds
// later. So the port to which the MAC moves gets, for groupGrace, whatever the old one got in that
// VLAN, and the host is asked at its new place: with general queries of IGMP and MLD to its own
// MAC, as bridges convert multicast to unicast. Nobody else hears them, so they neither compete
// with the querier nor make other hosts report. They are sent at once and again after requeryTime,
// since a virtual machine may not run yet.
const (
	groupGrace   = 7 // seconds: the second query, the time to answer it, and transit
	requeryTime  = 2 * time.Second
	maxRequeries = 1024 // moved hosts to be asked again; those in excess are asked once

	// Frames that wait for the outcome of a claim: the longest that every path carries.
	maxHeldFrame = 1024 // bytes
	heldLife     = silentWait + checkWait + time.Second
)

// held is a frame from a peer that waits for the outcome of the claim it has started.
type held struct {
	at    boottime.Time
	port  PortID
	hops  uint8
	frame []byte
}

// requery is a moved host whose groups are to be asked for once more.
type requery struct {
	at   boottime.Time
	key  uint64
	port PortID
}

// hold keeps the frame, which has started a claim. At most maxClaims are kept.
func (s *Switch) hold(f *frameInfo) {
	if f.p.segments() > 1 || len(f.p.Frame) > maxHeldFrame || f.in.id == LocalPort {
		return
	}
	h := held{f.now, f.in.id, f.hops, slices.Clone(f.p.Frame)}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := entryKey(f.vid, f.h.Src)
	if _, ok := s.held[key]; ok || len(s.held) < maxClaims {
		s.held[key] = h
	}
}

// moved notes that a MAC has moved: its groups follow, and the frame that it was announced with is
// released.
func (s *Switch) moved(now boottime.Time, key uint64, o outcome) {
	asks := !s.view.Load().cfg.NoSnooping && s.groups.follow(now, o.owner, o.at, keyVID(key))
	if asks {
		s.queryGroups(key, o.at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if asks && len(s.requeries) < maxRequeries {
		s.requeries = append(s.requeries, requery{now.Add(requeryTime), key, o.at})
	}
	if h, ok := s.held[key]; ok && h.port == o.at {
		s.released = append(s.released, h) // at most maxClaims
	}
	delete(s.held, key)
}

// tickMoves delivers what was released, asks moved hosts again, and forgets frames whose claim has
// failed.
func (s *Switch) tickMoves(now boottime.Time) {
	s.mu.Lock()
	released := s.released
	s.released = nil
	for key, h := range s.held {
		if now.Sub(h.at) > heldLife {
			delete(s.held, key)
		}
	}
	var due []requery
	s.requeries = slices.DeleteFunc(s.requeries, func(r requery) bool {
		if now.Before(r.at) {
			return false
		}
		due = append(due, r)
		return true
	})
	s.mu.Unlock()
	for _, r := range due {
		if v, _, ok := s.fdb.find(r.key); ok && v.port() == r.port {
			s.queryGroups(r.key, r.port)
		}
	}
	for i := range released {
		s.deliver(now, &released[i])
	}
}

// deliver decides about a held frame as if it arrived now, and queues it for its receivers.
func (s *Switch) deliver(now boottime.Time, h *held) {
	var v Verdict
	s.FromPeer(now, h.port, h.hops, Superpacket{Frame: h.frame}, &v)
	rewritten := func(r Rewrite) []byte {
		const room = FrameHeaderLen + tagLen
		b := append(make([]byte, room, room+len(h.frame)), h.frame...)
		off := r.Apply(b, room)
		return b[off-FrameHeaderLen:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.ToDevice {
		s.toDevice(rewritten(v.DeviceRewrite)[FrameHeaderLen:])
	}
	for _, out := range v.Out {
		b := rewritten(out.Rewrite)
		PutFrameHeader(b, v.Hops, len(b)-FrameHeaderLen)
		s.toPeer(out.Port, b)
	}
}

// queryGroups queues general queries to the host with the given key at the port.
func (s *Switch) queryGroups(key uint64, id PortID) {
	p := s.view.Load().port(id)
	if p == nil || !p.ready {
		return
	}
	vid, mac := keyVID(key), keyMAC(key)
	tagged, ok := p.vlans.egress(vid)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v6 := range []bool{false, true} {
		b := make([]byte, FrameHeaderLen, 128)
		if v6 {
			b = appendMLDQuery(appendHeader(b, mac, s.mac, vid, tagged, typeIPv6), linkLocal(s.mac), hostResponse)
		} else {
			b = appendIGMPQuery(appendHeader(b, mac, s.mac, vid, tagged, typeIPv4), hostResponse)
		}
		if id == LocalPort {
			s.toDevice(b[FrameHeaderLen:])
			continue
		}
		PutFrameHeader(b, 0, len(b)-FrameHeaderLen)
		s.toPeer(id, b)
	}
}

// Lengths of the queries that we send, with their IP headers.
const (
	igmpQueryLen = ipv4MinHeader + 4 + 12         // router alert, and RFC 3376 §4.1
	mldQueryLen  = ipv6Header + 8 + mldQueryBytes // hop-by-hop options, and RFC 3810 §5.1

	mldQueryBytes   = 28
	igmpTypeQuery   = 0x11
	queryRobustness = 2   // both RFCs' default
	queryInterval   = 125 // seconds, the same

	hostResponse = 1 // seconds in which a host that is asked alone answers
)

// appendIGMPQuery appends a general query of IGMPv3 from 0.0.0.0, the source of a switch without
// an address, which no querier yields to (RFC 4541 §2.1.1). Answers take at most response seconds.
func appendIGMPQuery(b []byte, response byte) []byte {
	start := len(b)
	b = append(b, 0x46, 0xc0, 0, igmpQueryLen, 0, 0, 0, 0, 1, protoIGMP, 0, 0)
	b = append(b, 0, 0, 0, 0, 224, 0, 0, 1)
	b = append(b, ipv4RouterAlert, 4, 0, 0)
	msg := len(b)
	b = append(b, igmpTypeQuery, response*10, 0, 0, 0, 0, 0, 0, queryRobustness, queryInterval, 0, 0)
	binary.BigEndian.PutUint16(b[start+10:], ^checksum(b[start:msg], 0))
	binary.BigEndian.PutUint16(b[msg+2:], ^checksum(b[msg:], 0))
	return b
}

// appendMLDQuery appends a general query of MLDv2 from the link-local address src. Answers take at
// most response seconds.
func appendMLDQuery(b []byte, src [16]byte, response byte) []byte {
	start := len(b)
	b = append(b, 0x60, 0, 0, 0, 0, mldQueryLen-ipv6Header, protoHopByHop, 1)
	b = append(b, src[:]...)
	b = append(b, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	b = append(b, protoICMPv6, 0, ipv6RouterAlert, 2, 0, 0, 1, 0) // 1: PadN
	msg := len(b)
	b = append(b, icmp6MLDQuery, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(response)*1000)
	b = append(b, make([]byte, 2+16)...)
	b = append(b, queryRobustness, queryInterval, 0, 0)
	binary.BigEndian.PutUint16(b[msg+2:], checksumICMPv6(b[start:], b[msg:]))
	return b
}

// follow gives the port to, for groupGrace, the groups of VLAN vid that the port from is a member
// of, and reports whether anything is pruned in that VLAN, so that the host is worth asking.
func (g *groups) follow(now boottime.Time, from, to PortID, vid uint16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	sec := second(now)
	pruned := false
	for _, v6 := range []bool{false, true} {
		d := g.domains[domainKey(vid, v6)]
		pruned = pruned || d != nil && d.querierUntil >= sec
	}
	this := transfer{from, to, vid, sec}
	if !pruned || g.last == this {
		return pruned // many MACs that move at once cost one walk over the table
	}
	g.last = this
	for key, list := range g.members {
		if keyVID(key) != vid {
			continue
		}
		for _, m := range list {
			if m.port == from && m.until > sec && !hasListener(list, to) {
				g.join(key, listener{to, sec + groupGrace})
				break
			}
		}
	}
	return true
}

// transfer identifies what follow has done in one second.
type transfer struct {
	from, to PortID
	vid      uint16
	sec      uint32
}
