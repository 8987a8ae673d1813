// Package udptest is a simulated network: it joins several udp.Conns by their addresses, loses,
// delays, reorders and doubles datagrams on demand, and lets a test listen in.
//
// It is for tests, inside a testing/synctest bubble or outside. It does no real I/O, starts no
// goroutine and holds no lock while waiting, so a bubble's clock moves on when everybody waits for
// datagrams. It does not model bandwidth, and it has no routers: whoever has an address can be
// reached by everybody.
//
// All methods are safe for concurrent use, except where udp.Conn says otherwise.
package udptest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"tund/tunnel/udp"
)

// Datagram is one datagram on its way.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte // borrowed while the function it is passed to runs
	Class    uint8  // traffic class: DSCP and ECN
}

// Conditions describe the network. The zero value delivers everything at once and in order.
type Conditions struct {
	Latency   time.Duration // from Send to Receive
	Loss      float64       // share of datagrams lost, 0 to 1
	Duplicate float64       // share of datagrams delivered twice
	Reorder   float64       // share of datagrams delayed by ReorderBy more
	ReorderBy time.Duration // 0 means 1 ms
	// PathMTU is the size in bytes of the largest IP packet that arrives; a larger one is lost and
	// nobody is told (a black hole). 0 means no limit.
	PathMTU int
	// Congested: routers mark every datagram, even if its ends do not understand ECN.
	Congested bool
}

// Network joins Conns. Make one with New.
type Network struct {
	mu         sync.Mutex // guards all below; held for no longer than it takes to look or copy
	conns      map[netip.AddrPort]*Conn
	conditions Conditions
	random     *rand.Rand
	watch      func(Datagram)
	filter     func(Datagram) error
	route      func(Datagram) []time.Duration
	sequence   uint64
}

// New returns a network. Loss and the like follow from seed: print it when a test fails.
func New(seed uint64) *Network {
	return &Network{conns: make(map[netip.AddrPort]*Conn), random: rand.New(rand.NewPCG(seed, 0))}
}

// Set changes the conditions for what is sent from now on.
func (n *Network) Set(c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.ReorderBy == 0 {
		c.ReorderBy = time.Millisecond
	}
	n.conditions = c
}

// Watch sets the eavesdropper: f is called with every datagram sent, also with those that are then
// lost, one at a time and in order. f must not call the network or a Conn.
func (n *Network) Watch(f func(Datagram)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watch = f
}

// Filter sets a function that decides about each datagram, one at a time: nil lets it pass, Lost
// loses it, and any other error is what its sender gets (syscall.EMSGSIZE, syscall.ENETUNREACH, …).
// f must not call the network or a Conn.
func (n *Network) Filter(f func(Datagram) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// Route sets a function that decides, instead of the Conditions, when each datagram arrives that
// Filter lets pass: one copy after each of the delays that it returns, so none: it is lost. It is
// called one at a time. f must not call the network or a Conn.
func (n *Network) Route(f func(Datagram) []time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.route = f
}

// Lost is what a Filter returns for a datagram that is to disappear on its way.
const Lost = lost("lost")

type lost string

func (l lost) Error() string { return string(l) }

// Open returns a Conn that has all of addrs, for instance one of each family. Their ports should be
// equal.
func (n *Network) Open(addrs ...netip.AddrPort) (*Conn, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("udptest: no address")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		if n.conns[a] != nil {
			return nil, fmt.Errorf("udptest: bind %v: %w", a, syscall.EADDRINUSE)
		}
	}
	c := &Conn{network: n, addrs: append([]netip.AddrPort(nil), addrs...)}
	c.init()
	for _, a := range addrs {
		n.conns[a] = c
	}
	return c, nil
}

// transmit carries one datagram. It returns what the sender is told, which is nil also for what is
// lost.
func (n *Network) transmit(from *Conn, r *udp.Run, payload []byte, useSource bool) error {
	to := &r.To
	n.mu.Lock()
	defer n.mu.Unlock()
	source, err := from.sourceFor(to, useSource)
	if err != nil {
		return err
	}
	d := Datagram{From: source, To: to.Addr, Payload: payload, Class: r.Class}
	if n.watch != nil {
		n.watch(d)
	}
	if n.filter != nil {
		if err := n.filter(d); err == Lost {
			return nil
		} else if err != nil {
			return err
		}
	}
	c := &n.conditions
	target := n.conns[to.Addr]
	if target != nil && n.route != nil {
		target = target.steer(payload)
		for _, delay := range n.route(d) {
			n.deliver(target, d, time.Now().Add(delay))
		}
		return nil
	}
	if target == nil || c.PathMTU > 0 && len(payload)+overhead(to.Addr) > c.PathMTU || n.chance(c.Loss) {
		return nil
	}
	target = target.steer(payload)
	n.deliver(target, d, n.arrival())
	if n.chance(c.Duplicate) {
		n.deliver(target, d, n.arrival())
	}
	return nil
}

// arrival draws lots about when a datagram that is sent now arrives. Callers hold mu.
func (n *Network) arrival() time.Time {
	due := time.Now().Add(n.conditions.Latency)
	if n.chance(n.conditions.Reorder) {
		due = due.Add(n.conditions.ReorderBy)
	}
	return due
}

// deliver puts a copy of d into target's inbox, to be received when it is due. Callers hold mu.
func (n *Network) deliver(target *Conn, d Datagram, due time.Time) {
	n.sequence++
	target.arrive(arrival{
		due: due, sequence: n.sequence, payload: append([]byte(nil), d.Payload...),
		from: udp.Endpoint{Addr: d.From, Source: d.To.Addr(), Ifindex: 1},
		ce:   d.Class&3 == 3 || n.conditions.Congested,
	})
}

// chance draws lots. Callers hold mu.
func (n *Network) chance(share float64) bool { return share > 0 && n.random.Float64() < share }

// overhead is the size of the headers of IP and UDP.
func overhead(to netip.AddrPort) int {
	if to.Addr().Is4() {
		return 20 + 8
	}
	return 40 + 8
}
