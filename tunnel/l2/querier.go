package l2

import (
	"bytes"
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// Querier: with Config.Querier the switch asks the hosts of all sites which multicast groups they
// want, as a multicast router would, so that snooping works on LANs that have none. It sends
// general queries of IGMPv3 (RFC 3376 §4.1) and MLDv2 (RFC 3810 §5.1) in each VLAN that a peer
// carries, to the TAP and to these peers.
//
// It always loses the election of the querier: its IGMP queries come from 0.0.0.0, which never wins
// (RFC 4541 §2.1.1), and its MLD queries from a link-local address above those that hosts form from
// their MACs. As long as another querier is heard in a VLAN, it is silent there. Of two switches
// that are queriers, the one with the lower MAC goes on.
const (
	queryRound = queryInterval * time.Second
	// Between the first rounds, and after a peer has come up, whose hosts nobody has asked yet.
	queryStartup  = queryRound / 4
	queryRounds   = 2  // at queryStartup
	queriedVLANs  = 32 // in one tick: two frames for each VLAN and peer
	queryResponse = 10 // seconds that hosts have to answer
)

// querier is the state of the querier. It is guarded by Switch.mu.
type querier struct {
	at     boottime.Time // of the next round, or of the rest of the present one; 0: at once
	vid    uint16        // where the present round goes on
	rounds int           // since a start, up to queryRounds
	soons  limit.Until   // limits rounds before their time
}

// querySoonRate limits rounds before their time, each of which costs every site two frames for each
// VLAN, and answers: a peer may come and go as often as it likes.
var querySoonRate = limit.Each(queryResponse*time.Second, 8)

// soon lets a round begin within a second or, if there have been many, when the answers to the last
// one have come.
func (q *querier) soon(now boottime.Time) {
	q.rounds = 0
	wait := time.Second
	if !q.soons.Take(now, querySoonRate) {
		wait = queryResponse * time.Second
	}
	if soon := now.Add(wait); q.vid == 0 && soon.Before(q.at) {
		q.at = soon
	}
}

// query sends the queries that are due.
func (s *Switch) query(now boottime.Time) {
	view := s.view.Load()
	if !view.cfg.Querier || view.cfg.NoSnooping || len(view.peers) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.querier
	if now.Before(q.at) {
		return
	}
	carried := view.carried()
	for n := 0; q.vid <= maxVID; q.vid++ {
		if !carried.has(q.vid) {
			continue
		}
		if n++; n > queriedVLANs {
			return // the rest at the next tick
		}
		for _, v6 := range []bool{false, true} {
			if s.groups.askAs(now, q.vid, v6) {
				s.sendQuery(view, q.vid, v6)
			}
		}
	}
	q.vid, q.at = 0, now.Add(queryRound)
	if q.rounds < queryRounds {
		q.rounds, q.at = q.rounds+1, now.Add(queryStartup)
	}
}

// sendQuery queues a query for the TAP and for the peers that carry the VLAN. mu is held.
func (s *Switch) sendQuery(view *view, vid uint16, v6 bool) {
	s.toDevice(appendQuery(nil, s.mac, vid, vid != 0, v6))
	for _, p := range view.peers {
		tagged, ok := p.vlans.egress(vid)
		if !ok || p.blocked != nil && p.blocked.has(vid) {
			continue
		}
		b := appendQuery(make([]byte, FrameHeaderLen, 128), s.mac, vid, tagged, v6)
		PutFrameHeader(b, 0, len(b)-FrameHeaderLen)
		s.toPeer(p.id, b)
	}
}

// askAs reports whether we are the querier in a VLAN, and notes that we are.
func (g *groups) askAs(now boottime.Time, vid uint16, v6 bool) bool {
	sec := second(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.domain(vid, v6)
	if d.otherUntil > sec {
		return false
	}
	d.queried(sec, queryResponse)
	return true
}

// yields reports whether we are silent after a query with header h in the IP packet b.
func yields(ours MAC, h *Header, b []byte) bool {
	if h.EtherType == typeIPv4 && binary.BigEndian.Uint32(b[12:]) != 0 {
		return true
	}
	if h.EtherType == typeIPv6 {
		own := querierAddress(ours)
		return bytes.Compare(b[8:24], own[:]) < 0
	}
	return h.Src < ours
}

// querierAddress returns the source of the MLD queries of the switch with a MAC.
func querierAddress(m MAC) (ip [16]byte) {
	ip[0], ip[1], ip[8], ip[9] = 0xfe, 0x80, 0xff, 0xff
	m.Put(ip[10:])
	return ip
}

// appendQuery appends a general query of the switch with MAC src.
func appendQuery(b []byte, src MAC, vid uint16, tagged, v6 bool) []byte {
	start := len(b)
	if v6 {
		b = appendHeader(b, 0x3333_00000001, src, vid, tagged, typeIPv6)
		b = appendMLDQuery(b, querierAddress(src), queryResponse)
	} else {
		b = appendHeader(b, multicastMAC4([]byte{224, 0, 0, 1}), src, vid, tagged, typeIPv4)
		b = appendIGMPQuery(b, queryResponse)
	}
	for len(b)-start < minFrameLen {
		b = append(b, 0)
	}
	return b
}

const minFrameLen = 60 // without FCS

// isQuery reports whether the frame is a general query exactly as the switch with its source MAC
// makes it.
func (f *frameInfo) isQuery() bool {
	var b [80]byte
	body := f.p.Frame[f.h.Payload:]
	switch f.h.EtherType {
	case typeIPv4:
		return f.h.Dst == 0x01005e_000001 && bytes.HasPrefix(body, appendIGMPQuery(b[:0], queryResponse))
	case typeIPv6:
		return f.h.Dst == 0x3333_00000001 && bytes.HasPrefix(body, appendMLDQuery(b[:0], querierAddress(f.h.Src), queryResponse))
	}
	return false
}
