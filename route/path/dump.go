package path

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
)

// maxInterrupted bounds how often a dump is repeated that changes of the table interrupt.
const maxInterrupted = 10

// Again repeats a dump while the kernel interrupts it because the table changed.
func Again(dump func() error) error {
	var err error
	for range maxInterrupted {
		if err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

// Unsupported reports that the kernel lacks an address family or a table for it: nothing is there
// to read.
func Unsupported(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) ||
		errors.Is(err, unix.EPROTONOSUPPORT)
}

// Dump lists routes by protocol. The kernel filters, where it can (4.20 and later): a router may
// hold a million others. It belongs to one goroutine at a time.
type Dump struct{ sockets map[int]*nl.SocketHandle }

// OpenDump opens a socket in the network namespace of the calling thread. timeout bounds one
// exchange with the kernel.
func OpenDump(timeout time.Duration) (*Dump, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(int64(timeout))
	if err := s.SetReceiveTimeout(&limit); err != nil {
		s.Close()
		return nil, err
	}
	// Older kernels refuse this and send every route; Each filters again anyway.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &Dump{map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// Close closes the socket.
func (d *Dump) Close() {
	for _, s := range d.sockets {
		s.Close()
	}
}

// Each calls visit for each route of a protocol, in all tables; for some more than once if the
// tables change meanwhile.
func (d *Dump) Each(family int, protocol uint8, visit func(netwatch.RouteMessage)) error {
	return d.each(family, protocol, visit, 0)
}

// each is Each for one link only, unless link is 0, and for every protocol if that is 0.
func (d *Dump) each(family int, protocol uint8, visit func(netwatch.RouteMessage), link int) error {
	return Again(func() error {
		req := &nl.NetlinkRequest{
			NlMsghdr: unix.NlMsghdr{
				Len: unix.SizeofNlMsghdr, Type: unix.RTM_GETROUTE,
				Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP,
			},
			Sockets: d.sockets,
		}
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Protocol: protocol}})
		if link != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(link))))
		}
		return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(message []byte) bool {
			if r, ok := netwatch.ParseRoute(message); ok && (protocol == 0 || r.Protocol == protocol) && !r.Cloned {
				visit(r)
			}
			return true
		})
	})
}

// Via is a route that names the next router.
type Via struct {
	Dst     netip.Prefix // masked
	Gateway netip.Addr
}

// Through returns the routes of the main table that lead through a link by way of a router. Of
// several with one destination only that of the best metric is in it, and of several next hops
// none.
func (d *Dump) Through(link int) ([]Via, error) {
	type best struct {
		Via
		metric uint32
	}
	found := make(map[netip.Prefix]best)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := d.each(family, unix.RTPROT_UNSPEC, func(r netwatch.RouteMessage) {
			if r.Index != link || !r.Gateway.IsValid() || r.Table != unix.RT_TABLE_MAIN || r.Type != unix.RTN_UNICAST {
				return
			}
			if old, known := found[r.Dst]; !known || r.Metric < old.metric {
				found[r.Dst] = best{Via{r.Dst, r.Gateway}, r.Metric}
			}
		}, link)
		if err != nil && !Unsupported(err) {
			return nil, err
		}
	}
	list := make([]Via, 0, len(found))
	for _, b := range found {
		list = append(list, b.Via)
	}
	return list, nil
}

// Advertised returns the indices of the links with a default route that the kernel made from router
// advertisements.
func (d *Dump) Advertised() (indices []int, err error) {
	err = d.Each(unix.AF_INET6, unix.RTPROT_RA, func(r netwatch.RouteMessage) {
		if r.Dst.Bits() == 0 && !slices.Contains(indices, r.Index) {
			indices = append(indices, r.Index)
		}
	})
	if Unsupported(err) {
		err = nil
	}
	return indices, err
}
