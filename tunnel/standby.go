package tunnel

import (
	"time"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/tunnel/extension"
	"tund/tunnel/failover"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
)

const (
	// failoverEvery is how often peers that share allowed IPs are observed. Only they are, and only
	// while there are any.
	failoverEvery = 250 * time.Millisecond
	// maxMoves is how many changes of the carrying peer are logged at once, each in a line.
	maxMoves = 10
)

// runFailover keeps the allowed IPs that several peers share at the best of them, until the tunnel
// ends.
func (t *Tunnel) runFailover() {
	tick := time.NewTimer(time.Hour)
	tick.Stop()
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-t.sharing:
		case <-tick.C:
		}
		if t.watchStandby() {
			tick.Reset(failoverEvery)
		}
	}
}

// watchStandby observes the peers that share allowed IPs, asks those without a session for one, and
// moves the allowed IPs. It reports whether there are such peers.
func (t *Tunnel) watchStandby() bool {
	now := t.env.Clock.Now()
	all := make(map[*peer.Peer]failover.Condition)
	if t.via.Load() != nil {
		return false // the host's routes decide
	}
	for owners := range t.routes.Shared {
		for _, p := range owners {
			all[p] = failover.Unknown
		}
	}
	for p := range all {
		all[p] = condition(p, now)
		if p.State(now) == StateUp {
			continue
		}
		// Only a peer that is asked tells that it is back.
		if p.Endpoint() != nil && !t.env.Link.KnownDown() {
			t.env.WantHandshake(p, now)
		}
	}
	t.judgeMu.Lock()
	t.judge.Observe(all, now)
	moves := make(map[[2]*peer.Peer]int)
	for owners, active := range t.routes.Shared {
		if best := t.judge.Best(owners, (*peer.Peer).Priority); best != active {
			moves[[2]*peer.Peer{active, best}]++
		}
	}
	t.judgeMu.Unlock()
	if len(moves) > 0 {
		t.routes.Update(t.chooseActive)
		t.logMoves(moves)
	}
	return len(all) > 0
}

// condition judges one peer. Where another can take over, one with liveness is given up a little
// earlier than its state becomes down: within three intervals of its last sign of life, of which it
// gives one in each interval, and not of the first request that it does not answer.
func condition(p *peer.Peer, now boottime.Time) failover.Condition {
	switch p.State(now) {
	case StateDown:
		return failover.Down
	case StateUp:
		if silent(p, now) {
			return failover.Down
		}
		return failover.Up
	}
	return failover.Unknown
}

// silent reports whether nothing has come from a peer for two and a half intervals of its liveness:
// two answers in a row are missing.
func silent(p *peer.Peer, now boottime.Time) bool {
	every := p.Extension.Liveness()
	if every == 0 || extension.Features(p.Extension.Features())&extension.FeatureEcho == 0 {
		return false
	}
	since := p.LastReceived()
	if kp := p.Current(); kp != nil {
		since = max(since, kp.Established)
	}
	return since != 0 && now.Sub(since) > 5*every/2
}

// chooseActive gives every shared prefix to the best of its peers.
func (t *Tunnel) chooseActive(tx *l3.Tx[*peer.Peer]) {
	t.judgeMu.Lock()
	defer t.judgeMu.Unlock()
	tx.Choose(func(owners []*peer.Peer) *peer.Peer { return t.judge.Best(owners, (*peer.Peer).Priority) })
}

func (t *Tunnel) logMoves(moves map[[2]*peer.Peer]int) {
	logged := 0
	for m, prefixes := range moves {
		if logged++; logged > maxMoves {
			t.log.Info("more peers took over shared allowed IPs", zap.Int("changes", len(moves)-maxMoves))
			return
		}
		t.log.Info("another peer carries shared allowed IPs now", zap.String("peer", m[1].DisplayName()),
			zap.String("instead_of", m[0].DisplayName()), zap.Int("prefixes", prefixes))
		if t.failover != nil {
			t.failover(m[1].DisplayName(), m[0].DisplayName(), prefixes)
		}
	}
}

// standby returns the peers that share allowed IPs of which they carry none at present.
func (t *Tunnel) standby() map[*peer.Peer]bool {
	waits := make(map[*peer.Peer]bool)
	carries := make(map[*peer.Peer]bool)
	if t.via.Load() != nil {
		return waits
	}
	for owners, active := range t.routes.Shared {
		carries[active] = true
		for _, p := range owners {
			waits[p] = true
		}
	}
	for p := range carries {
		delete(waits, p)
	}
	return waits
}
