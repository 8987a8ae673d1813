package l2

import (
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// The loop probe. On the LAN it has EtherType 0x88b5 and follows "tund" 1 0 0 0; between hubs it is
// the body of a control message.
//
//	8 bytes    node
//	4 bytes    clock, seconds
//	4 bytes    on the LAN: VLAN; to a hub: port through which it was sent
//	16 bytes   HMAC-SHA-256 of these 16 bytes, truncated
//
// and on the LAN only:
//
//	1 byte     number of tags
//	8 bytes    each tag: HMAC-SHA-256 of the same 16 bytes, truncated
//
// The HMAC of a probe on the LAN uses the secret that all peers know from the sender's hello; it is
// for peers whose version does not support tags. Each tag is for one receiver and uses the key that
// the sender disclosed to this receiver alone, in its hello. The first tag is for the sender itself
// and uses a key that is never disclosed. So nobody who knows a secret can forge a probe of another
// node that a third one takes for genuine. The HMAC of a probe between hubs uses a key known only
// to the sender.
const (
	probeHead  = 16
	probeLen   = 32
	probeMagic = 0x74756e64_01000000 // "tund", version 1
	// Probes per interval; with more VLANs, they are probed in turn.
	maxProbedVLANs = 64
	tagSize        = 8
	maxTags        = 128 // tags in one probe, which then has 1,078 bytes and fits every path

	relayBurst = 2 // intervals' worth of an origin's probes that may be relayed at once
)

// relayRate limits how many probes of one peer are relayed to what a legitimate peer sends.
var relayRate = limit.Each(ProbeInterval/maxProbedVLANs, relayBurst*maxProbedVLANs)

// appendProbe appends a probe that names where it is sent (a VLAN of the LAN, or a port),
// authenticated by secret.
func (s *Switch) appendProbe(b []byte, now boottime.Time, where uint32, secret *[16]byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, s.node)
	b = binary.BigEndian.AppendUint32(b, second(now))
	b = binary.BigEndian.AppendUint32(b, where)
	sum := authenticate(secret, b[start:])
	return append(b, sum[:]...)
}

// appendTags appends the tags of the probe that b ends with: our own, and one for each key.
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

// origin returns the port of the node that made the probe, or LocalPort if it is our own. ok is
// false if the node is not that of a peer with which we exchange frames now, and for a probe that
// is not genuine or not current. mu is held.
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
		// Several peers may claim one node name; only its owner knows the secret.
		if p.peer.keyed && tagged(&p.peer.key, probe) ||
			!p.peer.keyed && authentic(&p.peer.secret, probe[:probeHead], probe[probeHead:probeLen]) {
			return id, true
		}
	}
	return 0, false
}

// probeFrame handles a frame with the EtherType of loop probes. mine is false if the probe does not
// concern this switch and the frame is to be treated as an ordinary one (which has already passed
// storm control: f.probe). Otherwise the frame ends here with reason, unless f.relay is set.
//
// Genuine probes are not charged to a budget, so no amount of garbage keeps them from being seen.
// Garbage costs the computation of an authenticator only if it names us or a peer, and only
// authenticated peers can add to the list of names.
func (s *Switch) probeFrame(f *frameInfo, v *Verdict) (mine bool, reason drop.Reason) {
	b := f.p.Frame[f.h.Payload:]
	if len(b) < 8+probeLen || binary.BigEndian.Uint64(b) != probeMagic {
		return false, drop.None
	}
	node := binary.BigEndian.Uint64(b[8:])
	if f.in.id == LocalPort && node != s.node {
		v.Wake = s.heardProbe(f) || v.Wake
	}
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
	if !f.in.state.meters[ClassProbe].Take(f.now, f.p.segments(), f.in.storms[ClassProbe].all) {
		return true, drop.StormBroadcast
	}
	f.probe = true
	return false, drop.None
}

// relayProbe adds the peers that are to receive a probe which the peer at port f.relay made and
// which arrived at our TAP.
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

// newerProbe reports whether the probe is neither one that was relayed before nor an older one,
// which would be a replay. Further probes with the same clock and VLAN carry further tags.
func (s *Switch) newerProbe(f *frameInfo, origin *portState) bool {
	clock := binary.BigEndian.Uint32(f.p.Frame[f.h.Payload+8+8:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if origin.relayed == nil {
		origin.relayed = make(map[uint16]relayed) // at most one entry per VLAN
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

// relayed describes the last probe of a peer that was relayed in a VLAN.
type relayed struct {
	clock uint32
	n     uint8
}

// sendProbes queues the probes of this interval: those to other hubs, and on our LAN one in each
// VLAN, or as many as are needed to carry the tags. mu is held.
func (s *Switch) sendProbes(now boottime.Time) {
	view := s.view.Load()
	if len(view.peers) == 0 {
		return // without a tunnel there is no loop
	}
	s.sendHubProbes(now, view)
	carried := view.carried()
	if !s.mayProbe(now, &carried) {
		return
	}
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
		s.probes = sent
		s.unprobed--
		for ok := true; ok; ok = len(keys) > 0 {
			n := min(len(keys), maxTags-1)
			b := appendHeader(make([]byte, 0, 128+n*tagSize), Broadcast, s.mac, vid, vid != 0, typeProbe)
			b = binary.BigEndian.AppendUint64(b, probeMagic)
			b = s.appendProbe(b, now, uint32(vid), &s.secret)
			s.toDevice(s.appendTags(b, keys[:n]))
			keys = keys[n:]
		}
	}
}

// keysFor returns the keys of the peers that carry the VLAN and support tags. mu is held.
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

// carried returns the VLANs that at least one peer carries.
func (v *view) carried() (all vlanSet) {
	for _, p := range v.peers {
		for i, w := range p.vlans.tagged {
			if i == 0 && p.vlans.pvid != 0 {
				w &^= 1 // untagged frames belong to the PVID
			}
			all[i] |= w
		}
		if p.vlans.pvid != 0 {
			all.add(p.vlans.pvid)
		}
	}
	return all
}
