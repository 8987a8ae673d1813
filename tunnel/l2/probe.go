package l2

import (
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// The probe, in both forms (on the LAN: EtherType 0x88b5, behind "tund" 1 0 0 0):
//
//	node (8 bytes) | clock, seconds (4) | on the LAN: VLAN; to a hub: port it left by (4) | HMAC-SHA-256 of these 16 bytes, cut to 16
//	on the LAN then: number of tags (1) | tags, each HMAC-SHA-256 of the same 16 bytes, cut to 8
//
// The HMAC of a probe on the LAN is under the secret that all peers know from the sender's hello;
// it counts for peers of versions that know no tags. Each tag is for one receiver, under the key
// that the sender's hello told this one alone; the first is under a key that the sender keeps to
// itself. So nobody who knows a secret can make a probe of another's that a third takes for
// genuine. The HMAC of a probe between hubs is under a secret of the sender's alone.
const (
	probeHead      = 16
	probeLen       = 32
	probeMagic     = 0x74756e64_01000000 // "tund", version 1
	maxProbedVLANs = 64                  // probes per interval: what does not fit takes turns
	tagSize        = 8
	maxTags        = 128 // in one probe, which then has 1,078 bytes and crosses every path

	relayBurst = 2 // intervals' worth of an origin's probes that may be passed on at once
)

// relayRate bounds what is passed on of one peer's probes by what an honest peer sends.
var relayRate = limit.Each(ProbeInterval/maxProbedVLANs, relayBurst*maxProbedVLANs)

// appendProbe appends a probe that names where it leaves (a VLAN of the LAN, or a port),
// authenticated by secret.
func (s *Switch) appendProbe(b []byte, now boottime.Time, where uint32, secret *[16]byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, s.node)
	b = binary.BigEndian.AppendUint32(b, second(now))
	b = binary.BigEndian.AppendUint32(b, where)
	sum := authenticate(secret, b[start:])
	return append(b, sum[:]...)
}

// appendTags appends the tags of the probe that b ends with: ours, and one for each key.
func (s *Switch) appendTags(b []byte, keys []*[16]byte) []byte {
	head := b[len(b)-probeLen:][:probeHead]
	b = append(b, byte(1+len(keys)))
	sum := authenticate(&s.lan, head)
	b = append(b, sum[:tagSize]...)
	for _, key := range keys {
		sum := authenticate(key, head)
		b = append(b, sum[:tagSize]...)
	}
	return b
}

// tagged reports whether one of the probe's tags was made with key.
func tagged(key *[16]byte, probe []byte) bool {
	if len(probe) <= probeLen {
		return false
	}
	want := authenticate(key, probe[:probeHead])
	n, tags := int(probe[probeLen]), probe[probeLen+1:]
	for ; n > 0 && len(tags) >= tagSize; n, tags = n-1, tags[tagSize:] {
		if [tagSize]byte(tags) == [tagSize]byte(want[:]) {
			return true
		}
	}
	return false
}

// origin returns the port of the node that made the probe; LocalPort and true for ours. ok is false
// for a node that is none of a peer with which we exchange frames now, and for a probe that is not
// genuine or not of now. mu is held.
func (s *Switch) origin(now boottime.Time, probe []byte, view *view) (id PortID, ok bool) {
	node := binary.BigEndian.Uint64(probe)
	clock := int64(binary.BigEndian.Uint32(probe[8:]))
	if node == s.node {
		age := int64(second(now)) - clock
		return LocalPort, age >= 0 && age <= int64(holdTime/time.Second) && tagged(&s.lan, probe)
	}
	for _, id := range view.probers[node] {
		p := s.ports[id]
		if p == nil || !p.carries() || p.peer.node != node {
			continue
		}
		d := clock - int64(second(now)) - p.peer.clock
		if d < -clockSlack || d > clockSlack {
			continue
		}
		// Several ports may claim one node name; only the one it belongs to knows the secret.
		if p.peer.keyed && tagged(&p.peer.key, probe) ||
			!p.peer.keyed && authentic(&p.peer.secret, probe[:probeHead], probe[probeHead:probeLen]) {
			return id, true
		}
	}
	return 0, false
}

// probeFrame looks at a frame with the probe's EtherType. mine is false when it is somebody else's,
// to be treated as an ordinary frame (without storm control: f.probe); otherwise the frame ends
// here, for reason, unless f.relay is set.
//
// What is genuine spends no budget, so that no amount of garbage keeps it from being seen. Garbage
// costs an authenticator only if it names us or a peer, and no peer that is not authenticated can
// add to the list of names.
func (s *Switch) probeFrame(f *frameInfo, v *Verdict) (mine bool, reason drop.Reason) {
	b := f.p.Frame[f.h.Payload:]
	if len(b) < 8+probeLen || binary.BigEndian.Uint64(b) != probeMagic {
		return false, drop.None
	}
	node := binary.BigEndian.Uint64(b[8:])
	if node == s.node || len(f.view.probers[node]) > 0 {
		s.mu.Lock()
		id, ok := s.origin(f.now, b[8:], f.view)
		if ok {
			v.Wake = s.judge(f, id, binary.BigEndian.Uint32(b[8+12:])) || v.Wake
		}
		s.mu.Unlock()
		if ok {
			return true, drop.LoopBlocked
		}
	}
	if !f.in.state.meters[ClassProbe].Take(f.now, f.p.segments(), f.view.storms[ClassProbe].all) {
		return true, drop.StormBroadcast
	}
	f.probe = true
	return false, drop.None
}

// relayProbe adds the peers that are to hear a probe of the peer at port f.relay that came in at
// our TAP.
func (s *Switch) relayProbe(f *frameInfo, v *Verdict) drop.Reason {
	origin := f.view.port(f.relay)
	if origin == nil || !s.newerProbe(f, origin.state) {
		return drop.LoopBlocked
	}
	if !origin.state.relay.Take(f.now, 1, relayRate) {
		return drop.StormBroadcast
	}
	for _, p := range f.view.peers {
		if p.id != f.relay {
			f.sendTo(p.id, v)
		}
	}
	if len(v.Out) == 0 {
		return drop.LoopBlocked
	}
	return drop.None
}

// newerProbe reports whether the probe is none that was passed on before, or an older one: a
// replay. A second of the same clock and VLAN is a further part of the tags.
func (s *Switch) newerProbe(f *frameInfo, origin *portState) bool {
	clock := binary.BigEndian.Uint32(f.p.Frame[f.h.Payload+8+8:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if origin.relayed == nil {
		origin.relayed = make(map[uint16]relayed) // at most one for each VLAN
	}
	last := origin.relayed[f.vid]
	switch {
	case int32(clock-last.clock) > 0 || last.n == 0:
		last = relayed{clock, 1}
	case clock == last.clock && last.n < maxProbedVLANs:
		last.n++
	default:
		return false
	}
	origin.relayed[f.vid] = last
	return true
}

// relayed is what was passed on last of a peer's probes in a VLAN.
type relayed struct {
	clock uint32
	n     uint8
}

// pace returns the time between our probes: a little less than ProbeInterval, and another for each
// switch. Two loops through the same LANs, of switches that start together, would otherwise cut
// each other at the same moment, again and again.
func (s *Switch) pace() time.Duration {
	return ProbeInterval - time.Duration(s.node>>8&0x7f)*time.Millisecond
}

// sendProbes queues this interval's probes: in each VLAN one, or as many as the tags need. mu is
// held.
func (s *Switch) sendProbes(now boottime.Time) {
	view := s.view.Load()
	if len(view.peers) == 0 {
		return // no tunnel, no loop
	}
	carried := view.carried()
	sent, first := 0, s.probeVID
	for i := range uint16(maxVID + 1) {
		vid := (first + i) % (maxVID + 1)
		if !carried.has(vid) {
			continue
		}
		keys := s.keysFor(view, vid)
		parts := (len(keys) + maxTags - 2) / (maxTags - 1)
		if sent += max(parts, 1); sent > maxProbedVLANs && sent > parts {
			s.probeVID = vid
			break
		}
		for ok := true; ok; ok = len(keys) > 0 {
			n := min(len(keys), maxTags-1)
			b := appendHeader(make([]byte, 0, 128+n*tagSize), Broadcast, s.mac, vid, vid != 0, typeProbe)
			b = binary.BigEndian.AppendUint64(b, probeMagic)
			b = s.appendProbe(b, now, uint32(vid), &s.secret)
			s.toDevice(s.appendTags(b, keys[:n]))
			keys = keys[n:]
		}
	}
	s.sendHubProbes(now, view)
}

// keysFor returns the keys of the peers that carry the VLAN and know tags. mu is held.
func (s *Switch) keysFor(view *view, vid uint16) (keys []*[16]byte) {
	for _, p := range view.peers {
		if _, ok := p.vlans.egress(vid); ok {
			if sp := s.ports[p.id]; sp != nil && sp.peer.keyed {
				keys = append(keys, &sp.key)
			}
		}
	}
	return keys
}

// carried returns the VLANs that some peer carries.
func (v *view) carried() (all vlanSet) {
	for _, p := range v.peers {
		for i, w := range p.vlans.tagged {
			if i == 0 && p.vlans.pvid != 0 {
				w &^= 1 // untagged frames are those of the PVID
			}
			all[i] |= w
		}
		if p.vlans.pvid != 0 {
			all.add(p.vlans.pvid)
		}
	}
	return all
}
