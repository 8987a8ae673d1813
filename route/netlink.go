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

	"tund/internal/netwatch"
	"tund/route/firewall"
)

// kernelTimeout bounds one request to the kernel. Netlink answers at once; only a lost answer takes
// longer.
const kernelTimeout = 10 * time.Second

// maxInterrupted bounds how often a dump is repeated that changes of the table interrupt.
const maxInterrupted = 10

// netlinkKernel is Linux, by rtnetlink, nftables and one sysctl. Everything is opened in the
// network namespace of the thread that calls openKernel and stays there, whatever thread uses it
// later.
type netlinkKernel struct {
	rt *netlink.Handle
	// For route dumps, with strict checking: the kernel filters.
	dump          map[int]*nl.SocketHandle
	nft           *firewall.Firewall // nil: nftErr says why
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
	k.nft, k.nftErr = firewall.Open()
	k.openSysctls()
	return k, nil
}

// openSysctls opens the files now, because a thread that opened them later could be in another
// namespace.
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
		errs = append(errs, k.nft.Close())
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
			if p, ok := netwatch.PrefixOf(a.IPNet); ok {
				list = append(list, p.Addr())
			}
		}
		return err
	})
	return list, err
}

// again repeats a dump while the kernel interrupts it because the table changed.
func again(dump func() error) error {
	var err error
	for range maxInterrupted {
		if err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

// unsupported reports that the kernel lacks an address family or a table for it: nothing is there
// to read.
func unsupported(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) ||
		errors.Is(err, unix.EPROTONOSUPPORT)
}

func (k *netlinkKernel) read() (facts, error) {
	f := facts{
		links: make(map[string]link), addrs: make(map[addrObject]bool),
		routes: make(map[routeObject]bool), rules: make(map[ruleObject]bool),
		strictReverse: k.strictReverse,
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
		tables, err := k.nft.Read()
		if err != nil {
			return facts{}, fmt.Errorf("nftables: %w", err)
		}
		f.guards = make(map[string]guardFact, len(tables))
		for instance, t := range tables {
			f.guards[instance] = guardFact{digest: t.Digest, restore: t.Restore}
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
			name: a.Name, index: a.Index, bridge: l.Type() == "bridge",
			loopback: a.Flags&net.FlagLoopback != 0, up: a.Flags&net.FlagUp != 0,
			mtu: a.MTU, master: names[a.MasterIndex], group: a.Group,
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
		if p, ok := netwatch.PrefixOf(a.IPNet); ok {
			f.addrs[addrObject{names[a.LinkIndex], p}] = true
		}
	}
	return nil
}

// readRoutes reads the routes of our protocol. The kernel filters: a router may hold a million
// others.
func (k *netlinkKernel) readRoutes(f *facts, family int, names map[int]string) error {
	return again(func() error {
		req := &nl.NetlinkRequest{
			NlMsghdr: unix.NlMsghdr{
				Len: unix.SizeofNlMsghdr, Type: unix.RTM_GETROUTE,
				Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP,
			},
			Sockets: k.dump,
		}
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Protocol: Protocol}})
		return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(message []byte) bool {
			r, ok := netwatch.ParseRoute(message)
			if !ok || r.Protocol != Protocol || r.Cloned {
				return true
			}
			switch r.Type {
			case unix.RTN_UNICAST:
				f.routes[routeObject{names[r.Index], r.Dst, r.Table, r.Metric}] = true
			case unix.RTN_UNREACHABLE: // IPv6 shows such a route with the loopback device
				f.routes[routeObject{"", r.Dst, r.Table, r.Metric}] = true
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
