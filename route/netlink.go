package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/internal/rtnl"
	"tund/route/firewall"
	"tund/route/mark"
	"tund/route/path"
	"tund/route/sysctl"
)

// kernelTimeout bounds one request to the kernel. Netlink answers at once; only a lost answer takes
// longer.
const kernelTimeout = 10 * time.Second

// netlinkKernel is Linux, by rtnetlink, nftables and one sysctl. Everything is opened in the
// network namespace of the thread that calls openKernel and stays there, whatever thread uses it
// later.
type netlinkKernel struct {
	path.Lookup   // over conn
	rt            *netlink.Handle
	conn          *rtnl.Conn // for what is asked or changed once for each peer
	dump          *path.Dump
	nft           *firewall.Firewall // nil: nftErr says why
	nftErr        error
	sysctls       *sysctl.Files
	strictReverse bool
}

func openKernel() (kernel, error) {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	k := &netlinkKernel{rt: rt}
	if err := rt.SetSocketTimeout(kernelTimeout); err != nil {
		return nil, errors.Join(err, k.close())
	}
	if k.conn, err = rtnl.Open(kernelTimeout); err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.Lookup = path.Lookup{Conn: k.conn}
	if k.dump, err = path.OpenDump(kernelTimeout); err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.nft, k.nftErr = firewall.Open()
	indices, err := k.dump.Advertised()
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	var links []string
	for _, index := range indices {
		if l, err := k.rt.LinkByIndex(index); err == nil {
			links = append(links, l.Attrs().Name)
		}
	}
	// Now, because a thread that opened files later could be in another namespace.
	k.sysctls, k.strictReverse = sysctl.Open(links), sysctl.Strict()
	return k, nil
}

// readSysctls reads the settings that are fixed, those of links with a default route from router
// advertisements, and those that an instance has changed.
func (k *netlinkKernel) readSysctls(f *facts, names map[int]string) error {
	indices, err := k.dump.Advertised()
	if err != nil {
		return err
	}
	var list []sysctl.Setting
	for _, index := range indices {
		if name := names[index]; name != "" {
			list = append(list, sysctl.AcceptRA(name))
		}
	}
	for _, g := range f.guards {
		for _, s := range g.restore.List() {
			if s.Link() != "" && f.links[s.Link()].name != "" {
				list = append(list, s)
			}
		}
	}
	f.sysctls, err = k.sysctls.Read(list)
	return err
}

func (k *netlinkKernel) close() error {
	k.rt.Close()
	if k.dump != nil {
		k.dump.Close()
	}
	var errs []error
	if k.conn != nil {
		errs = append(errs, k.conn.Close())
	}
	if k.nft != nil {
		errs = append(errs, k.nft.Close())
	}
	if k.sysctls != nil {
		errs = append(errs, k.sysctls.Close())
	}
	return errors.Join(errs...)
}

func (k *netlinkKernel) through(link string) ([]path.Via, error) {
	l, err := k.rt.LinkByName(link)
	if err != nil {
		return nil, path.Errno(err)
	}
	return k.dump.Through(l.Attrs().Index)
}

func (k *netlinkKernel) addresses() ([]netip.Addr, error) {
	var list []netip.Addr
	err := path.Again(func() error {
		addrs, err := k.rt.AddrList(nil, unix.AF_UNSPEC)
		list = make([]netip.Addr, 0, len(addrs))
		for _, a := range addrs {
			if p, ok := netwatch.PrefixOf(a.IPNet); ok {
				list = append(list, p.Addr())
			}
		}
		return err
	})
	return list, err
}

func (k *netlinkKernel) read() (facts, error) {
	f := newFacts()
	f.strictReverse = k.strictReverse
	names, err := k.readLinksAndAddrs(&f)
	if err != nil {
		return facts{}, err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := k.readRoutes(&f, family, names); err != nil && !path.Unsupported(err) {
			return facts{}, fmt.Errorf("routes: %w", err)
		}
		if err := k.readRules(&f, family); err != nil && !path.Unsupported(err) {
			return facts{}, fmt.Errorf("rules: %w", err)
		}
	}
	if k.nft != nil {
		tables, err := k.nft.Read()
		if err != nil {
			return facts{}, fmt.Errorf("nftables: %w", err)
		}
		f.guards = make(map[string]guardFact, len(tables))
		for instance, t := range tables {
			f.guards[instance] = guardFact{
				digest: t.Digest, fence: t.FullTunnel, uses: sysctl.SetOf(t.Uses), restore: sysctl.SetOf(t.Restore),
			}
		}
	}
	if err := k.readSysctls(&f, names); err != nil {
		return facts{}, fmt.Errorf("sysctl: %w", err)
	}
	return f, nil
}

func newFacts() facts {
	return facts{
		links: make(map[string]link), addrs: make(map[addrObject]bool),
		routes: make(map[routeObject]bool), rules: make(map[ruleObject]bool),
	}
}

func (k *netlinkKernel) readLocal() (facts, error) {
	f := newFacts()
	_, err := k.readLinksAndAddrs(&f)
	return f, err
}

func (k *netlinkKernel) readLinksAndAddrs(f *facts) (names map[int]string, err error) {
	if names, err = k.readLinks(f); err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	if err := k.readAddrs(f, names); err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	return names, nil
}

func (k *netlinkKernel) readLinks(f *facts) (names map[int]string, err error) {
	var links []netlink.Link
	err = path.Again(func() error { links, err = k.rt.LinkList(); return err })
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
			name: a.Name, index: a.Index, bridge: l.Type() == "bridge",
			loopback: a.Flags&net.FlagLoopback != 0, up: a.Flags&net.FlagUp != 0,
			mtu: a.MTU, master: names[a.MasterIndex], group: a.Group,
		}
	}
	return names, nil
}

func (k *netlinkKernel) readAddrs(f *facts, names map[int]string) error {
	var addrs []netlink.Addr
	err := path.Again(func() (err error) { addrs, err = k.rt.AddrList(nil, unix.AF_UNSPEC); return err })
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if p, ok := netwatch.PrefixOf(a.IPNet); ok {
			f.addrs[addrObject{names[a.LinkIndex], p}] = true
		}
	}
	return nil
}

// readRoutes reads the routes of our protocol.
func (k *netlinkKernel) readRoutes(f *facts, family int, names map[int]string) error {
	return k.dump.Each(family, mark.Protocol, func(r netwatch.RouteMessage) {
		switch r.Type {
		case unix.RTN_UNICAST:
			f.routes[routeObject{names[r.Index], r.Dst, r.Table, r.Metric}] = true
		case unix.RTN_UNREACHABLE: // IPv6 shows such a route with the loopback device
			f.routes[routeObject{"", r.Dst, r.Table, r.Metric}] = true
		}
	})
}

func (k *netlinkKernel) readRules(f *facts, family int) error {
	var rules []netlink.Rule
	err := path.Again(func() (err error) { rules, err = k.rt.RuleList(family); return err })
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Protocol != mark.Protocol {
			continue
		}
		o := ruleObject{
			v6: family == unix.AF_INET6, priority: uint32(r.Priority), mark: r.Mark,
			table: uint32(r.Table),
		}
		if r.Src != nil {
			o.from, _ = netwatch.PrefixOf(r.Src)
		}
		if r.Dst != nil {
			o.to, _ = netwatch.PrefixOf(r.Dst)
		}
		if r.SuppressIfgroup >= 0 {
			o.owner = uint32(r.SuppressIfgroup)
		}
		f.rules[o] = true
	}
	return nil
}

func (k *netlinkKernel) add(instance string, o object) error { return o.add(k, instance) }

func (k *netlinkKernel) replace(o routeObject) error { return o.replace(k) }

func (k *netlinkKernel) remove(instance string, o object) error { return o.remove(k, instance) }

func (k *netlinkKernel) withLink(name string, f func(netlink.Link) error) error {
	l, err := k.rt.LinkByName(name)
	if err != nil {
		return path.Errno(err)
	}
	return f(l)
}
