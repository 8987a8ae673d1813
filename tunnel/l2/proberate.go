package l2

import (
	"math/bits"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// When loop probes are sent on our LAN.
//
// A probe is a broadcast that every host of the LAN and every other path out of it has to carry, so
// none is sent without a reason. A loop through the tunnel is harmless until a frame travels round
// it, and the first one that does betrays it: the switch sees the MAC of a host at two places, or
// its own frames come back from the LAN. So as long as nothing looks like a loop, the VLANs are
// probed only once per restInterval. A suspicion has them probed at once, and then once per
// ProbeInterval until nothing has been suspicious for watchTime. These are suspicions:
//
//   - the MAC of a host is used, or moves, where it does not belong: it is known or pinned at
//     another port, or it is our own;
//   - storm control drops frames;
//   - a probe shows a loop: a peer's or ours that arrives at our TAP, or ours that a peer brings;
//   - a switch that has not been heard for neighbourTime sends probes on our LAN;
//   - a peer has come up, or the bridge of the TAP has another port, which is a new path between
//     LANs.
//
// Where probes are what keeps a block in place, they go on: as long as a peer is blocked that
// serves our own LAN, and as long as a peer uses us as one of two gateways of our LAN. With
// NoLearning there are no suspicions, so there is no rest either, nor beside a peer of a version
// that does not tell gateways that they are used as such.
//
// What an attacker gains: by arousing suspicions, a peer or a host can make us send a probe in each
// VLAN once per ProbeInterval. By silence it gains a loop that nothing travels round.
const (
	// restInterval is the time from the beginning of one round through all VLANs to that of the
	// next, at rest. It bounds how long a loop stays unknown that no frame betrays.
	restInterval = 5 * time.Minute
	// Longer than suspectTime, so that a remote site receives the probes of both gateways of a LAN
	// within that time.
	watchTime = suspectTime + 5*time.Second
	// Between two notes of the packet path that something is suspicious.
	suspectGap = 100 * time.Millisecond

	// quickInterval is the interval between probes of a gateway that is one of two: short enough
	// for TCP, which doubles the time between its attempts, to go on within 3 s after a failure.
	quickInterval = 2 * ProbeInterval / 5
	// maxQuickProbes is how many a gateway may send at that interval: peers relay no more than
	// maxProbedVLANs in each ProbeInterval.
	maxQuickProbes = maxProbedVLANs / 3

	// easeSteps is how many probes are sent at intervals between quickInterval and ProbeInterval
	// when the former is given up. Of the first three the receiver takes the one in the middle as
	// what it has to expect (see rhythm).
	easeSteps = 4
)

// suspect notes that something looks as if there were a loop. The next Tick takes it up. It takes
// no lock.
func (s *Switch) suspect(now boottime.Time) {
	if at := boottime.Time(s.suspected.Load()); now.Sub(at) > suspectGap {
		s.suspected.Store(int64(now))
	}
}

// heardProbe notes that another switch has sent the probe in f on our LAN, and reports whether that
// is new. Only then is it suspicious: two tunnels between different sites that share one LAN hear
// each other for ever.
func (s *Switch) heardProbe(f *frameInfo) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh = !s.hasNeighbour(f.now, f.vid)
	s.lanProbes[f.vid] = f.now // at most one entry per VLAN
	if fresh {
		s.suspect(f.now)
	}
	return fresh
}

// tickProbes sends the probes that are due. mu is held.
func (s *Switch) tickProbes(now boottime.Time) {
	if at := boottime.Time(s.suspected.Load()); at != 0 {
		s.watchUntil = max(s.watchUntil, at.Add(watchTime))
	}
	resting := s.mayRest(now)
	if s.resting && !resting {
		s.probeAt = dueNow
	}
	s.resting = resting
	if !now.Before(s.probeAt) {
		s.probeAt = now.Add(s.pace())
		s.sendProbes(now)
	}
}

// soonRate limits how often peers that come up have probes sent before their time: a peer may come
// and go as often as it likes.
var soonRate = limit.Each(ProbeInterval, 8)

// probeSoon has the next Tick send probes, or those of ProbeInterval do if there have been many. mu
// is held.
func (s *Switch) probeSoon(now boottime.Time) {
	if s.soon.Take(now, soonRate) {
		s.probeAt = dueNow
	}
}

// mayRest reports whether our LAN need not be probed before the next round is due. mu is held.
func (s *Switch) mayRest(now boottime.Time) bool {
	if now.Before(s.watchUntil) || s.cfg.NoLearning || s.easing > 0 {
		return false
	}
	for i := range s.blocks {
		if s.blocks[i].other == LocalPort {
			return false
		}
	}
	for _, p := range s.ports {
		if len(p.standby)+len(p.active) > 0 || p.carries() && !p.peer.keyed {
			return false
		}
	}
	return true
}

// mayProbe reports whether to go on with the round through the VLANs now. mu is held.
func (s *Switch) mayProbe(now boottime.Time, carried *vlanSet) bool {
	if s.unprobed > 0 {
		return true
	}
	if s.resting && now.Before(s.roundAt) {
		return false
	}
	s.roundAt = now.Add(s.stagger(restInterval))
	for _, w := range carried {
		s.unprobed += bits.OnesCount64(w)
	}
	return true
}

// pace returns the interval between our probes. A switch that is one of two gateways of a LAN
// probes more often, unless it has many VLANs: the other sites notice by its probes that it has
// failed. It returns to the longer interval by steps: the others, who have come to expect the short
// one, would take a single long one for a failure. mu is held.
func (s *Switch) pace() time.Duration {
	interval := ProbeInterval
	switch {
	case s.probes <= maxQuickProbes && s.isGateway():
		interval, s.easing = quickInterval, easeSteps
	case s.easing > 0:
		s.easing--
		interval = quickInterval * 3 / 2
		if s.easing == 0 {
			interval = quickInterval * 2
		}
	}
	return s.stagger(interval)
}

// stagger returns slightly less than interval, different for each switch. Otherwise two loops
// through the same LANs, made by switches that started together, would cut each other at the same
// moment again and again.
func (s *Switch) stagger(interval time.Duration) time.Duration {
	return interval - interval/8*time.Duration(s.node>>8&0x7f)/0x7f
}

// isGateway reports whether a peer uses us as one of two gateways of our LAN. mu is held.
func (s *Switch) isGateway() bool {
	for _, p := range s.ports {
		if len(p.standby)+len(p.active) > 0 {
			return true
		}
	}
	return false
}
