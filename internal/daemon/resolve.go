package daemon

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

// Times of name resolution.
const (
	lookupTimeout  = 5 * time.Second
	firstRetry     = time.Second
	lastRetry      = time.Minute
	recheckEvery   = 30 * time.Second // how often peers that are down are asked for anew
	parallelLookup = 8
)

// resolver finds the addresses of endpoints given by name, in the background and again and again: a name that does
// not resolve never stops a start, and one that resolves elsewhere is followed when its peer is down.
type resolver struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	wake   chan struct{} // capacity 1: the peers changed

	mu    sync.Mutex // guards peers and the entries
	peers map[keys.PublicKey]*named
}

// named is a peer with its endpoints as far as they are known.
type named struct {
	peer  config.Peer
	found map[string][]netip.Addr // by host, the last good answer
	next  time.Time
	pause time.Duration
	names bool // has endpoints to be resolved

	resolved bool // every name has an answer
}

func newResolver(peers []config.Peer) *resolver {
	r := &resolver{wake: make(chan struct{}, 1), lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
	r.set(peers)
	return r
}

// set replaces the peers, keeping what is known of hosts that stay.
func (r *resolver) set(peers []config.Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.peers
	r.peers = make(map[keys.PublicKey]*named)
	for _, p := range peers {
		n := &named{peer: p, found: map[string][]netip.Addr{}}
		for _, e := range p.Endpoints {
			if _, literal := e.AddrPort(); literal {
				continue
			}
			n.names = true
			if o := old[p.PublicKey]; o != nil && o.found[e.Host] != nil {
				n.found[e.Host] = o.found[e.Host]
			}
		}
		if n.names {
			r.peers[p.PublicKey] = n
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// endpoints lists where p may be found, in order of preference, as far as is known.
func (r *resolver) endpoints(p config.Peer) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known(p)
}

// known is endpoints with mu held.
func (r *resolver) known(p config.Peer) []netip.AddrPort {
	out := []netip.AddrPort{}
	for _, e := range p.Endpoints {
		if a, literal := e.AddrPort(); literal {
			out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
			continue
		}
		if n := r.peers[p.PublicKey]; n != nil {
			for _, a := range n.found[e.Host] {
				out = append(out, netip.AddrPortFrom(a.Unmap(), e.Port))
			}
		}
	}
	return out
}

// run resolves until ctx ends.
func (r *resolver) run(ctx context.Context, d *Daemon) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(r.round(ctx, d))
	}
}

// round looks up everything that is due, and returns how long to wait for the next round.
func (r *resolver) round(ctx context.Context, d *Daemon) time.Duration {
	due := r.due(d)
	var running sync.WaitGroup
	slots := make(chan struct{}, parallelLookup)
	for _, n := range due {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			r.resolve(ctx, d, n)
		})
	}
	running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := recheckEvery
	for _, n := range r.peers {
		wait = min(wait, max(time.Until(n.next), 100*time.Millisecond))
	}
	return wait
}

// due lists the peers to look up now: those never resolved, those that failed a while ago, and those that are down,
// which may have moved.
func (r *resolver) due(d *Daemon) []*named {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var due []*named
	for key, n := range r.peers {
		if n.next.After(now) {
			continue
		}
		if n.resolved && n.pause == 0 && d.tunnel.PeerState(key) != tunnel.StateDown {
			n.next = now.Add(recheckEvery)
			continue
		}
		due = append(due, n)
	}
	return due
}

// resolve looks up the names of one peer and tells the tunnel what is new.
func (r *resolver) resolve(ctx context.Context, d *Daemon, n *named) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	changed, failed := false, error(nil)
	for _, e := range n.peer.Endpoints {
		if _, literal := e.AddrPort(); literal {
			continue
		}
		addrs, err := r.lookup(ctx, e.Host)
		if err != nil {
			failed = err
			continue
		}
		r.mu.Lock()
		if !slices.Equal(addrs, n.found[e.Host]) {
			n.found[e.Host], changed = addrs, true
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	again := recheckEvery
	if failed == nil {
		n.pause, n.resolved = 0, true
	} else {
		n.pause = min(max(2*n.pause, firstRetry), lastRetry)
		again = n.pause
	}
	n.next = time.Now().Add(again)
	r.mu.Unlock()
	if failed != nil {
		d.log.Warn("endpoint does not resolve yet", zap.String("peer", n.peer.Name), zap.Error(failed), zap.Duration("again", n.pause))
	}
	if changed {
		d.setEndpoints(n.peer, r.endpoints(n.peer))
	}
}
