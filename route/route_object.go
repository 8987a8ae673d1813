package route

import (
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"tund/internal/rtnl"
	"tund/route/mark"
)

// routeObject is a route into a device or, without one, an unreachable route: a fence or a guard.
type routeObject struct {
	dev    string
	dst    netip.Prefix
	table  uint32 // never 0
	metric uint32
}

// fenceMetric is the metric of the unreachable default route in the instance's table: the last to
// be considered.
const fenceMetric = 1<<32 - 1

// fence returns the route that ends the instance's table where the tunnel's own default route is
// missing.
func fence(instance string, v6 bool) routeObject {
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if v6 {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return routeObject{dst: dst, table: mark.Table(instance), metric: fenceMetric}
}

// guardRoute returns the unreachable route behind r. Its metric names the instance, for which there
// is no other room in a route without a device.
func guardRoute(instance string, r Route) routeObject {
	o := routeObject{dst: r.Dst, table: r.Table, metric: mark.GuardMetric(instance)}
	if o.table == 0 {
		o.table = unix.RT_TABLE_MAIN
	}
	return o
}

func (o routeObject) String() string {
	text := "route " + o.dst.String() + " dev " + o.dev
	if o.dev == "" {
		text = "route unreachable " + o.dst.String()
	}
	if o.table != unix.RT_TABLE_MAIN {
		text += " table " + mark.TableName(o.table)
	}
	if o.metric != 0 {
		text += " metric " + strconv.FormatUint(uint64(o.metric), 10)
	}
	return text
}

func (routeObject) rank() int { return rankRoute }

func (o routeObject) present(f facts, _ string) bool { return f.routes[o] }

func (o routeObject) add(k *netlinkKernel, _ string) error {
	return o.request(k, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
}

func (o routeObject) remove(k *netlinkKernel, _ string) error {
	return o.request(k, unix.RTM_DELROUTE, 0)
}

// replace atomically points the route with the same destination, table and metric at o's device.
func (o routeObject) replace(k *netlinkKernel) error {
	return o.request(k, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// request sends the kernel a message about the route.
func (o routeObject) request(k *netlinkKernel, typ, flags uint16) error {
	index := 0
	if o.dev != "" {
		l, err := k.conn.LinkByName(o.dev)
		if err != nil {
			return err
		}
		index = l.Index
	}
	_, err := k.conn.Do(typ, flags|unix.NLM_F_ACK, o.body(index))
	return err
}

// body describes the route, into the link of that index: struct rtmsg, with attributes.
func (o routeObject) body(index int) []byte {
	family, kind, scope, table := byte(unix.AF_INET6), byte(unix.RTN_UNREACHABLE), byte(unix.RT_SCOPE_UNIVERSE), byte(unix.RT_TABLE_UNSPEC)
	if o.dst.Addr().Is4() {
		family = unix.AF_INET
	}
	if o.dev != "" {
		kind, scope = unix.RTN_UNICAST, unix.RT_SCOPE_LINK
	}
	if o.table < 256 {
		table = byte(o.table)
	}
	body := []byte{family, byte(o.dst.Bits()), 0, 0, table, mark.Protocol, scope, kind, 0, 0, 0, 0}
	body = rtnl.Attribute(body, unix.RTA_DST, o.dst.Addr().AsSlice())
	if table == unix.RT_TABLE_UNSPEC {
		body = rtnl.Uint32(body, unix.RTA_TABLE, o.table)
	}
	if o.metric != 0 {
		body = rtnl.Uint32(body, unix.RTA_PRIORITY, o.metric)
	}
	if index != 0 {
		body = rtnl.Uint32(body, unix.RTA_OIF, uint32(index))
	}
	return body
}

func (o routeObject) advice(err error) string {
	family := "ip"
	if o.dst.Addr().Is6() {
		family = "ip -6"
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return "another route is there already: see `" + family + " route show " + o.dst.String() +
			" table " + mark.TableName(o.table) + "`; remove it, or set another metric or table"
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENETUNREACH):
		return "the device is down: ip link set " + o.dev + " up"
	case errors.Is(err, unix.EACCES):
		return "IPv6 is switched off: sysctl net.ipv6.conf." + o.dev +
			".disable_ipv6=0, or remove the allowed IP"
	}
	return ""
}

func (o routeObject) fences() bool { return o.dev == "" }

// restorable reports whether the kernel takes the route: it goes with a link that is set down, and
// returns with it.
func (o routeObject) restorable(f facts) bool { return o.dev == "" || f.links[o.dev].up }

// moves reports whether a route of ours with the same key leads elsewhere.
func (o routeObject) moves(f facts, m memory) bool {
	for dev := range m.devices {
		other := o
		other.dev = dev
		if dev != o.dev && f.routes[other] {
			return true
		}
	}
	return false
}
