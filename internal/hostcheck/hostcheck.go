// Package hostcheck finds settings of the host that keep a tunnel from doing what its configuration
// asks for: a gateway that does not forward, an exit that does not translate addresses, strict
// reverse path filtering that contradicts the routes, a clock that is behind, a firewall that
// blocks our port. It reports each with a remedy.
//
// Find depends on its arguments only; Read examines the host. The package changes nothing: sysctls
// and the clock are up to the administrator.
package hostcheck

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kind groups findings for programs.
type Kind string

// The kinds of findings. They never change.
const (
	Forwarding  Kind = "forwarding"      // a gateway does not forward packets
	ReversePath Kind = "reverse-path"    // rp_filter drops what peers send
	Clock       Kind = "clock"           // the clock is behind
	Firewall    Kind = "firewall"        // nftables keeps peers from our port
	Masquerade  Kind = "masquerade"      // an exit does not translate addresses
	Queue       Kind = "device-queue"    // the queue of one of our devices overflows
	Elsewhere   Kind = "route-elsewhere" // a route of somebody else is preferred to ours
	Bridge      Kind = "bridge"          // the TAP and its bridge are parted, or frames do not pass
	Address     Kind = "address"         // another link has an address of the TUN device
	Conntrack   Kind = "conntrack"       // the table of connections is full
)

// Kinds lists all of them.
func Kinds() []Kind {
	return []Kind{Forwarding, ReversePath, Clock, Firewall, Masquerade, Queue, Elsewhere, Bridge, Address, Conntrack}
}

// Finding is one setting to correct.
type Finding struct {
	Kind    Kind
	Subject string // the device it is about; "" for the host
	Message string // one line
	Remedy  string // one line
}

// Host is what is examined of the host.
type Host struct {
	Links    []Link
	Forward4 bool // net.ipv4.ip_forward
	Forward6 bool // net.ipv6.conf.all.forwarding
	// ValidMark is net.ipv4.conf.all.src_valid_mark: marks count when reverse paths are checked.
	ValidMark bool
	// Packets dropped for their reverse path since boot.
	ReversePathDrops uint64
	Tracking         Tracking
	Now              time.Time
}

// Link is one network interface.
type Link struct {
	Name     string
	Index    int
	Up       bool
	Loopback bool
	Addrs    []netip.Prefix // with host bits
	Forward4 bool           // net.ipv4.conf.NAME.forwarding
	Bridge   bool           // a Linux bridge
	Master   string         // the bridge, or another device, that it is a port of; "": none
	State    PortState      // of the port, if Master is a bridge
	Flags    PortFlags      // the same
	Strict   bool           // the greater of net.ipv4.conf.all.rp_filter and NAME's is 1
	Queue    QueueCounts
}

// QueueCounts counts packets that the kernel sent to a device, since it was made.
type QueueCounts struct {
	Taken uint64 // by the driver
	Lost  uint64 // because its queue was full
}

// Tunnel is what is examined of an instance with a TUN device.
type Tunnel struct {
	Device  string         // the TUN device
	Tap     string         // the TAP device; "": none, or it is to be in no bridge
	Bridge  string         // the bridge that the TAP is to be a port of
	Bridged []Rule         // what drops frames that it passes between its ports (ReadBridged)
	Own     []string       // other devices of the instance: no LANs of the host
	Allowed []netip.Prefix // of all peers
	Uplinks []string       // links by which peers are reached, or any destination
	Routed  bool           // the instance makes a route for every allowed IP
	// Protocol is that of the instance's own routes.
	Protocol int
	// Astray are allowed IPs whose first and last addresses are routed to another link.
	Astray []Astray
	// Parts are those of allowed IPs that do not go through the tunnel (ReadParts, ReadDiverted).
	Parts []Part
	// Filters are the tables of nftables that keep datagrams from Port; empty while peers are
	// heard.
	Filters []Filter
	SomeUp  bool // a peer is up
	Port    uint16
	// Barriers are the rules of nftables that drop what is forwarded between the device and others.
	Barriers []Rule
	// Muted are the rules of nftables that drop what tells hosts behind this one how long packets
	// may be.
	Muted []Rule
	// Framed are the rules of the family bridge that drop frames between the TAP and its bridge.
	Framed []Rule
	// Forwards: the configuration has this host forward packets.
	Forwards bool
	// Outward is a packet from a peer to the Internet whose address is not translated; nil: none.
	Outward *Outward
	// Waiting: a peer is not up.
	Waiting bool
	// EarlierDrops are Host.ReversePathDrops at the last examination; at the first, those of now.
	EarlierDrops uint64
	// Earlier has the counts of our own devices at the last examination, by name.
	Earlier map[string]QueueCounts
	// Written is when the configuration file was last written, and File its name.
	Written time.Time
	File    string
	// Sent is the newest timestamp of a handshake sent so far, by this process or one before; zero:
	// none is known.
	Sent time.Time
}

// Astray is an allowed IP that is routed to another link, or that a route or rule refuses.
type Astray struct {
	Prefix netip.Prefix
	Link   string
	// Refused is the type of that route or rule, as ip(8) writes it; "": none refuses it, and Link
	// is set.
	Refused string
}

// clockSlack is how far the clock may be behind the time at which a file was written, because
// another machine may have written it.
const clockSlack = 2 * time.Minute

// Find returns the settings to correct.
func Find(t Tunnel, h Host) []Finding {
	return slices.Concat(t.forwarding(h), t.barriers(h), t.muted(), t.elsewhere(h), t.reversePath(h), t.secondUplink(h), t.exit(),
		t.firewall(), t.queues(h), t.bridge(h), t.frames(), t.clock(h), t.addresses(h), t.parts(), t.conntrack(h))
}

// clock finds a clock that is behind what this host itself has done before.
func (t *Tunnel) clock(h Host) []Finding {
	const form = "2006-01-02 15:04 MST"
	f := Finding{Kind: Clock, Remedy: "set the clock, and keep it with NTP (timedatectl set-ntp true)"}
	switch {
	case t.Sent.Sub(h.Now) > clockSlack:
		f.Message = fmt.Sprintf("the clock of this host says %s, and its last handshake was sent at %s: handshakes go on with that time, "+
			"because peers refuse older ones", h.Now.UTC().Format(form), t.Sent.UTC().Format(form))
	case t.Written.Sub(h.Now) > clockSlack:
		f.Message = fmt.Sprintf("the clock of this host says %s, which is before %s was written: peers refuse handshakes that are older than the last",
			h.Now.UTC().Format(form), t.File)
	default:
		return nil
	}
	return []Finding{f}
}

// forwarding finds a gateway that does not forward.
func (t *Tunnel) forwarding(h Host) []Finding {
	tun := h.link(t.Device)
	if tun == nil {
		return nil
	}
	var list []Finding
	for _, v6 := range []bool{false, true} {
		lans := t.lans(h, v6)
		if !t.wide(tun, v6) || len(lans) == 0 {
			continue
		}
		family := "IPv4"
		if v6 {
			family = "IPv6"
		}
		for _, lan := range lans {
			sysctl := forwardBetween(h, v6, tun, lan)
			if sysctl == "" {
				continue
			}
			list = append(list, Finding{
				Kind: Forwarding, Subject: lan.Name + " " + family,
				Message: fmt.Sprintf("this host does not forward %s between %s and %s: only the host itself can use the tunnel, not the network at %s",
					family, t.Device, lan.Name, lan.Name),
				Remedy: "if that network is to use it: sysctl -w " + sysctl + ", and the same in a file below /etc/sysctl.d",
			})
		}
	}
	return list
}

// forwardBetween returns the setting that is to make the host forward between two links; "": it
// does. For IPv4 each link has a switch of its own, which net.ipv4.ip_forward turns only when it
// changes itself.
func forwardBetween(h Host, v6 bool, links ...*Link) string {
	if v6 && !h.Forward6 {
		return "net.ipv6.conf.all.forwarding=1"
	}
	for _, l := range links {
		switch {
		case v6 || l.Forward4:
		case !h.Forward4:
			return "net.ipv4.ip_forward=1"
		default:
			return "net.ipv4.conf." + strings.ReplaceAll(l.Name, ".", "/") + ".forwarding=1"
		}
	}
	return ""
}

// wide reports whether peers have networks of a family, rather than only single hosts or the
// network of the tunnel itself. Such networks are what a gateway is for.
func (t *Tunnel) wide(tun *Link, v6 bool) bool {
	return slices.ContainsFunc(t.Allowed, func(p netip.Prefix) bool {
		if p.Addr().Is6() != v6 || p.IsSingleIP() {
			return false
		}
		return !slices.ContainsFunc(tun.Addrs, func(a netip.Prefix) bool {
			return a.Bits() <= p.Bits() && a.Contains(p.Addr())
		})
	})
}

// lans returns the networks of the host that are not uplinks. If no uplink is known, one of them
// must be it: a single network is then not a LAN.
func (t *Tunnel) lans(h Host, v6 bool) []*Link {
	var lans []*Link
	known := false
	for i := range h.Links {
		l := &h.Links[i]
		switch {
		case slices.Contains(t.Uplinks, l.Name):
			known = true
		case l.Loopback || !l.Up || l.Name == t.Device || slices.Contains(t.Own, l.Name):
		case slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool {
			return a.Addr().Is6() == v6 && !a.IsSingleIP() && !a.Addr().IsLinkLocalUnicast()
		}):
			lans = append(lans, l)
		}
	}
	if !known && len(lans) < 2 {
		return nil
	}
	return lans
}

// reversePath finds what strict filtering on the TUN device drops: packets whose source is not
// routed back to it. Such filtering exists only for IPv4.
func (t *Tunnel) reversePath(h Host) []Finding {
	tun := h.link(t.Device)
	if tun == nil || !tun.Strict {
		return nil
	}
	var what []string
	for _, a := range t.Astray {
		if a.Prefix.Addr().Is4() && a.Refused == "" {
			what = append(what, a.Prefix.String()+" (by "+a.Link+")")
		}
	}
	if len(what) == 0 {
		return nil
	}
	if n := len(what); n > maxNamed {
		what = append(what[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
	}
	return []Finding{{
		Kind: ReversePath, Subject: t.Device,
		Message: fmt.Sprintf("the kernel drops what peers send from %s: rp_filter is strict on %s, and the route back leaves by another link",
			strings.Join(what, ", "), t.Device),
		Remedy: "remove the other route (ip route get ADDRESS), or make the filter loose: sysctl -w net.ipv4.conf." + t.Device + ".rp_filter=2",
	}}
}

// elsewhere finds allowed IPs that routes of somebody else lead past the device. A network that
// this host is in itself is not among them: it keeps its route, which internal/daemon says. Nor is
// the whole Internet, parts of which a full tunnel leaves to other routes.
func (t *Tunnel) elsewhere(h Host) (list []Finding) {
	if tun := h.link(t.Device); tun == nil || !tun.Up || !t.Routed {
		return nil
	}
	for _, a := range t.Astray {
		first := a.Prefix.Addr()
		if !a.Prefix.IsSingleIP() {
			first = first.Next()
		}
		own := slices.ContainsFunc(h.Links, func(l Link) bool {
			return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Contains(first) })
		})
		if own || a.Prefix.Bits() == 0 || len(list) == maxNamed {
			continue
		}
		if a.Refused != "" {
			list = append(list, Finding{
				Kind: Elsewhere, Subject: a.Prefix.String(),
				Message: fmt.Sprintf("%s is an allowed IP, and a route or rule of type %s that is not tund's covers it: nothing is sent to it through the tunnel",
					a.Prefix, a.Refused),
				Remedy: fmt.Sprintf("find and remove it (ip rule; ip route show %s; ip route get %s), or leave the network out of allowed_ips", a.Prefix, first),
			})
			continue
		}
		list = append(list, Finding{
			Kind: Elsewhere, Subject: a.Prefix.String(),
			Message: fmt.Sprintf("%s is an allowed IP, and a route or rule that is not tund's leads it to %s: nothing is sent to it through the tunnel",
				a.Prefix, a.Link),
			Remedy: fmt.Sprintf("remove that route (ip route get %s shows it), or give tund's a smaller metric in [tun]", first),
		})
	}
	return list
}

// maxNamed bounds the networks that one message names.
const maxNamed = 3

func (h *Host) link(name string) *Link {
	for i := range h.Links {
		if h.Links[i].Name == name {
			return &h.Links[i]
		}
	}
	return nil
}
