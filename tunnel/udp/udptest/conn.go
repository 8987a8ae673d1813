package udptest

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tund/tunnel/udp"
)

// inboxLimit is how many datagrams a Conn holds that nobody receives; further ones overflow.
const inboxLimit = 8192

// maxTrain is how many datagrams are joined into a train, as UDP_GRO does.
const maxTrain = 64

// Conn is one end on a Network. It implements udp.Conn.
type Conn struct {
	network *Network

	addrs []netip.AddrPort // guarded by network.mu
	lanes []*Conn          // all that share the addresses; nil: it is alone. Guarded by network.mu

	mark      atomic.Uint32
	overflows atomic.Uint64
	single    atomic.Bool
	icmp      atomic.Pointer[func(udp.ICMPReport)]

	closed chan struct{} // closed by Close
	once   sync.Once
	ended  atomic.Bool // StopReceiving was called
	// Has one element when something happened that a waiting Receive should see.
	news chan struct{}

	mu    sync.Mutex // guards what follows; never held while waiting
	inbox []arrival  // by due time, then by sequence
	fail  []error    // what the next calls of Receive return
}

var _ udp.Conn = (*Conn)(nil)

// arrival is a datagram on its way to, or waiting in, an inbox.
type arrival struct {
	due      time.Time
	sequence uint64
	payload  []byte
	from     udp.Endpoint
	ce       bool
}

func (c *Conn) init() {
	c.closed = make(chan struct{})
	c.news = make(chan struct{}, 1)
}

// Receive implements udp.Conn. Datagrams of one sender and size that wait together come as a train.
func (c *Conn) Receive(trains []udp.Train, wait bool) (int, error) {
	for {
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		default:
		}
		if c.ended.Load() {
			return 0, net.ErrClosed
		}
		n, next, err := c.take(trains)
		if n > 0 || err != nil || len(trains) == 0 || !wait {
			return n, err
		}
		c.await(next)
	}
}

// Share returns n Conns that have the addresses of c together, as the sockets of lanes do; c is the
// first. Each datagram goes to one of them by its fifth byte, as by udp.Socket.Steer.
func (c *Conn) Share(n int) []*Conn {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	lanes := []*Conn{c}
	for len(lanes) < n {
		another := &Conn{network: c.network, addrs: c.addrs}
		another.init()
		lanes = append(lanes, another)
	}
	for _, l := range lanes {
		l.lanes = lanes
	}
	return lanes
}

// steer returns the Conn that gets a datagram for c. Callers hold network.mu.
func (c *Conn) steer(payload []byte) *Conn {
	if len(c.lanes) == 0 || len(payload) < 5 {
		return c
	}
	return c.lanes[int(payload[4])%len(c.lanes)]
}

// StopReceiving implements udp.Conn.
func (c *Conn) StopReceiving() {
	c.ended.Store(true)
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// await waits for news, or until next when that is not zero.
func (c *Conn) await(next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-c.closed:
	case <-c.news:
	case <-due:
	}
}

// take fills trains with what is due. When nothing is, next says when something will be; zero:
// unknown.
func (c *Conn) take(trains []udp.Train) (n int, next time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fail) > 0 {
		err, c.fail = c.fail[0], c.fail[1:]
		return 0, time.Time{}, err
	}
	now := time.Now()
	taken := 0
	for taken < len(c.inbox) && !c.inbox[taken].due.After(now) {
		a := &c.inbox[taken]
		if n > 0 && !c.single.Load() && couple(&trains[n-1], a) {
			taken++
			continue
		}
		if n == len(trains) {
			break
		}
		t := &trains[n]
		t.N = copy(t.Buf, a.payload)
		t.Segment, t.From, t.CE = t.N, a.from, a.ce
		n++
		taken++
	}
	c.inbox = slices.Delete(c.inbox, 0, taken)
	if n == 0 && len(c.inbox) > 0 {
		next = c.inbox[0].due
	}
	return n, next, nil
}

// couple appends a to a train if it may follow there.
func couple(t *udp.Train, a *arrival) bool {
	size := len(a.payload)
	if t.From != a.from || t.CE != a.ce || size == 0 || size > t.Segment || t.N%t.Segment != 0 ||
		t.N/t.Segment >= maxTrain || t.N+size > len(t.Buf) {
		return false
	}
	t.N += copy(t.Buf[t.N:], a.payload)
	return true
}

// arrive adds to the inbox.
func (c *Conn) arrive(a arrival) {
	c.mu.Lock()
	if len(c.inbox) >= inboxLimit {
		c.mu.Unlock()
		c.overflows.Add(1)
		return
	}
	at, _ := slices.BinarySearchFunc(c.inbox, a, func(x, y arrival) int {
		if d := x.due.Compare(y.due); d != 0 {
			return d
		}
		return int(int64(x.sequence - y.sequence))
	})
	c.inbox = slices.Insert(c.inbox, at, a)
	c.mu.Unlock()
	c.tell()
}

// tell wakes a waiting Receive.
func (c *Conn) tell() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// FailReceive makes the next call of Receive (a waiting one too) return err. Several are returned
// in turn.
func (c *Conn) FailReceive(err error) {
	c.mu.Lock()
	c.fail = append(c.fail, err)
	c.mu.Unlock()
	c.tell()
}

// NoTrains makes Receive return each datagram alone, as a kernel without UDP_GRO does.
func (c *Conn) NoTrains(on bool) { c.single.Store(on) }

// OnICMP implements udp.Conn.
func (c *Conn) OnICMP(handler func(udp.ICMPReport)) { c.icmp.Store(&handler) }

// ReceiveICMP gives the handler of the Conn a report, as if an ICMP message had come.
func (c *Conn) ReceiveICMP(h udp.ICMPReport) {
	if f := c.icmp.Load(); f != nil {
		(*f)(h)
	}
}

// Addr returns the Conn's first address.
func (c *Conn) Addr() netip.AddrPort {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.addrs[0]
}

// Move gives the Conn new addresses in place of all it had, as a change of network or of a NAT's
// mapping does. What is sent to the old ones from now on is lost.
func (c *Conn) Move(addrs ...netip.AddrPort) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(c)
	addrs = append([]netip.AddrPort(nil), addrs...)
	c.addrs = addrs
	for _, l := range c.lanes {
		l.addrs = addrs
	}
	for _, a := range addrs {
		n.conns[a] = c
	}
}

// forget takes c's addresses off the network. Callers hold mu.
func (n *Network) forget(c *Conn) {
	for _, a := range c.addrs {
		if n.conns[a] == c {
			delete(n.conns, a)
		}
	}
}

// sourceFor returns the address from which c sends to to. Callers hold network.mu.
func (c *Conn) sourceFor(to *udp.Endpoint, useSource bool) (netip.AddrPort, error) {
	for _, a := range c.addrs {
		if useSource && to.Source.IsValid() {
			if a.Addr() == to.Source {
				return a, nil
			}
		} else if a.Addr().Is4() == to.Addr.Addr().Is4() {
			return a, nil
		}
	}
	if useSource && to.Source.IsValid() {
		return netip.AddrPort{}, syscall.EINVAL
	}
	return netip.AddrPort{}, syscall.ENETUNREACH
}

// NewSender implements udp.Conn.
func (c *Conn) NewSender() udp.Sender { return sender{c} }

// Port implements udp.Conn: the port of the first address.
func (c *Conn) Port() uint16 { return c.Addr().Port() }

// SetMark implements udp.Conn. Mark tells what was set.
func (c *Conn) SetMark(mark uint32) error {
	c.mark.Store(mark)
	return nil
}

// Mark returns the mark set last.
func (c *Conn) Mark() uint32 { return c.mark.Load() }

// Overflows implements udp.Conn.
func (c *Conn) Overflows() uint64 { return c.overflows.Load() }

// Features implements udp.Conn: everything that a socket can do.
func (c *Conn) Features() udp.Features { return udp.Features{IPv6: true, GRO: true, GSO: true} }

// Close implements udp.Conn and frees the addresses.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		c.network.forget(c)
	})
	return nil
}

// sender implements udp.Sender.
type sender struct{ conn *Conn }

// Send implements udp.Sender.
func (s sender) Send(runs []udp.Run) {
	for i := range runs {
		r := &runs[i]
		r.Err, r.Sent, r.SourceGone = nil, 0, false
		select {
		case <-s.conn.closed:
			r.Err = net.ErrClosed
			continue
		default:
		}
		s.sendRun(r)
	}
}

func (s sender) sendRun(r *udp.Run) {
	segment := r.Segment
	if segment <= 0 {
		segment = len(r.Buf)
	}
	for rest := r.Buf; len(rest) > 0; {
		datagram := rest[:min(segment, len(rest))]
		rest = rest[len(datagram):]
		err := s.conn.network.transmit(s.conn, r, datagram, !r.SourceGone)
		if err == syscall.EINVAL && r.To.Source.IsValid() && !r.SourceGone {
			err = s.conn.network.transmit(s.conn, r, datagram, false)
			r.SourceGone = err == nil
		}
		if err != nil {
			if r.Err == nil {
				r.Err = err
			}
			continue
		}
		r.Sent++
	}
}
