// Package resolve finds the addresses of endpoints that are given by name, in the background.
//
// A name that does not resolve never stops a start: it is tried again, with pauses of up to a
// minute. The last good answer is kept when a later lookup fails, and a name is looked up again
// while its peer is down, because the peer may have moved. Answers where no peer can be, such as a
// multicast address, are left out.
//
// The package does not choose among the addresses of a peer, which is for the handshakes, and does
// not cache by the lifetime of a DNS record: Go's resolver does not tell it.
package resolve

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/config"
	"tund/crypto/keys"
)

// Times of name resolution.
const (
	// For one name: Go's resolver tries the servers in turn, 5 s each.
	lookupTimeout = 20 * time.Second
	// Pause after the first failed lookup; it doubles with each failure ….
	firstRetry = time.Second
	// slowLookup is how long a first lookup may take before the peer is said to have no address.
	slowLookup    = 8 * time.Second
	lastRetry     = time.Minute      // … up to this
	recheckEvery  = 15 * time.Second // between lookups of a name whose peer is down
	complainEvery = time.Hour        // between warnings about one name
	// parallelLookup bounds the lookups under way at a time: more would only queue in the DNS
	// server.
	parallelLookup = 8
)

// Options is what a Resolver is told, and whom it tells.
type Options struct {
	// Log gets a warning about a name that cannot be used, at most once an hour for each name.
	Log *zap.Logger
	// Lookup asks for the addresses of a name; see MarkedLookup. It is called by up to
	// parallelLookup goroutines at a time and must return soon after ctx ends.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Reachable reports whether there is a route to an address: addresses without one are tried
	// last.
	Reachable func(netip.Addr) bool
	// Down reports whether a peer is down, and its names are therefore worth another lookup. It is
	// called with a lock of the Resolver held, so it must not call the Resolver.
	Down func(keys.PublicKey) bool
	// Changed is called, without a lock, when the endpoints of a peer have changed.
	Changed func(config.Peer)
	// PrefixChanged is called, without a lock, when all endpoints given as IPv4 addresses may have
	// changed: the network reaches them by other addresses, or no longer (NAT64). nil: nobody.
	PrefixChanged func()
}

// Resolver keeps the addresses of all endpoints that are given by name. It asks for each name once,
// however many peers have it. Its methods may be called from several goroutines at once.
type Resolver struct {
	o    Options
	wake chan struct{} // capacity 1: something is due sooner than was known

	mu    sync.Mutex // guards what follows
	hosts map[string]*host
	peers map[keys.PublicKey]config.Peer // those with names
	nat64 nat64
}

// New makes a Resolver that knows no names. It looks none up before Run. One that is never run
// needs no Options: it knows the endpoints given by address.
func New(o Options) *Resolver { return &Resolver{o: o, wake: make(chan struct{}, 1)} }

// host is one name.
type host struct {
	users []keys.PublicKey
	addrs []netip.Addr // the last good answer, in the order in which to try them
	err   error        // of the last lookup; nil: it succeeded, or there was none yet
	asked bool         // a lookup has ended
	busy  bool         // a lookup is under way, or waits for its turn
	since time.Time    // when the lookup under way was due
	next  time.Time    // of the next look
	pause time.Duration
	said  time.Time // when its failure, or an address left out, was last logged
}

// MarkedLookup returns a function for Options.Lookup that asks the system's DNS servers and sets
// the firewall mark that mark returns on each query. In a full tunnel an unmarked query would be
// routed into the tunnel, and wait for the session that it is to make possible.
//
// The same holds for a resolver on this host that asks servers inside the tunnel. instead returns
// the addresses of servers to ask in place of a given one; none: ask that one.
func MarkedLookup(mark func() uint32, instead func(netip.Addr) []netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if m := mark(); m != 0 { // if the kernel refuses the mark, the lookup fails
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(m))
			}
		})
	}}
	var turn atomic.Uint32 // of the servers: each attempt asks the next one
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if at, err := netip.ParseAddrPort(address); err == nil {
			if others := instead(at.Addr()); len(others) > 0 {
				other := others[int(turn.Add(1))%len(others)]
				address = netip.AddrPortFrom(other, at.Port()).String()
			}
		}
		return dialer.DialContext(ctx, network, address)
	}
	r := &net.Resolver{PreferGo: true, Dial: dial}
	return func(ctx context.Context, host string) ([]netip.Addr, error) { return r.LookupNetIP(ctx, "ip", host) }
}

// SetPeers replaces the peers whose names are looked up. What is known of names that stay is kept;
// the slice is read only during the call.
func (r *Resolver) SetPeers(peers []config.Peer) {
	r.mu.Lock()
	old := r.hosts
	r.hosts, r.peers = make(map[string]*host), make(map[keys.PublicKey]config.Peer)
	r.nat64.wanted = false
	for _, p := range peers {
		for _, e := range p.Endpoints {
			if a, literal := e.AddrPort(); literal {
				r.nat64.wanted = r.nat64.wanted || a.Addr().Unmap().Is4()
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

// Change adds peers whose names are looked up, or changes them, and forgets others. Its cost does
// not depend on the number of peers. The peers are not changed.
func (r *Resolver) Change(set []*config.Peer, gone []keys.PublicKey) {
	r.mu.Lock()
	var left []string // names that may have no peer any more
	for _, key := range gone {
		left = append(left, r.forget(key)...)
	}
	for _, p := range set {
		left = append(left, r.forget(p.PublicKey)...)
		r.note(*p)
	}
	for _, name := range left {
		if h := r.hosts[name]; h != nil && len(h.users) == 0 {
			delete(r.hosts, name)
		}
	}
	r.mu.Unlock()
	r.kick()
}

// forget takes a peer away from its names, which it returns. Callers hold mu.
func (r *Resolver) forget(key keys.PublicKey) (names []string) {
	for _, e := range r.peers[key].Endpoints {
		if h := r.hosts[e.Host]; h != nil {
			names = append(names, e.Host)
			h.users = slices.DeleteFunc(h.users, func(user keys.PublicKey) bool { return user == key })
		}
	}
	delete(r.peers, key)
	return names
}

// note adds a peer to its names, which are looked up if they are new. Callers hold mu.
func (r *Resolver) note(p config.Peer) {
	for _, e := range p.Endpoints {
		if a, literal := e.AddrPort(); literal {
			r.nat64.wanted = r.nat64.wanted || a.Addr().Unmap().Is4()
			continue
		}
		if r.hosts == nil {
			r.hosts, r.peers = make(map[string]*host), make(map[keys.PublicKey]config.Peer)
		}
		h := r.hosts[e.Host]
		if h == nil {
			h = new(host)
			r.hosts[e.Host] = h
		}
		h.users = append(h.users, p.PublicKey)
		r.peers[p.PublicKey] = p
	}
}

func (r *Resolver) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Retry makes Run look up at once all names whose last lookup failed. It is called when the network
// has changed.
func (r *Resolver) Retry() {
	r.mu.Lock()
	for _, h := range r.hosts {
		if h.err != nil {
			h.next = time.Time{}
		}
	}
	r.nat64.next = time.Time{}
	r.mu.Unlock()
	r.kick()
}

// Endpoints lists the known addresses of p in order of preference. The slice belongs to the caller
// and is never nil.
func (r *Resolver) Endpoints(p config.Peer) []netip.AddrPort {
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
			if v6, ok := translated(r.nat64.prefix, a.Addr().Unmap()); ok {
				add(v6, a.Port())
			}
			add(a.Addr(), a.Port())
		} else if h := r.hosts[e.Host]; h != nil {
			for _, a := range h.addrs {
				add(a, e.Port)
			}
		}
	}
	return out
}

// Has reports whether p is among the peers whose names are looked up, with the same endpoints.
func (r *Resolver) Has(p config.Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.peers[p.PublicKey]
	return ok && slices.Equal(known.Endpoints, p.Endpoints)
}

// Failures says, for each peer with a name that has never resolved, why the last lookup failed.
func (r *Resolver) Failures() map[keys.PublicKey]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[keys.PublicKey]string)
	now := time.Now()
	for name, h := range r.hosts {
		why := ""
		switch {
		case len(h.addrs) != 0:
		case h.err != nil:
			why = h.err.Error()
		case h.busy && now.Sub(h.since) >= slowLookup:
			why = "no DNS server has answered yet"
		}
		if why == "" {
			continue
		}
		for _, key := range h.users {
			out[key] = "endpoint " + name + " does not resolve: " + why
		}
	}
	return out
}

// Run looks names up until ctx ends. It is called once, and returns when the last lookup has ended.
func (r *Resolver) Run(ctx context.Context) {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	answers := make(chan answer, parallelLookup) // so that no lookup blocks when we stop
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
			if a.name == wellKnownName {
				r.takePrefix(a)
			} else {
				r.take(ctx, a)
			}
		}
		if running < parallelLookup && r.prefixDue() {
			running++
			lookups.Go(func() { answers <- r.askPrefix(ctx) })
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

// due returns the names that are to be looked up now, and marks them as busy. A name that has
// resolved is looked up again only while one of its peers is down.
func (r *Resolver) due() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var due []string
	for name, h := range r.hosts {
		if h.busy || h.next.After(now) {
			continue
		}
		if h.asked && h.err == nil && !slices.ContainsFunc(h.users, r.o.Down) {
			h.next = now.Add(jittered(recheckEvery))
			continue
		}
		h.busy, h.since = true, now
		due = append(due, name)
	}
	slices.Sort(due)
	return due
}

// sleep returns for how long no name will be due.
func (r *Resolver) sleep() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := recheckEvery
	if r.nat64.wanted && !r.nat64.busy {
		wait = min(wait, time.Until(r.nat64.next))
	}
	for _, h := range r.hosts {
		if !h.busy {
			wait = min(wait, time.Until(h.next))
		}
	}
	return max(wait, 10*time.Millisecond)
}
