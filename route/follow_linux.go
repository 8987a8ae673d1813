package route

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openFollowEvents opens a socket on which the kernel tells of links, addresses and routes, in all namespaces that it knows by
// number in ours.
func openFollowEvents() (eventSource, error) {
	source, err := openEventSocket(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	// Without it the device is looked at every second once it has been moved.
	_ = source.(*socketEvents).conn.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	})
	return source, nil
}

// numberNamespace gives a namespace a number in ours, as `ip link set … netns` does, if it has none.
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

// inNamespace runs f in a namespace, on a thread of its own unless it is the one we are in.
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
		} // else the thread ends with this goroutine: it is where nobody expects it
	}()
	return <-result
}

// linkView is a device as its own namespace shows it.
type linkView struct {
	LinkState
	index int
}

// viewLink reads a device and the routes through it in the calling thread's namespace. No socket outlives the call.
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
		if p, ok := prefixOf(a.IPNet); ok {
			v.Addrs = append(v.Addrs, p)
		}
	}
	_ = h.SetStrictCheck(true) // lets the kernel leave out other devices' routes, instead of us
	seen := make(map[int]bool)
	filter := netlink.Route{LinkIndex: a.Index, Table: unix.RT_TABLE_UNSPEC}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := h.RouteListFilteredIter(family, &filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if r.MTU > 0 && r.MTU < a.MTU {
				seen[r.MTU] = true
			}
			return true
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	v.RouteMTUs = slices.Sorted(maps.Keys(seen))
	return v, nil
}
