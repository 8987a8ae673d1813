package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// kernelTimeout bounds one request to the kernel. Netlink answers at once; only a lost answer takes longer.
const kernelTimeout = 10 * time.Second

// maxInterrupted bounds how often an interrupted dump is repeated: somebody changes the table all the time.
const maxInterrupted = 10

// netlinkKernel is Linux, by rtnetlink, nftables and one sysctl. Everything is opened in the network namespace
// of the thread that calls openKernel and stays there, whatever thread uses it later.
type netlinkKernel struct {
	rt            *netlink.Handle
	dump          map[int]*nl.SocketHandle // for route dumps, with strict checking: the kernel filters
	nft           *firewall                // nil: nftErr says why
	nftErr        error
	srcValidMark  *os.File // nil: unreadable
	strictReverse bool
}

// openLookup opens what hop needs and no more.
func openLookup() (*netlinkKernel, error) {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	k := &netlinkKernel{rt: rt}
	if err := rt.SetSocketTimeout(kernelTimeout); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func openKernel() (kernel, error) {
	k, err := openLookup()
	if err != nil {
		return nil, err
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.dump = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	timeout := unix.NsecToTimeval(int64(kernelTimeout))
	if err := s.SetReceiveTimeout(&timeout); err != nil {
		return nil, errors.Join(err, k.close())
	}
	// Kernels before 4.20 refuse this and send every route; routes() filters again anyway.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	k.nft, k.nftErr = openFirewall()
	k.openSysctls()
	return k, nil
}

// openSysctls opens what a later thread could find in another namespace only.
func (k *netlinkKernel) openSysctls() {
	const conf = "/proc/sys/net/ipv4/conf/"
	f, err := os.OpenFile(conf+"all/src_valid_mark", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		f, err = os.OpenFile(conf+"all/src_valid_mark", os.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		k.srcValidMark = f
	}
	for _, scope := range []string{"all", "default"} {
		value, err := os.ReadFile(conf + scope + "/rp_filter")
		k.strictReverse = k.strictReverse || err == nil && len(value) > 0 && value[0] == '1'
	}
}

func (k *netlinkKernel) close() error {
	k.rt.Close()
	for _, s := range k.dump {
		s.Close()
	}
	var errs []error
	if k.nft != nil {
		errs = append(errs, k.nft.close())
	}
	if k.srcValidMark != nil {
		errs = append(errs, k.srcValidMark.Close())
	}
	return errors.Join(errs...)
}

func (k *netlinkKernel) addresses() ([]netip.Addr, error) {
	var list []netip.Addr
	err := again(func() error {
		addrs, err := k.rt.AddrList(nil, unix.AF_UNSPEC)
		list = make([]netip.Addr, 0, len(addrs))
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok {
				list = append(list, p.Addr())
			}
		}
		return err
	})
	return list, err
}

// again repeats a dump that the kernel interrupted because the table changed under it.
func again(dump func() error) error {
	var err error
	for range maxInterrupted {
		if err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

// unsupported reports that the kernel lacks an address family or a table for it: nothing is there to read.
func unsupported(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

func (k *netlinkKernel) read() (facts, error) {
	f := facts{
		links: make(map[string]link), addrs: make(map[addrObject]bool), routes: make(map[routeObject]bool),
		rules: make(map[ruleObject]bool), strictReverse: k.strictReverse,
	}
	names, err := k.readLinks(&f)
	if err != nil {
		return facts{}, fmt.Errorf("links: %w", err)
	}
	if err := k.readAddrs(&f, names); err != nil {
		return facts{}, fmt.Errorf("addresses: %w", err)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := k.readRoutes(&f, family, names); err != nil && !unsupported(err) {
			return facts{}, fmt.Errorf("routes: %w", err)
		}
		if err := k.readRules(&f, family); err != nil && !unsupported(err) {
			return facts{}, fmt.Errorf("rules: %w", err)
		}
	}
	if k.nft != nil {
		if f.guards, err = k.nft.read(); err != nil {
			return facts{}, fmt.Errorf("nftables: %w", err)
		}
	}
	if k.srcValidMark != nil {
		var value [1]byte
		if _, err := k.srcValidMark.ReadAt(value[:], 0); err != nil {
			return facts{}, fmt.Errorf("src_valid_mark: %w", err)
		}
		f.srcValidMark = value[0] != '0'
	}
	return f, nil
}

func (k *netlinkKernel) readLinks(f *facts) (names map[int]string, err error) {
	var links []netlink.Link
	err = again(func() error { links, err = k.rt.LinkList(); return err })
	if err != nil {
		return nil, err
	}
	names = make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		f.links[a.Name] = link{
			name: a.Name, index: a.Index, bridge: l.Type() == "bridge", loopback: a.Flags&net.FlagLoopback != 0,
			mtu: a.MTU, up: a.Flags&net.FlagUp != 0, master: names[a.MasterIndex], group: a.Group,
		}
	}
	return names, nil
}

func (k *netlinkKernel) readAddrs(f *facts, names map[int]string) error {
	var addrs []netlink.Addr
	err := again(func() (err error) { addrs, err = k.rt.AddrList(nil, unix.AF_UNSPEC); return err })
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			f.addrs[addrObject{names[a.LinkIndex], p}] = true
		}
	}
	return nil
}

// readRoutes reads the routes of our protocol. The kernel filters: a router may hold a million others.
func (k *netlinkKernel) readRoutes(f *facts, family int, names map[int]string) error {
	return again(func() error {
		req := &nl.NetlinkRequest{
			NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: unix.RTM_GETROUTE, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP},
			Sockets:  k.dump,
		}
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Protocol: Protocol}})
		return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(message []byte) bool {
			r, ok := parseRoute(message)
			if !ok || r.protocol != Protocol || r.cloned {
				return true
			}
			switch r.kind {
			case unix.RTN_UNICAST:
				f.routes[routeObject{names[r.index], r.dst, r.table, r.metric}] = true
			case unix.RTN_UNREACHABLE: // IPv6 shows such a route with the loopback device
				f.routes[routeObject{"", r.dst, r.table, r.metric}] = true
			}
			return true
		})
	})
}

func (k *netlinkKernel) readRules(f *facts, family int) error {
	var rules []netlink.Rule
	err := again(func() (err error) { rules, err = k.rt.RuleList(family); return err })
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Protocol != Protocol {
			continue
		}
		o := ruleObject{v6: family == unix.AF_INET6, priority: uint32(r.Priority), mark: r.Mark, table: uint32(r.Table)}
		if r.Dst != nil {
			o.to, _ = prefixOf(r.Dst)
		}
		if r.SuppressIfgroup >= 0 {
			o.owner = uint32(r.SuppressIfgroup)
		}
		f.rules[o] = true
	}
	return nil
}

func (k *netlinkKernel) add(instance string, o object) error {
	switch o := o.(type) {
	case bridgeObject:
		return k.addBridge(instance, o)
	case mtuObject:
		return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.LinkSetMTU(l, o.mtu) })
	case masterObject:
		bridge, err := k.rt.LinkByName(o.bridge)
		if err != nil {
			return errnoOf(err)
		}
		return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.LinkSetMasterByIndex(l, bridge.Attrs().Index) })
	case upObject:
		return k.withLink(o.dev, k.rt.LinkSetUp)
	case addrObject:
		return k.withLink(o.dev, func(l netlink.Link) error { return k.addAddr(l, o) })
	case guardObject:
		if k.nft == nil {
			return k.nftErr
		}
		return k.nft.add(instance, o)
	case restoreObject:
		return k.nft.addRestore(o.heir)
	case sysctlObject:
		return k.writeSysctl('1')
	case routeObject:
		if o.dev == "" {
			return k.rt.RouteAdd(unreachableOf(o))
		}
		return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.RouteAdd(routeOf(o, l)) })
	case ruleObject:
		return k.rt.RuleAdd(ruleOf(o))
	}
	panic("route: object of an unknown type") // the types are listed in object.go
}

func (k *netlinkKernel) replace(o routeObject) error {
	return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.RouteReplace(routeOf(o, l)) })
}

func (k *netlinkKernel) remove(instance string, o object) error {
	switch o := o.(type) {
	case bridgeObject:
		return k.withLink(o.name, k.rt.LinkDel)
	case masterObject:
		return k.withLink(o.dev, k.rt.LinkSetNoMaster)
	case upObject:
		return k.withLink(o.dev, k.rt.LinkSetDown)
	case addrObject:
		return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.AddrDel(l, addrOf(o)) })
	case guardObject:
		return k.nft.remove(instance)
	case sysctlObject:
		return k.writeSysctl('0')
	case routeObject:
		if o.dev == "" {
			return k.rt.RouteDel(unreachableOf(o))
		}
		return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.RouteDel(routeOf(o, l)) })
	case ruleObject:
		return k.rt.RuleDel(ruleOf(o))
	}
	panic(fmt.Sprintf("route: %v is never removed", o)) // MTU and inherited duties: see plan.go
}

// addBridge creates a bridge that is up and ours from its first moment: the group goes into the request that
// creates it. The alias is for people only, so its failure is nobody's.
func (k *netlinkKernel) addBridge(instance string, o bridgeObject) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.Flags = o.name, group(instance), net.FlagUp
	if err := k.rt.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	_ = k.withLink(o.name, func(l netlink.Link) error { return k.rt.LinkSetAlias(l, "tund:"+instance) })
	return nil
}

func (k *netlinkKernel) withLink(name string, f func(netlink.Link) error) error {
	l, err := k.rt.LinkByName(name)
	if err != nil {
		return errnoOf(err)
	}
	return f(l)
}

// errnoOf turns the library's own "link not found" into the errno it hides.
func errnoOf(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return unix.ENODEV
	}
	return err
}

func (k *netlinkKernel) writeSysctl(value byte) error {
	if k.srcValidMark == nil {
		return unix.EACCES
	}
	_, err := k.srcValidMark.WriteAt([]byte{value, '\n'}, 0)
	return err
}

func (k *netlinkKernel) hop(dst netip.Addr, mark uint32) (hop, error) {
	routes, err := k.rt.RouteGetWithOptions(dst.WithZone("").AsSlice(), &netlink.RouteGetOptions{Mark: mark, Oif: dst.Zone()})
	if err != nil {
		return hop{}, errnoOf(err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return hop{}, unix.EHOSTUNREACH // blackhole, unreachable and prohibit routes name no link
	}
	l, err := k.rt.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return hop{}, errnoOf(err)
	}
	h := hop{dev: l.Attrs().Name, mtu: l.Attrs().MTU, loopback: l.Attrs().Flags&net.FlagLoopback != 0}
	if routes[0].MTU != 0 {
		h.mtu = min(h.mtu, routes[0].MTU)
	}
	return h, nil
}

func (k *netlinkKernel) departure(dst, src netip.Addr, mark uint32) (int, error) {
	routes, err := k.rt.RouteGetWithOptions(dst.WithZone("").AsSlice(), &netlink.RouteGetOptions{
		Mark: mark, Oif: dst.Zone(), SrcAddr: src.WithZone("").AsSlice(),
	})
	if err != nil {
		return 0, errnoOf(err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return 0, unix.EHOSTUNREACH
	}
	return routes[0].LinkIndex, nil
}

// Conversions between our values and the library's.

func routeOf(o routeObject, l netlink.Link) *netlink.Route {
	return &netlink.Route{
		LinkIndex: l.Attrs().Index, Dst: ipNetOf(o.dst), Table: int(o.table), Priority: int(o.metric),
		Protocol: Protocol, Scope: netlink.SCOPE_LINK,
	}
}

func unreachableOf(o routeObject) *netlink.Route {
	return &netlink.Route{
		Dst: ipNetOf(o.dst), Table: int(o.table), Priority: int(o.metric), Protocol: Protocol, Type: unix.RTN_UNREACHABLE,
	}
}

func ruleOf(o ruleObject) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = unix.AF_INET
	if o.v6 {
		r.Family = unix.AF_INET6
	}
	r.Priority, r.Table, r.Protocol = int(o.priority), int(o.table), Protocol
	r.Mark, r.Invert = o.mark, o.mark != 0
	if o.to.IsValid() {
		r.Dst = ipNetOf(o.to)
	}
	if o.owner != 0 {
		r.SuppressPrefixlen, r.SuppressIfgroup = 0, int(o.owner)
	}
	return r
}

// settleLimit bounds the wait for a new IPv6 address to become usable.
const settleLimit = 500 * time.Millisecond

// addAddr adds an address and waits until it can be used. Also without duplicate address detection the kernel leaves
// the last step for IPv6, the route to the address itself, to a work queue. Until then it drops packets to the
// address, of which the first are there as soon as we say that we are ready.
func (k *netlinkKernel) addAddr(l netlink.Link, o addrObject) error {
	if err := k.rt.AddrAdd(l, addrOf(o)); err != nil || !o.addr.Addr().Is6() || l.Attrs().RawFlags&unix.IFF_RUNNING == 0 {
		return err
	}
	deadline := time.Now().Add(settleLimit)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if h, err := k.hop(o.addr.Addr(), 0); err == nil && h.loopback {
			break
		}
		<-tick.C
	}
	return nil
}

// addrOf asks for no duplicate address detection: a tunnel has no link-layer neighbours to conflict with, and
// an address that is tentative for a second makes the first packets fail.
func addrOf(o addrObject) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNetOf(o.addr)}
	if o.addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if len(n.Mask) == net.IPv4len {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits), ok
}
