package route

import (
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/sizes"
	"tund/route/mark"
)

// bridgeObject is a bridge that the instance made.
type bridgeObject struct{ name string }

func (o bridgeObject) String() string { return "bridge " + o.name }

func (bridgeObject) rank() int { return rankBridge }

func (o bridgeObject) present(f facts, instance string) bool {
	l, ok := f.links[o.name]
	return ok && l.bridge && l.group == mark.Group(instance)
}

// add creates a bridge that is up and marked as ours from its first moment: the group is part of
// the request that creates it. The alias is for human readers, so its failure does not matter.
func (o bridgeObject) add(k *netlinkKernel, instance string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.Flags = o.name, mark.Group(instance), net.FlagUp
	if err := k.rt.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	_ = k.withLink(o.name, func(l netlink.Link) error {
		return k.rt.LinkSetAlias(l, "tund:"+instance)
	})
	return nil
}

func (o bridgeObject) remove(k *netlinkKernel, _ string) error {
	return k.withLink(o.name, k.rt.LinkDel)
}

func (bridgeObject) advice(err error) string {
	if errors.Is(err, unix.EEXIST) {
		return "another program has just made a link of that name: try again"
	}
	return ""
}

// mtuObject is the MTU of a device, in bytes. What it was before is given back by Close.
type mtuObject struct {
	dev string
	mtu int
}

func (o mtuObject) String() string { return "link " + o.dev + " mtu " + strconv.Itoa(o.mtu) }

func (mtuObject) rank() int { return rankMTU }

func (o mtuObject) present(f facts, _ string) bool { return f.links[o.dev].mtu == o.mtu }

func (o mtuObject) add(k *netlinkKernel, _ string) error {
	return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.LinkSetMTU(l, o.mtu) })
}

// remove does nothing: a link always has an MTU, so a surplus one is replaced and never removed.
func (mtuObject) remove(*netlinkKernel, string) error { return nil }

func (o mtuObject) advice(error) string {
	return "the device accepts another range: see minmtu and maxmtu in `ip -d link show dev " + o.dev + "`"
}

func (o mtuObject) added(m *memory, f facts) {
	if _, known := m.mtu[o.dev]; !known {
		m.mtu[o.dev] = f.links[o.dev].mtu
	}
}

func (mtuObject) removed(*memory) {}

func (mtuObject) restorable(facts) bool { return false }

// masterObject is a device's membership in a bridge.
type masterObject struct{ dev, bridge string }

func (o masterObject) String() string { return "link " + o.dev + " master " + o.bridge }

func (masterObject) rank() int { return rankMaster }

func (o masterObject) present(f facts, _ string) bool { return f.links[o.dev].master == o.bridge }

func (o masterObject) add(k *netlinkKernel, _ string) error {
	return k.withLink(o.bridge, func(bridge netlink.Link) error {
		return k.withLink(o.dev, func(l netlink.Link) error {
			// None: a port with a link-local address tells the LAN of it, and cannot answer for it.
			_ = k.rt.LinkSetIP6AddrGenMode(l, 1) // fails where the host has no IPv6
			return k.rt.LinkSetMaster(l, bridge)
		})
	})
}

func (o masterObject) remove(k *netlinkKernel, _ string) error {
	return k.withLink(o.dev, func(l netlink.Link) error {
		_ = k.rt.LinkSetIP6AddrGenMode(l, 0)
		return k.rt.LinkSetNoMaster(l)
	})
}

func (o masterObject) advice(err error) string {
	if errors.Is(err, unix.EBUSY) {
		return "another bridge or bond holds it: ip link set " + o.dev + " nomaster"
	}
	return "only an Ethernet device (TAP) can join a bridge, and " + o.bridge + " must be one: see `ip -d link show " + o.bridge + "`"
}

func (o masterObject) added(m *memory, _ facts) { m.owned[o] = true }

func (o masterObject) removed(m *memory) { delete(m.owned, o) }

func (o masterObject) restorable(f facts) bool { return f.links[o.dev].master == "" }

// upObject is a device that is set up.
type upObject struct{ dev string }

func (o upObject) String() string { return "link " + o.dev + " up" }

func (upObject) rank() int { return rankUp }

func (o upObject) present(f facts, _ string) bool { return f.links[o.dev].up }

func (o upObject) add(k *netlinkKernel, _ string) error { return k.withLink(o.dev, k.rt.LinkSetUp) }

func (o upObject) remove(k *netlinkKernel, _ string) error {
	return k.withLink(o.dev, k.rt.LinkSetDown)
}

func (o upObject) added(m *memory, _ facts) { m.owned[o] = true }

func (o upObject) removed(m *memory) { delete(m.owned, o) }

func (upObject) restorable(facts) bool { return false }

// addrObject is an address of a device.
type addrObject struct {
	dev  string
	addr netip.Prefix // not masked
}

func (o addrObject) String() string { return "address " + o.addr.String() + " dev " + o.dev }

func (addrObject) rank() int { return rankAddr }

func (o addrObject) present(f facts, _ string) bool { return f.addrs[o] }

// add adds an address and waits until it can be used. For IPv6 the kernel leaves the last step, the
// route to the address itself, to a work queue, also without duplicate address detection. Until
// then it drops packets to the address, and the first of those arrive as soon as the instance says
// that it is ready.
func (o addrObject) add(k *netlinkKernel, _ string) error {
	return k.withLink(o.dev, func(l netlink.Link) error {
		err := k.rt.AddrAdd(l, o.netlink())
		if err == nil && o.addr.Addr().Is6() && l.Attrs().RawFlags&unix.IFF_RUNNING != 0 {
			k.AwaitLocal(o.addr.Addr())
		}
		return err
	})
}

func (o addrObject) remove(k *netlinkKernel, _ string) error {
	return k.withLink(o.dev, func(l netlink.Link) error { return k.rt.AddrDel(l, o.netlink()) })
}

// netlink asks for no duplicate address detection: a tunnel has no link-layer neighbours to
// conflict with, and an address that is tentative for a second makes the first packets fail.
func (o addrObject) netlink() *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNetOf(o.addr)}
	if o.addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func (o addrObject) advice(err error) string {
	switch {
	case errors.Is(err, unix.EACCES) && o.addr.Addr().Is6():
		return "IPv6 is switched off: sysctl net.ipv6.conf." + o.dev + ".disable_ipv6=0, or remove the address from the configuration"
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINVAL):
		return "IPv6 needs an MTU of at least " + strconv.Itoa(sizes.MinIPv6MTU) + " bytes on the device"
	case errors.Is(err, unix.EEXIST):
		return "the device has the address with another length: see `ip address show dev " + o.dev + "`"
	}
	return ""
}

func (o addrObject) added(m *memory, _ facts) { m.owned[o] = true }

func (o addrObject) removed(m *memory) { delete(m.owned, o) }

// excludes reports whether other is the same address with another length: IPv6 refuses both
// together, and IPv4 does not suffer from a short absence either.
func (o addrObject) excludes(other object) bool {
	old, ok := other.(addrObject)
	return ok && old.dev == o.dev && old.addr.Addr() == o.addr.Addr()
}

func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
