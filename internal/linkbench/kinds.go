package linkbench

import (
	"context"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"tund/internal/linkbench/result"
)

// kind is a row: what people know of it, and how to build it.
type kind struct {
	name  string
	about string
	path  string
	use   string
	group result.Group
	build func(context.Context, *stage) error
}

// row is the kind in words.
func (k *kind) row() result.Row {
	return result.Row{Name: k.name, About: k.about, Path: k.path, Use: k.use, Group: k.group}
}

// kinds are all rows, in their order: first what everything else is compared with, then what stays
// on a host, then what leaves it, and last what goes through a program.
var kinds = []kind{
	{"physical", "stand-in for a network card and its cable: a veth between two hosts on which the kernel cuts and joins packets, as for a plain card",
		"the stand-in", "between hosts", result.Kernel, physical},
	{"loopback", "the loopback device of one host", "lo", "between programs of a host", result.Kernel, loopback},
	{"veth", "a veth pair between two namespaces, as it comes", "veth", "between two containers", result.Kernel, veth},
	{"bridge", "two containers of a host at a Linux bridge", "veth, bridge, veth", "between containers or virtual machines of a host", result.Kernel, bridged},
	{"container", "a container at a bridge that reaches another host by routing and masquerading (nftables), as with Docker",
		"veth, bridge, NAT, the stand-in", "containers without addresses of the network", result.Kernel, masqueraded},
	{"macvlan", "a container with a macvlan device of the host's card", "macvlan, the stand-in", "containers with a MAC address in the network", result.Kernel, macvlan},
	{"ipvlan", "a container with an ipvlan device (L2 mode) of the host's card", "ipvlan, the stand-in", "containers with an IP address in the network", result.Kernel, ipvlan},
	{"vlan", "an 802.1Q device at each end of the cable", "VLAN 42, the stand-in", "several networks on one cable", result.Kernel, vlan},
	{"vxlan", "a VXLAN between two hosts", "VXLAN in UDP, the stand-in", "an Ethernet over a routed network, in the clear", result.Kernel, vxlan},
	{"geneve", "a Geneve tunnel between two hosts", "Geneve in UDP, the stand-in", "an Ethernet over a routed network, in the clear", result.Kernel, geneve},
	{"tun", "two TUN devices between which a program copies packet by packet", "TUN, copy, TUN", "what a simple VPN could reach without encryption", result.Copied, copied(deviceTUN, false)},
	{"tap", "two TAP devices between which a program copies frame by frame", "TAP, copy, TAP", "what a simple VPN could reach without encryption", result.Copied, copied(deviceTAP, false)},
	{"tun-offload", "as tun, with superpackets (IFF_VNET_HDR)", "TUN, copy, TUN", "what offloads make of it", result.Copied, copied(deviceTUN, true)},
	{"tap-offload", "as tap, with superpackets (IFF_VNET_HDR)", "TAP, copy, TAP", "what offloads make of it", result.Copied, copied(deviceTAP, true)},
	{"tund-l3", "two tunds with a TUN device each, as configured by default", "TUN, tund, the stand-in, tund, TUN", "IP between sites, encrypted", result.Tund, tunds(false)},
	{"tund-l2", "two tunds with a TAP device each, as configured by default", "TAP, tund, the stand-in, tund, TAP", "an Ethernet between sites, encrypted", result.Tund, tunds(true)},
}

// The devices and addresses of the stages. They exist in namespaces that nobody else sees.
const (
	wire  = "wire"  // the cable between two hosts
	above = "above" // a device on top of it
	eth0  = "eth0"  // of a container
	br0   = "br0"
)

var (
	localhost  = netip.MustParseAddr("127.0.0.1")
	leftWire   = netip.MustParsePrefix("192.0.2.1/24")
	rightWire  = netip.MustParsePrefix("192.0.2.2/24")
	left       = netip.MustParsePrefix("198.51.100.1/24") // of what is on top, or behind
	right      = netip.MustParsePrefix("198.51.100.2/24")
	router     = netip.MustParsePrefix("198.51.100.254/24")
	vlanNumber = 42 // also the identifier of VXLAN and Geneve
)

// hosts makes two hosts with a cable, which is the stand-in for a card if nic is set.
func (st *stage) hosts(nic bool) (a, b *space, err error) {
	if a, err = st.space(); err != nil {
		return nil, nil, err
	}
	if b, err = st.space(); err != nil {
		return nil, nil, err
	}
	if err := cable(a, wire, b, wire); err != nil {
		return nil, nil, err
	}
	for _, end := range []struct {
		s *space
		p netip.Prefix
	}{{a, leftWire}, {b, rightWire}} {
		if nic {
			if err := end.s.do(func() error { return likeCard(wire) }); err != nil {
				return nil, nil, err
			}
		}
		if err := end.s.address(wire, end.p); err != nil {
			return nil, nil, err
		}
	}
	st.flow(a, wire, b, rightWire.Addr())
	return a, b, nil
}

func physical(_ context.Context, st *stage) error {
	_, _, err := st.hosts(true)
	return err
}

func veth(_ context.Context, st *stage) error {
	_, _, err := st.hosts(false)
	return err
}

func loopback(_ context.Context, st *stage) error {
	s, err := st.space()
	if err != nil {
		return err
	}
	st.flow(s, "lo", s, localhost)
	return nil
}

// container adds a namespace at a bridge of a host. port is the name of the host's end.
func (st *stage) container(host *space, port string, at netip.Prefix) (*space, error) {
	c, err := st.space()
	if err != nil {
		return nil, err
	}
	if err := cable(host, port, c, eth0); err != nil {
		return nil, err
	}
	end, err := host.links.LinkByName(port)
	if err != nil {
		return nil, err
	}
	bridge, err := host.links.LinkByName(br0)
	if err != nil {
		return nil, err
	}
	if err := host.links.LinkSetMasterByIndex(end, bridge.Attrs().Index); err != nil {
		return nil, err
	}
	if err := host.up(port); err != nil {
		return nil, err
	}
	return c, c.address(eth0, at)
}

func bridged(_ context.Context, st *stage) error {
	host, err := st.space()
	if err != nil {
		return err
	}
	if err := host.add(&netlink.Bridge{LinkAttrs: named(br0)}); err != nil {
		return err
	}
	if err := host.up(br0); err != nil {
		return err
	}
	a, err := st.container(host, "port1", left)
	if err != nil {
		return err
	}
	b, err := st.container(host, "port2", right)
	if err != nil {
		return err
	}
	st.flow(a, eth0, b, right.Addr())
	return nil
}

func masqueraded(_ context.Context, st *stage) error {
	host, outside, err := st.hosts(true)
	if err != nil {
		return err
	}
	if err := host.add(&netlink.Bridge{LinkAttrs: named(br0)}); err != nil {
		return err
	}
	if err := host.address(br0, router); err != nil {
		return err
	}
	c, err := st.container(host, "port1", left)
	if err != nil {
		return err
	}
	via := &netlink.Route{Gw: router.Addr().AsSlice(), Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}
	if err := c.links.RouteAdd(via); err != nil {
		return err
	}
	if err := host.sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := masquerade(host, wire); err != nil {
		return err
	}
	st.flow(c, eth0, outside, rightWire.Addr())
	return nil
}

// child gives a container a device on top of the host's end of the cable.
func (st *stage) child(make func(netlink.LinkAttrs) netlink.Link) error {
	host, outside, err := st.hosts(true)
	if err != nil {
		return err
	}
	c, err := st.space()
	if err != nil {
		return err
	}
	attrs, err := host.below(above, wire)
	if err != nil {
		return err
	}
	attrs.Namespace = netlink.NsFd(int(c.fd))
	if err := host.add(make(attrs)); err != nil {
		return err
	}
	if err := c.address(above, left); err != nil {
		return err
	}
	if err := outside.address(wire, right); err != nil {
		return err
	}
	st.flow(c, above, outside, right.Addr())
	return nil
}

func macvlan(_ context.Context, st *stage) error {
	return st.child(func(a netlink.LinkAttrs) netlink.Link {
		return &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}
	})
}

func ipvlan(_ context.Context, st *stage) error {
	return st.child(func(a netlink.LinkAttrs) netlink.Link {
		return &netlink.IPVlan{LinkAttrs: a, Mode: netlink.IPVLAN_MODE_L2}
	})
}

// overlay puts a device on top of each end of the cable.
func (st *stage) overlay(make func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link) error {
	a, b, err := st.hosts(true)
	if err != nil {
		return err
	}
	for _, end := range []struct {
		s             *space
		local, remote netip.Prefix
		at            netip.Prefix
	}{{a, leftWire, rightWire, left}, {b, rightWire, leftWire, right}} {
		attrs, err := end.s.below(above, wire)
		if err != nil {
			return err
		}
		if err := end.s.add(make(attrs, end.local.Addr().AsSlice(), end.remote.Addr().AsSlice())); err != nil {
			return err
		}
		if err := end.s.address(above, end.at); err != nil {
			return err
		}
	}
	st.flow(a, above, b, right.Addr())
	return nil
}

func vlan(_ context.Context, st *stage) error {
	return st.overlay(func(a netlink.LinkAttrs, _, _ net.IP) netlink.Link {
		return &netlink.Vlan{LinkAttrs: a, VlanId: vlanNumber, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	})
}

func vxlan(_ context.Context, st *stage) error {
	return st.overlay(func(a netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		v := &netlink.Vxlan{LinkAttrs: a, VxlanId: vlanNumber, VtepDevIndex: a.ParentIndex, SrcAddr: local, Group: remote, Port: 4789, Learning: true}
		v.ParentIndex = 0
		return v
	})
}

func geneve(_ context.Context, st *stage) error {
	return st.overlay(func(a netlink.LinkAttrs, _, remote net.IP) netlink.Link {
		a.ParentIndex = 0
		return &netlink.Geneve{LinkAttrs: a, ID: uint32(vlanNumber), Remote: remote, Dport: 6081}
	})
}
