package netwatch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openFollowSocket opens a socket on which the kernel announces changes of links, addresses and
// routes, in all namespaces that have a number in ours.
func openFollowSocket() (*socket, error) {
	s, err := openSocket(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	// Without this option a device that was moved is read once a second.
	_ = s.conn.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	})
	return s, nil
}

// numberNamespace gives a namespace a number in ours if it has none, as `ip link set … netns` does.
func numberNamespace(ns *os.File) error {
	err := netlink.SetNetNsIdByFd(int(ns.Fd()), -1)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// ownNamespace is the network namespace of the calling thread.
const ownNamespace = "/proc/thread-self/ns/net"

// sameNamespace reports whether ns is the namespace of the calling thread.
func sameNamespace(ns *os.File) (bool, error) {
	there, err := ns.Stat()
	if err != nil {
		return false, err
	}
	here, err := os.Stat(ownNamespace)
	if err != nil {
		return false, err
	}
	return os.SameFile(here, there), nil
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// inNamespace runs f in a namespace, on a thread of its own unless here says that we are in it.
func inNamespace(ns *os.File, here bool, f func() error) error {
	if here {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := os.Open(ownNamespace)
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer func() { _ = back.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter the device's namespace: %w", err)
			return
		}
		result <- f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread, which is in the wrong namespace, ends with this goroutine
	}()
	return <-result
}

// linkView is a device as its own namespace shows it.
type linkView struct {
	LinkState
	index int
}

// viewLink reads a device and the routes through it in the calling thread's namespace. No socket
// outlives the call.
func viewLink(name string) (linkView, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return linkView{}, err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return linkView{}, err
	}
	a := link.Attrs()
	v := linkView{index: a.Index, LinkState: LinkState{Up: a.RawFlags&unix.IFF_UP != 0, MTU: a.MTU}}
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return v, err
	}
	for _, a := range addrs {
		if p, ok := PrefixOf(a.IPNet); ok {
			v.Addrs = append(v.Addrs, p)
		}
	}
	_ = h.SetStrictCheck(true) // the kernel leaves out other devices' routes
	seen := make(map[int]bool)
	filter := netlink.Route{LinkIndex: a.Index, Table: unix.RT_TABLE_UNSPEC}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		const fields = netlink.RT_FILTER_OIF | netlink.RT_FILTER_TABLE
		err := h.RouteListFilteredIter(family, &filter, fields, func(r netlink.Route) bool {
			if r.MTU > 0 && r.MTU < a.MTU {
				seen[r.MTU] = true
			}
			return true
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) &&
			!errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	v.RouteMTUs = slices.Sorted(maps.Keys(seen))
	return v, nil
}

// PrefixOf converts an address with its network's length from the form that the netlink library
// uses. ok is false when n is nil or holds no address.
func PrefixOf(n *net.IPNet) (p netip.Prefix, ok bool) {
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
