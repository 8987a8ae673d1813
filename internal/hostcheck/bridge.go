package hostcheck

import "fmt"

// bridge finds a TAP that somebody has taken out of its bridge, and a bridge that somebody has set
// down or deleted, or that keeps frames from the TAP. tund leaves that as it is, since it may have
// been done on purpose.
func (t *Tunnel) bridge(h Host) []Finding {
	tap, bridge := h.link(t.Tap), h.link(t.Bridge)
	if t.Bridge == "" || tap == nil {
		return nil
	}
	f := Finding{Kind: Bridge, Subject: t.Tap}
	switch {
	case bridge == nil:
		f.Subject = t.Bridge
		f.Message = fmt.Sprintf("the bridge %s is gone: hosts that were behind it are cut off from the peers", t.Bridge)
		f.Remedy = fmt.Sprintf("make it again: ip link add %s up type bridge; %s joins it then, and the other ports are yours", t.Bridge, t.Tap)
	case tap.Master != t.Bridge:
		where := "of no bridge"
		if tap.Master != "" {
			where = "of " + tap.Master
		}
		f.Message = fmt.Sprintf("%s is a port %s, and [tap] wants it in %s: hosts behind %s are cut off from the peers", t.Tap, where, t.Bridge, t.Bridge)
		f.Remedy = fmt.Sprintf("ip link set %s master %s", t.Tap, t.Bridge)
	case !bridge.Up:
		f.Subject = t.Bridge
		f.Message = fmt.Sprintf("the bridge %s is down: no frame passes between its ports and the peers", t.Bridge)
		f.Remedy = fmt.Sprintf("ip link set %s up", t.Bridge)
	case tap.Up && tap.State != PortForwarding:
		f.Message = fmt.Sprintf("the bridge %s has its port %s %v: no frame passes between its other ports and the peers", t.Bridge, t.Tap, tap.State)
		f.Remedy = fmt.Sprintf("bridge link set dev %s state 3; with spanning tree, wait for twice its forward_delay, "+
			"or find the other way between the LANs that it has chosen", t.Tap)
	case t.flags(h, tap, &f):
	case len(t.Bridged) > 0:
		r := t.Bridged[0]
		f.Subject = r.Table + " " + r.Chain
		f.Message = fmt.Sprintf("the firewall of this host drops IP packets that %s passes between its ports, those from and to peers included (%s)",
			t.Bridge, r)
		f.Remedy = "if rules for routed packets are not meant for bridged ones: sysctl -w net.bridge.bridge-nf-call-iptables=0 " +
			"net.bridge.bridge-nf-call-ip6tables=0; otherwise: " + r.Remedy()
	default:
		return nil
	}
	return []Finding{f}
}

// flags describes flags of the TAP's port that keep frames from it or drop its own. It reports
// whether there are such.
func (t *Tunnel) flags(h Host, tap *Link, f *Finding) bool {
	flag := ""
	switch {
	case tap.Flags.Locked:
		flag = "locked off"
		f.Message = fmt.Sprintf("the port %s of the bridge %s is locked: it drops what hosts behind the peers send, unless there is an entry for them by hand",
			t.Tap, t.Bridge)
	case tap.Flags.Unheard:
		flag = "bcast_flood on"
		f.Message = fmt.Sprintf("the bridge %s floods no broadcasts to its port %s: its hosts do not find those behind the peers by ARP", t.Bridge, t.Tap)
	case tap.Flags.Isolated && t.allIsolated(h):
		flag = "isolated off"
		f.Message = fmt.Sprintf("all ports of the bridge %s are isolated, %s too: no frame passes between them", t.Bridge, t.Tap)
	default:
		return false
	}
	f.Remedy = fmt.Sprintf("bridge link set dev %s %s", t.Tap, flag)
	return true
}

// allIsolated reports whether there are other ports of the bridge of the TAP, all of them isolated.
func (t *Tunnel) allIsolated(h Host) bool {
	others := 0
	for i := range h.Links {
		if l := &h.Links[i]; l.Master == t.Bridge && l.Name != t.Tap {
			if !l.Flags.Isolated {
				return false
			}
			others++
		}
	}
	return others > 0
}

// ReadBridged returns the rules that drop what a bridge passes between its ports, where the kernel
// applies rules for routed packets to that, too (br_netfilter), with the limits of ReadRules.
func ReadBridged(bridge string) ([]Rule, error) {
	if !FiltersBridged() {
		return nil, nil
	}
	return readRules(Traffic{Device: bridge, bridged: true}, true)
}
