package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// linkModel says what the veth between the gateways does with superpackets.
type linkModel string

const (
	// linkVeth is a veth as it comes: a 64 KB superpacket crosses whole, so the "wire" is nearly
	// free.
	linkVeth linkModel = "veth"
	// linkNIC makes the sender's kernel cut and the receiver's kernel join, as with a plain network
	// card.
	linkNIC linkModel = "nic"
)

// shape says where the ends of the flow are.
type shape uint8

const (
	// shapeHosts: the ends are the two gateways themselves.
	shapeHosts shape = iota
	// shapeGateways: the ends are namespaces of their own, and the gateways forward into and out of
	// the tunnel.
	shapeGateways
	// shapeBridged: the ends are containers on a Linux bridge of each gateway, one Ethernet through
	// the tunnel.
	shapeBridged
)

// underlayDevice and endDevice are the veths' names inside the namespaces.
const (
	underlayDevice = "ul"
	endDevice      = "eth0"
	bridgeDevice   = "br0"
)

// host is one gateway with the end behind it.
type host struct {
	ns       string
	underlay netip.Addr
	tunnel   netip.Addr   // on the tunnel device
	lan      netip.Prefix // behind it in shapeGateways
	endNS    string       // empty in shapeHosts
	site     int          // from 1: one of many at host a; 0: a or b
	end      netip.Addr   // where the flow ends: in endNS, or tunnel in shapeHosts
}

// flowNS is the namespace in which the flow's programs run.
func (h *host) flowNS() string {
	if h.endNS != "" {
		return h.endNS
	}
	return h.ns
}

// pair is two gateways joined by an underlay, freshly made for one contender and taken down after
// it.
type pair struct {
	a, b    *host
	sites   []*host // more hosts with an underlay to a
	shape   shape
	link    linkModel
	dir     string     // configuration and logs of this pair
	label   string     // unique among everything that runs on this machine, at most 11 bytes
	daemons []*process // the contender's: what cases look at for memory and CPU
	helpers []*process // iperf3 servers and the like
}

// newPair makes namespaces, the underlay and, by shape, the ends. On error nothing is left.
func newPair(ctx context.Context, dir string, link linkModel, s shape) (*pair, error) {
	label := fmt.Sprintf("tb%d", os.Getpid())
	p := &pair{
		a: &host{ns: label + "a", underlay: netip.MustParseAddr("10.99.0.1"), tunnel: netip.MustParseAddr("10.77.0.1"),
			lan: netip.MustParsePrefix("10.71.0.0/24")},
		b: &host{ns: label + "b", underlay: netip.MustParseAddr("10.99.0.2"), tunnel: netip.MustParseAddr("10.77.0.2"),
			lan: netip.MustParsePrefix("10.72.0.0/24")},
		shape: s, link: link, dir: dir, label: label,
	}
	p.a.end, p.b.end = p.a.tunnel, p.b.tunnel
	err := p.build(ctx)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pair) build(ctx context.Context) error {
	for _, h := range []*host{p.a, p.b} {
		if err := newNamespace(ctx, h.ns); err != nil {
			return err
		}
	}
	err := script(ctx,
		fmt.Sprintf("ip link add %s netns %s type veth peer name %s netns %s", underlayDevice, p.a.ns, underlayDevice, p.b.ns),
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", p.a.ns, p.a.underlay, underlayDevice),
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", p.b.ns, p.b.underlay, underlayDevice),
		fmt.Sprintf("ip -n %s link set %s up", p.a.ns, underlayDevice),
		fmt.Sprintf("ip -n %s link set %s up", p.b.ns, underlayDevice))
	if err != nil {
		return err
	}
	for _, h := range []*host{p.a, p.b} {
		if err := p.model(ctx, h.ns, underlayDevice); err != nil {
			return err
		}
		switch p.shape {
		case shapeHosts:
		case shapeGateways:
			err = p.addRoutedEnd(ctx, h)
		case shapeBridged:
			err = p.addBridgedEnd(ctx, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// model makes a device of the underlay what the link model says.
func (p *pair) model(ctx context.Context, ns, device string) error {
	if p.link != linkNIC {
		return nil
	}
	// Checksums stay offloaded, as every card does them; only cutting and joining come back to the
	// kernel.
	_, err := run(ctx, append(inside(ns), "ethtool", "-K", device,
		"tso", "off", "gso", "off", "tx-udp-segmentation", "off", "gro", "on")...)
	return err
}

// addRoutedEnd puts a namespace behind the gateway with the gateway as its default route.
func (p *pair) addRoutedEnd(ctx context.Context, h *host) error {
	h.endNS = h.ns + "e"
	if err := newNamespace(ctx, h.endNS); err != nil {
		return err
	}
	gateway := h.lan.Addr().Next()
	h.end = gateway.Next()
	return script(ctx,
		fmt.Sprintf("ip link add lan netns %s type veth peer name %s netns %s", h.ns, endDevice, h.endNS),
		fmt.Sprintf("ip -n %s addr add %s/24 dev lan", h.ns, gateway),
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", h.endNS, h.end, endDevice),
		fmt.Sprintf("ip -n %s link set lan up", h.ns),
		fmt.Sprintf("ip -n %s link set %s up", h.endNS, endDevice),
		fmt.Sprintf("ip -n %s route add default via %s", h.endNS, gateway),
		fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv4.ip_forward=1", h.ns))
}

// addBridgedEnd puts a container on the gateway's bridge; the contender's TAP joins the bridge
// later.
func (p *pair) addBridgedEnd(ctx context.Context, h *host) error {
	h.endNS = h.ns + "e"
	if err := newNamespace(ctx, h.endNS); err != nil {
		return err
	}
	h.end = netip.AddrFrom4([4]byte{10, 73, 0, h.tunnel.As4()[3]})
	return script(ctx,
		fmt.Sprintf("ip -n %s link add %s type bridge", h.ns, bridgeDevice),
		fmt.Sprintf("ip -n %s link set %s up", h.ns, bridgeDevice),
		fmt.Sprintf("ip link add lan netns %s type veth peer name %s netns %s", h.ns, endDevice, h.endNS),
		fmt.Sprintf("ip -n %s link set lan master %s up", h.ns, bridgeDevice),
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", h.endNS, h.end, endDevice),
		fmt.Sprintf("ip -n %s link set %s up", h.endNS, endDevice))
}

// setEndMTU limits the containers to what the tunnel carries in one datagram.
func (p *pair) setEndMTU(ctx context.Context, mtu int) error {
	for _, h := range []*host{p.a, p.b} {
		err := script(ctx,
			fmt.Sprintf("ip -n %s link set %s mtu %d", h.endNS, endDevice, mtu),
			fmt.Sprintf("ip -n %s link set lan mtu %d", h.ns, mtu))
		if err != nil {
			return err
		}
	}
	return nil
}

// addRoutes sends the other side's networks into the tunnel, for contenders that leave routing to
// others.
func (p *pair) addRoutes(ctx context.Context, device func(*host) string) error {
	if p.shape != shapeGateways {
		return nil
	}
	return script(ctx,
		fmt.Sprintf("ip -n %s route replace %s dev %s", p.a.ns, p.b.lan, device(p.a)),
		fmt.Sprintf("ip -n %s route replace %s dev %s", p.b.ns, p.a.lan, device(p.b)))
}

// daemon starts one of the contender's programs in a gateway.
func (p *pair) daemon(h *host, name string, env []string, argv ...string) error {
	d, err := spawn(h.ns, p.dir, name, env, argv...)
	if err == nil {
		p.daemons = append(p.daemons, d)
	}
	return err
}

// helper starts a program at an end, an iperf3 server say.
func (p *pair) helper(ns, name string, argv ...string) (*process, error) {
	d, err := spawn(ns, p.dir, name, nil, argv...)
	if err == nil {
		p.helpers = append(p.helpers, d)
	}
	return d, err
}

// waitUp returns when a ping crosses from end to end.
func (p *pair) waitUp(ctx context.Context, limit time.Duration) error {
	return waitFor(ctx, limit, 50*time.Millisecond, "ping through the tunnel", p.daemons, func() bool {
		_, err := run(ctx, append(inside(p.a.flowNS()), "ping", "-n", "-q", "-c", "1", "-W", "1", p.b.end.String())...)
		return err == nil
	})
}

// deviceOf is the name of a host's tunnel device: unique on the machine, because the control
// sockets of all namespaces share a directory.
func (p *pair) deviceOf(h *host) string {
	switch {
	case h == p.a:
		return p.label + "x"
	case h.site > 0:
		return fmt.Sprintf("%sy%d", p.label, h.site)
	}
	return p.label + "y"
}

// close stops everything and removes the namespaces. It works on what has been built so far.
func (p *pair) close() {
	for _, d := range append(p.helpers, p.daemons...) {
		d.stop()
	}
	ctx := context.Background() // taking down goes on when the run was interrupted
	for _, h := range append([]*host{p.a, p.b}, p.sites...) {
		for _, ns := range []string{h.ns, h.endNS} {
			if ns != "" {
				_, _ = run(ctx, "ip", "netns", "del", ns) // may not be there yet
			}
		}
	}
}

func inside(ns string) []string { return []string{"ip", "netns", "exec", ns} }

// newNamespace makes a namespace. Cubic is chosen per flow by iperf3, since a namespace may not
// make it its default unless the host's allowed list has it, and the host is left alone.
func newNamespace(ctx context.Context, ns string) error {
	return script(ctx,
		"ip netns add "+ns,
		fmt.Sprintf("ip -n %s link set lo up", ns),
		fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv4.tcp_no_metrics_save=1", ns))
}

// sweep removes namespaces of earlier runs of this program that were killed.
func sweep(ctx context.Context) error {
	out, err := run(ctx, "ip", "-j", "netns", "list")
	if err != nil || len(out) == 0 {
		return err
	}
	var list []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("ip netns list: %w", err)
	}
	for _, ns := range list {
		digits, found := strings.CutPrefix(ns.Name, "tb")
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		pid, err := strconv.Atoi(digits)
		if !found || err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if _, err := run(ctx, "ip", "netns", "del", ns.Name); err != nil {
			return err
		}
	}
	return nil
}

// deviceStats counts what a device received; a superpacket counts as one packet.
type deviceStats struct{ packets, bytes uint64 }

func received(ctx context.Context, ns, device string) (deviceStats, error) {
	var out [2]uint64
	for i, name := range []string{"rx_packets", "rx_bytes"} {
		text, err := run(ctx, append(inside(ns), "cat", filepath.Join("/sys/class/net", device, "statistics", name))...)
		if err != nil {
			return deviceStats{}, err
		}
		out[i], err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return deviceStats{}, err
		}
	}
	return deviceStats{packets: out[0], bytes: out[1]}, nil
}
