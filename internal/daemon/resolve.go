package daemon

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/config"
	"tund/crypto/keys"
)

// Times of name resolution.
const (
	lookupTimeout  = 20 * time.Second // of one name: the system's resolver tries its servers in turn, 5 s each
	firstRetry     = time.Second      // after a lookup that failed, doubling …
	lastRetry      = time.Minute      // … up to this
	recheckEvery   = 30 * time.Second // how often names of peers that are down are looked up anew
	complainEvery  = time.Hour        // about one name
	parallelLookup = 8
)

// resolver finds the addresses of endpoints given by name, in the background and again and again: a name that does
// not resolve never stops a start, the last good answer is kept, and a name that moved is followed when its peer is
// down. It asks for each name once, however many peers have it.
type resolver struct {
	log    *zap.Logger
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// reachable reports whether there is a route to an address: those without one are tried last.
	reachable func(netip.Addr) bool
	// down reports whether a peer's names are worth another look.
	down func(keys.PublicKey) bool
	// tell is called when the endpoints of a peer changed. It may call endpoints.
	tell func(config.Peer)

	wake chan struct{} // capacity 1: something is due sooner than was known

	mu    sync.Mutex // guards what follows
	hosts map[string]*host
	peers map[keys.PublicKey]config.Peer // those with names
}

// host is one name.
type host struct {
	users []keys.PublicKey
	addrs []netip.Addr // the last good answer, in the order in which to try them
	err   error        // of the last lookup; nil: it succeeded, or there was none yet
	asked bool         // a lookup has ended
	busy  bool         // a lookup is under way, or waits for its turn
	next  time.Time    // of the next look
	pause time.Duration
	said  time.Time // when its failure, or an address not taken, was last logged
}

// markedLookup asks the system's DNS servers with our mark on the questions: in a full tunnel they would otherwise wait
// for the session which they are to make possible.
func markedLookup(mark func() uint32) func(context.Context, string) ([]netip.Addr, error) {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if m := mark(); m != 0 { // a refusal shows as a lookup that fails
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(m))
			}
		})
	}}
	r := &net.Resolver{PreferGo: true, Dial: dialer.DialContext}
	return func(ctx context.Context, host string) ([]netip.Addr, error) { return r.LookupNetIP(ctx, "ip", host) }
}

// set replaces the peers, keeping what is known of names that stay.
func (r *resolver) set(peers []config.Peer) {
	r.mu.Lock()
	old := r.hosts
	r.hosts, r.peers = make(map[string]*host), make(map[keys.PublicKey]config.Peer)
	for _, p := range peers {
		for _, e := range p.Endpoints {
			if _, literal := e.AddrPort(); literal {
				continue
			}
			h := r.hosts[e.Host]
			if h == nil {
				if h = old[e.Host]; h == nil {
					h = new(host)
				}
				h.users = nil
				r.hosts[e.Host] = h
			}
			h.users = append(h.users, p.PublicKey)
			r.peers[p.PublicKey] = p
		}
	}
	r.mu.Unlock()
	r.kick()
}

func (r *resolver) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// hurry looks up at once what failed: the network has changed.
func (r *resolver) hurry() {
	r.mu.Lock()
	for _, h := range r.hosts {
		if h.err != nil {
			h.next = time.Time{}
		}
	}
	r.mu.Unlock()
	r.kick()
}

// endpoints lists where p may be found, in order of preference, as far as is known. The slice is the caller's and
// never nil.
func (r *resolver) endpoints(p config.Peer) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []netip.AddrPort{}
	add := func(a netip.Addr, port uint16) {
		if ep := netip.AddrPortFrom(a.Unmap(), port); !slices.Contains(out, ep) {
			out = append(out, ep)
		}
	}
	for _, e := range p.Endpoints {
		if a, literal := e.AddrPort(); literal {
			add(a.Addr(), a.Port())
		} else if h := r.hosts[e.Host]; h != nil {
			for _, a := range h.addrs {
				add(a, e.Port)
			}
		}
	}
	return out
}

// trouble returns, by peer, why a name of it never resolved.
func (r *resolver) trouble() map[keys.PublicKey]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[keys.PublicKey]string)
	for name, h := range r.hosts {
		if h.err != nil && len(h.addrs) == 0 {
			for _, key := range h.users {
				out[key] = "endpoint " + name + " does not resolve: " + h.err.Error()
			}
		}
	}
	return out
}

// answer is the end of one lookup.
type answer struct {
	name  string
	addrs []netip.Addr
	unfit *unfitError // one of the addresses that were not taken; nil: there was none
	err   error
}

// run resolves until ctx ends. Nothing of it runs any more when it returns.
func (r *resolver) run(ctx context.Context) {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	answers := make(chan answer, parallelLookup) // so that no lookup waits for us at the end
	running := 0
	var queue []string
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		case a := <-answers:
			running--
			r.take(ctx, a)
		}
		queue = append(queue, r.due()...)
		for running < parallelLookup && len(queue) > 0 {
			name := queue[0]
			queue = queue[1:]
			running++
			lookups.Go(func() { answers <- r.ask(ctx, name) })
		}
		timer.Reset(r.sleep())
	}
}

// due marks the names whose time has come as busy and returns them. Names that resolved are looked up again only when one
// of their peers is down: it may have moved.
func (r *resolver) due() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var due []string
	for name, h := range r.hosts {
		if h.busy || h.next.After(now) {
			continue
		}
		if h.asked && h.err == nil && !slices.ContainsFunc(h.users, r.down) {
			h.next = now.Add(jittered(recheckEvery))
			continue
		}
		h.busy = true
		due = append(due, name)
	}
	slices.Sort(due)
	return due
}

// sleep returns how long nothing will be due.
func (r *resolver) sleep() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := recheckEvery
	for _, h := range r.hosts {
		if !h.busy {
			wait = min(wait, time.Until(h.next))
		}
	}
	return max(wait, 10*time.Millisecond)
}

func (r *resolver) ask(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := r.lookup(ctx, name)
	var usable, rest []netip.Addr
	var refused *unfitError
	for _, a := range found {
		a = a.Unmap()
		why := unfit(name, a)
		switch {
		case why != "":
			refused = &unfitError{a, why}
		case slices.Contains(usable, a), slices.Contains(rest, a):
		case r.reachable(a):
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

// take files an answer, and tells those whom it concerns.
func (r *resolver) take(ctx context.Context, a answer) {
	r.mu.Lock()
	h := r.hosts[a.name]
	if h == nil || ctx.Err() != nil { // nobody wants to know any more
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
			r.log.Warn("an address of an endpoint is not used", zap.String("host", a.name),
				zap.String("peer", r.peers[h.users[0]].Name), zap.Error(a.unfit))
		}
		h.next = now.Add(jittered(recheckEvery))
		if !sameAddrs(h.addrs, a.addrs) { // in another order it is the same answer: servers turn it round
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
			r.log.Warn("endpoint does not resolve; it is tried again and again", zap.String("host", a.name),
				zap.String("peer", r.peers[h.users[0]].Name), zap.Error(a.err), zap.Bool("known", len(h.addrs) > 0))
		}
	}
	r.mu.Unlock()
	for _, p := range changed {
		r.tell(p)
	}
}

// jittered spreads a pause by a quarter in both directions, so that many gateways do not ask at once.
func jittered(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// sameAddrs compares without regard to order. Neither has an address twice.
func sameAddrs(a, b []netip.Addr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x netip.Addr) bool { return !slices.Contains(b, x) })
}
