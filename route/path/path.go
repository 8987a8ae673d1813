// Package path asks the kernel's routing tables where packets would go: by which link, and with
// which MTU. It changes nothing.
//
// A Lookup belongs to one goroutine at a time. Sources: rtnetlink(7), ip-route(8).
package path

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/internal/rtnl"
)

// Hop is the answer of a route lookup.
type Hop struct {
	Dev      string
	MTU      int // bytes: the lesser of the link's and the route's
	Loopback bool
}

// Lookup asks through a netlink socket, in the network namespace of that.
type Lookup struct{ Conn *rtnl.Conn }

// Hop returns where the routing tables send a packet with the mark, from a socket that is bound to
// the link oif unless that is "". It is an error when they have no route.
func (l Lookup) Hop(dst netip.Addr, mark uint32, oif string) (Hop, error) {
	q := question{dst: dst, mark: mark, oif: oif}
	index, mtu, err := l.route(q)
	if err != nil {
		return Hop{}, err
	}
	link, err := l.Conn.LinkByIndex(index)
	if err != nil {
		return Hop{}, err
	}
	h := Hop{Dev: link.Name, MTU: link.MTU, Loopback: link.Loopback}
	if mtu == 0 {
		return h, nil
	}
	// An ordinary lookup answers with the path MTU learned from ICMP in place of the metric of the
	// routing table's entry.
	q.entry = true
	_, metric, err := l.route(q)
	if metric != 0 {
		h.MTU = min(h.MTU, metric)
	}
	return h, err
}

// addrSettle bounds the wait for a new address to become usable.
const addrSettle = 500 * time.Millisecond

// AwaitLocal waits until the kernel accepts packets to an address of this host, which it has just
// been given, but no longer than addrSettle.
func (l Lookup) AwaitLocal(addr netip.Addr) {
	deadline := time.Now().Add(addrSettle)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if h, err := l.Hop(addr, 0, ""); err == nil && h.Loopback {
			return
		}
		<-tick.C
	}
}

// Departure returns the index of the link by which a packet from src, which may be zero, would
// leave; mark and oif are as in Hop. It is an error when src is not an address of this host, or
// there is no route.
func (l Lookup) Departure(dst, src netip.Addr, mark uint32, oif string) (index int, err error) {
	index, _, err = l.route(question{dst: dst, src: src, mark: mark, oif: oif})
	return index, err
}

// question is what a lookup is about. dst may have a zone, which is then the name of a link and
// replaces oif.
type question struct {
	dst, src netip.Addr // src zero: any
	mark     uint32
	oif      string
	entry    bool // the answer is to be the entry of the routing table, not what became of it
}

// route returns the link and the MTU of a route; MTU 0: it names none.
func (l Lookup) route(q question) (index, mtu int, err error) {
	body, err := l.body(q)
	if err != nil {
		return 0, 0, err
	}
	answer, err := l.Conn.Do(unix.RTM_GETROUTE, 0, body)
	if err != nil {
		return 0, 0, err
	}
	r, ok := netwatch.ParseRoute(answer)
	switch {
	case !ok:
		return 0, 0, unix.EBADMSG
	case r.Index == 0 && !q.entry:
		return 0, 0, unix.EHOSTUNREACH // blackhole, unreachable and prohibit routes name no link
	}
	return r.Index, r.MTU, nil
}

// body is the body of the message that asks: struct rtmsg, with attributes.
func (l Lookup) body(q question) ([]byte, error) {
	q.dst, q.src = q.dst.Unmap(), q.src.Unmap()
	if zone := q.dst.Zone(); zone != "" {
		q.oif = zone
	}
	family := byte(unix.AF_INET6)
	if q.dst.Is4() {
		family = unix.AF_INET
	}
	bits, flags, from := byte(q.dst.BitLen()), uint32(unix.RTM_F_LOOKUP_TABLE), byte(0)
	if q.src.IsValid() {
		from = bits
	}
	if q.entry {
		flags |= unix.RTM_F_FIB_MATCH
	}
	body := binary.NativeEndian.AppendUint32([]byte{family, bits, from, 0, 0, 0, 0, 0}, flags)
	body = rtnl.Attribute(body, unix.RTA_DST, q.dst.AsSlice())
	if q.oif != "" {
		link, err := l.Conn.LinkByName(q.oif)
		if err != nil {
			return nil, err
		}
		body = rtnl.Uint32(body, unix.RTA_OIF, uint32(link.Index))
	}
	if q.src.IsValid() {
		body = rtnl.Attribute(body, unix.RTA_SRC, q.src.AsSlice())
	}
	if q.mark != 0 {
		body = rtnl.Uint32(body, unix.RTA_MARK, q.mark)
	}
	return body, nil
}

// Errno turns the netlink library's own "link not found" into the errno that it hides.
func Errno(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return unix.ENODEV
	}
	return err
}
