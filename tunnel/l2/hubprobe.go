package l2

import (
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// sendHubProbes queues a probe to each peer, to detect rings of hubs. mu is held.
func (s *Switch) sendHubProbes(now boottime.Time, view *view) {
	if !view.cfg.Hub {
		return
	}
	for _, p := range view.peers {
		b := appendControl(nil, controlProbe, probeLen+1)
		s.toPeer(p.id, append(s.appendProbe(b, now, uint32(p.id), &s.own), 0))
	}
}

// hubProbe handles a probe of the kind that hubs relay to each other. A probe that claims to be
// ours is authenticated without being charged to a budget: the limit on control messages bounds the
// work that a peer can cause.
func (s *Switch) hubProbe(now boottime.Time, in *port, body []byte) drop.Reason {
	if len(body) < probeLen+1 {
		return drop.BadInnerPacket
	}
	view := s.view.Load()
	if !view.cfg.Hub || !in.cfg.Ethernet {
		return drop.None
	}
	node, hops := binary.BigEndian.Uint64(body), body[probeLen]
	if node == s.node {
		s.hubProbeBack(now, in, body)
		return drop.None
	}
	if !in.state.meters[ClassProbe].Take(now, 1, in.storms[ClassProbe].all) {
		return drop.StormBroadcast
	}
	if node < s.node && hops < MaxHops {
		s.passProbe(in, body, hops+1)
	}
	return drop.None
}

// hubProbeBack handles a probe that claims to be ours. If it is, the port at which it arrived is
// blocked.
func (s *Switch) hubProbeBack(now boottime.Time, in *port, probe []byte) {
	if !s.returned(now, probe) {
		return
	}
	left := PortID(binary.BigEndian.Uint32(probe[12:]))
	s.mu.Lock()
	blocked := in.id
	if s.isBlocked(left, everyVLAN) {
		blocked = left // the ring is already cut there
	}
	if s.ports[blocked] != nil {
		s.block(now, block{port: blocked, vid: everyVLAN, other: blocked})
	}
	s.mu.Unlock()
}

// returned reports whether we sent the probe to another hub within the last holdTime.
func (s *Switch) returned(now boottime.Time, probe []byte) bool {
	age := int64(second(now)) - int64(binary.BigEndian.Uint32(probe[8:]))
	return age >= 0 && age <= int64(holdTime/time.Second) &&
		authentic(&s.own, probe[:probeHead], probe[probeHead:probeLen])
}

// passProbe queues another hub's probe to all peers except the one it came from.
func (s *Switch) passProbe(in *port, body []byte, hops byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.view.Load().peers {
		if p.id == in.id {
			continue
		}
		b := appendControl(nil, controlProbe, probeLen+1)
		b = append(b, body[:probeLen]...)
		s.toPeer(p.id, append(b, hops))
	}
}
