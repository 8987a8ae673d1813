// Package udp sends and receives the datagrams of one UDP port over IPv4 and IPv6, many datagrams
// per system call.
//
// It knows nothing of WireGuard. It does not choose destinations, does not queue, does not
// retransmit and starts no goroutine. It works on raw descriptors (recvmmsg, sendmmsg, UDP_SEGMENT,
// UDP_GRO) instead of net.UDPConn, because the netpoller, its locks and an allocated address per
// datagram would cost more than the datagrams.
//
// Terms, from the smallest unit to the largest:
//
//	datagram  one UDP payload
//	train     datagrams of one sender that the kernel received as one (UDP_GRO)
//	run       datagrams to one endpoint that we send as one (UDP_SEGMENT)
//	message   one entry of a recvmmsg or sendmmsg call: a train, a run, or a part of a run
//	batch     the messages of one call
//
// The datagrams of a train or a run have equal sizes, except that the last may be shorter.
//
// Concurrency: Receive may be called by one goroutine at a time, and each Sender belongs to one
// goroutine at a time. Everything else is safe for concurrent use.
//
// Sources: recvmmsg(2), sendmmsg(2), udp(7), ip(7), ipv6(7), RFC 3542 §6; Linux net/ipv4/udp.c,
// net/ipv4/udp_offload.c, net/ipv4/ip_sockglue.c, net/ipv6/datagram.c.
package udp

import "net/netip"

// Endpoint is where a peer is, and how it last reached us. Endpoints are comparable with ==.
type Endpoint struct {
	// Addr is the peer's address and UDP port, never an IPv4-mapped IPv6 address. A link-local
	// address carries its interface as a zone; those that Receive returns have the interface index
	// for a zone ("fe80::1%3").
	Addr netip.AddrPort
	// Source is the local address the peer spoke to, from which it expects our answers; the zero
	// Addr lets the kernel choose. When the address has left this host, Send finds out
	// (Run.SourceGone).
	Source netip.Addr
	// Ifindex is the interface on which the peer's datagram came in. It does not bind what we send
	// to that interface: routing stays free to take another. Send needs it only for link-local
	// addresses.
	Ifindex uint32
}

// Train is one message received: Buf[:N] cut every Segment bytes gives the datagrams, of which the
// last may be shorter.
type Train struct {
	// Buf is the caller's and is filled by Receive. One of 65,535 bytes holds every train; of a
	// longer train only the whole datagrams that fit are kept.
	Buf []byte
	// N is the number of bytes received. It is 0 for an empty datagram.
	N int
	// Segment is the size of each datagram but perhaps the last: N when there is one.
	Segment int
	// From says who sent it and to which of our addresses.
	From Endpoint
	// CE: a router marked the datagrams as having met congestion (RFC 3168). All of a train carry
	// the same mark.
	CE bool
}

// Run is one message to send: Buf cut every Segment bytes gives the datagrams, all to one endpoint.
type Run struct {
	// Buf is borrowed until Send returns and never written to. An empty one sends nothing.
	Buf []byte
	// Segment is the size of each datagram but the last. 0, or len(Buf) and more, means a single
	// datagram.
	Segment int
	// To is the receiver. Source and Ifindex may be zero.
	To Endpoint
	// Class is the traffic class of the datagrams: DSCP and ECN, as in byte 1 of an IPv4 header.
	Class uint8
	// DontFragment makes sure that the datagrams are fragmented neither here nor on the way: one
	// that the interface does not take gets EMSGSIZE. A run with it is sent alone, and does not
	// concern what other goroutines send through the same socket.
	DontFragment bool

	// Err is set by Send: nil when the kernel took everything, otherwise why it did not (the first
	// reason), a syscall.Errno or net.ErrClosed. Nothing about it is fatal: the loop goes on with
	// other runs.
	Err error
	// Sent is set by Send: how many datagrams the kernel took.
	Sent int
	// SourceGone is set by Send when the kernel refused To.Source but took the datagrams without
	// it: the local address has gone, and the caller should forget it.
	SourceGone bool
}

// Sender sends runs. It belongs to one goroutine at a time; any number of Senders may work side by
// side.
type Sender interface {
	// Send sends the runs, in order, in as few system calls as it takes, and writes the results
	// into Err, Sent and SourceGone of each. A run that fails does not keep the others back. It
	// blocks for at most sendPatience when the socket's buffer is full, and allocates nothing.
	Send(runs []Run)
}

// Conn is what the engine needs of a socket. *Socket implements it, and so does the simulated
// network of package udptest.
type Conn interface {
	// Receive fills trains from the front with what has arrived and returns how many it filled.
	// With wait it blocks until there is at least one; without, it returns 0, nil when there is
	// none. After Close it returns net.ErrClosed, and only that error ends a receive loop: any
	// other is to be counted and the call repeated. It allocates nothing. One goroutine at a time.
	Receive(trains []Train, wait bool) (n int, err error)
	// NewSender returns a Sender of its own for one goroutine.
	NewSender() Sender
	// Port returns the local UDP port.
	Port() uint16
	// SetMark sets the firewall mark of everything sent from now on; 0 is none.
	SetMark(mark uint32) error
	// OnICMP sets the function that gets what ICMP says of datagrams sent. It is called once,
	// before the first Receive and Send. The handler is called from inside Receive and Send, now
	// and then and by one goroutine at a time; it must not wait.
	OnICMP(handler func(ICMPReport))
	// Overflows returns how many datagrams the kernel has dropped because nobody received them in
	// time.
	Overflows() uint64
	// Features returns what the socket can do at present.
	Features() Features
	// StopReceiving makes Receive return net.ErrClosed, and takes nothing more out of the socket;
	// sending goes on. A Receive that has just begun to wait may miss it: call again until it has
	// returned.
	StopReceiving()
	// Close makes a Receive that waits, and every later call, return net.ErrClosed. It does not
	// wait for them. Closing again does nothing.
	Close() error
}

// Features is what a socket can do.
type Features struct {
	IPv6 bool // it speaks IPv6 as well as IPv4
	GRO  bool // the kernel joins the datagrams that arrive into trains
	// GSO reports whether runs are sent with UDP_SEGMENT: false where the kernel does not know it,
	// where Options turned it off, and for a time after the egress device refused it.
	GSO bool
	// Fallbacks counts the messages that were sent as single datagrams because the kernel refused
	// UDP_SEGMENT.
	Fallbacks uint64
}

// Options say how to open a socket.
type Options struct {
	Port   uint16 // local UDP port; 0 lets the kernel choose
	FwMark uint32 // SO_MARK of what is sent; 0 sets none (another needs CAP_NET_ADMIN)
	// Device is the link, a VRF for instance, by which datagrams come and go; "": any.
	Device string
	// SO_REUSEPORT: several sockets (lanes) on one port, among which the kernel spreads peers.
	ReusePort bool
	IPv4Only  bool // an AF_INET socket even where IPv6 is available
	NoGSO     bool // never use UDP_SEGMENT
	NoGRO     bool // never ask for UDP_GRO
}
