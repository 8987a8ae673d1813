package hostcheck

import (
	"encoding/binary"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// port is what a link is to others.
type port struct {
	name   string
	bridge bool   // a Linux bridge itself
	under  uint32 // index of the link that it is a port of; 0: none
	master string // its name
	state  PortState
	flags  PortFlags
}

// PortFlags are what a port of a Linux bridge does with frames besides its state (bridge(8)).
type PortFlags struct {
	Isolated bool // no frame passes to and from other ports that are isolated
	Locked   bool // frames from stations that the bridge has no entry for are dropped
	Unheard  bool // broadcasts are not flooded to it, and ARP is not answered in its place
}

// PortState is the state of a port of a Linux bridge (linux/if_bridge.h).
type PortState uint8

// The states. A port carries frames in one of them only.
const (
	PortDisabled PortState = iota
	PortListening
	PortLearning
	PortForwarding
	PortBlocking
)

func (s PortState) String() string {
	names := [...]string{"disabled", "listening", "learning", "forwarding", "blocking"}
	if int(s) < len(names) {
		return names[s]
	}
	return "in an unknown state"
}

// skipStats asks for links without their counters (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h).
const skipStats = 1 << 3

// listPorts describes the links of the host, by index. Without the list, nothing is known.
func listPorts() map[int]port {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	ports := make(map[int]port)
	err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, func(m []byte) bool {
		if index, p, ok := parsePort(m); ok {
			ports[index] = p
		}
		return true
	})
	if err != nil {
		return nil
	}
	for index, p := range ports {
		p.master = ports[int(p.under)].name
		ports[index] = p
	}
	return ports
}

// parsePort reads a struct ifinfomsg and its attributes.
func parsePort(b []byte) (index int, p port, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return 0, p, false
	}
	index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	p.state = PortForwarding // unless it says otherwise
	for typ, value := range attributes(b[unix.SizeofIfInfomsg:]) {
		switch {
		case typ == unix.IFLA_IFNAME:
			p.name = strings.TrimRight(string(value), "\x00")
		case typ == unix.IFLA_MASTER && len(value) == 4:
			p.under = binary.NativeEndian.Uint32(value)
		case typ == unix.IFLA_LINKINFO:
			p.parseInfo(value)
		}
	}
	return index, p, index > 0
}

// attributes yields the types and values of netlink attributes, as far as they are well formed.
func attributes(b []byte) func(yield func(typ uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		list, err := nl.ParseRouteAttr(b)
		if err != nil {
			return
		}
		for i := range list {
			if !yield(list[i].Attr.Type&^unix.NLA_F_NESTED, list[i].Value) {
				return
			}
		}
	}
}

// parseInfo reads what kind of link it is, and which state it has as a port of a bridge.
func (p *port) parseInfo(b []byte) {
	kindOf := func(value []byte) string { return strings.TrimRight(string(value), "\x00") }
	bridged := false
	for typ, value := range attributes(b) {
		switch typ {
		case nl.IFLA_INFO_KIND:
			p.bridge = kindOf(value) == "bridge"
		case nl.IFLA_INFO_SLAVE_KIND:
			bridged = kindOf(value) == "bridge"
		case nl.IFLA_INFO_SLAVE_DATA:
			if bridged {
				p.parsePort(value)
			}
		}
	}
}

// parsePort reads the state and the flags of a port of a Linux bridge.
func (p *port) parsePort(b []byte) {
	silent, suppressed := false, false
	for typ, value := range attributes(b) {
		if len(value) != 1 {
			continue
		}
		on := value[0] != 0
		switch typ {
		case nl.IFLA_BRPORT_STATE:
			p.state = PortState(value[0])
		case nl.IFLA_BRPORT_ISOLATED:
			p.flags.Isolated = on
		case nl.IFLA_BRPORT_LOCKED:
			p.flags.Locked = on
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			silent = !on
		case nl.IFLA_BRPORT_NEIGH_SUPPRESS:
			suppressed = on
		}
	}
	p.flags.Unheard = silent && !suppressed
}
