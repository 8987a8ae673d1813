package resolve

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"tund/config"
)

// answer is the end of one lookup.
type answer struct {
	name  string
	addrs []netip.Addr
	unfit *unfitError // one of the addresses that were not taken; nil: there was none
	err   error
}

func (r *Resolver) ask(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := r.o.Lookup(ctx, name)
	var usable, rest []netip.Addr
	var refused *unfitError
	for _, a := range found {
		a = a.Unmap()
		why := unfit(name, a)
		switch {
		case why != "":
			refused = &unfitError{a, why}
		case slices.Contains(usable, a), slices.Contains(rest, a):
		case r.o.Reachable(a):
			usable = append(usable, a)
		default:
			rest = append(rest, a)
		}
	}
	usable = append(usable, rest...)
	if err == nil && refused != nil && len(usable) == 0 {
		err = refused
	}
	return answer{name, usable, refused, err}
}

// take records an answer and calls Changed for the peers whose endpoints it changes.
func (r *Resolver) take(ctx context.Context, a answer) {
	r.mu.Lock()
	h := r.hosts[a.name]
	if h == nil || ctx.Err() != nil { // no peer has the name any more, or we are stopping
		r.mu.Unlock()
		return
	}
	now := time.Now()
	h.busy, h.asked, h.err = false, true, a.err
	var changed []config.Peer
	if a.err == nil {
		h.pause = 0
		if a.unfit == nil {
			h.said = time.Time{}
		} else if now.Sub(h.said) >= complainEvery {
			h.said = now
			r.o.Log.Warn("an address of an endpoint is not used", zap.String("host", a.name),
				zap.String("peer", r.peers[h.users[0]].Name), zap.Error(a.unfit))
		}
		h.next = now.Add(jittered(recheckEvery))
		if !sameAddrs(h.addrs, a.addrs) { // many servers rotate the order: that is no change
			h.addrs = a.addrs
			for _, key := range h.users {
				changed = append(changed, r.peers[key])
			}
		}
	} else {
		h.pause = min(max(2*h.pause, firstRetry), lastRetry)
		h.next = now.Add(jittered(h.pause))
		if now.Sub(h.said) >= complainEvery {
			h.said = now
			r.o.Log.Warn("an endpoint does not resolve; it will be tried again", zap.String("host", a.name),
				zap.String("peer", r.peers[h.users[0]].Name), zap.Error(a.err), zap.Bool("known", len(h.addrs) > 0))
		}
	}
	r.mu.Unlock()
	for _, p := range changed {
		r.o.Changed(p)
	}
}

// jittered varies a pause by up to a quarter in either direction, so that many gateways do not ask
// at once.
func jittered(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// sameAddrs compares regardless of order. Neither slice holds an address twice.
func sameAddrs(a, b []netip.Addr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x netip.Addr) bool { return !slices.Contains(b, x) })
}
