package doctor

import (
	"fmt"
	"slices"
	"strings"

	"tund/internal/control"
	"tund/internal/hostcheck"
)

// Host is what was seen of the host from outside the instance.
type Host struct {
	ClockUnsynced bool
	// Rules drop packets of the instance or lead them elsewhere; nil: see RulesUnseen.
	Rules       []hostcheck.Rule
	RulesUnseen string
	Overlaps    []Overlap
	Bridges     []Bridge
	// FiltersBridged: iptables and nftables look at bridged packets (bridge-nf-call-iptables).
	FiltersBridged bool
}

// Overlap is an allowed IP that is also routed to another link.
type Overlap struct{ Prefix, Link string }

// Bridge is the bridge that a TAP device is a port of.
type Bridge struct {
	Device, Name  string
	VLANFiltering bool
}

// firewall explains rules that keep peers from this host, or packets to peers.
func (e *Evidence) firewall() []Finding {
	list := e.warnings(Problem, "firewall")
	for _, chain := range []string{"input", "output"} {
		for n, evidence := 0, e.rules(chain); n < len(evidence); n++ {
			i := slices.IndexFunc(list, func(f Finding) bool {
				return strings.Contains(f.Cause, "table "+evidence[n].Table+", chain "+evidence[n].Chain+")")
			})
			switch {
			case i >= 0:
				list[i].Evidence = evidence[n].String()
				list[i].Remedy = evidence[n].Remedy()
			case chain == "output" && e.anyDown():
				list = append(list, Finding{
					Severity: Problem, Subject: evidence[n].Table, Cause: "a rule of this host drops our datagrams on their way out",
					Evidence: evidence[n].String(), Remedy: evidence[n].Remedy(),
				})
			}
		}
	}
	for _, r := range e.rules("nat") {
		if slices.ContainsFunc(list, func(f Finding) bool { return strings.Contains(f.Cause, r.String()) }) {
			continue // it was a warning
		}
		severity := Warning // what peers begin is lost; what this host begins is not
		if !slices.ContainsFunc(e.Instance.Peers, func(p control.Peer) bool { return p.State == control.StateUp }) {
			severity = Problem
		}
		list = append(list, Finding{
			Severity: severity, Subject: r.Table,
			Cause: fmt.Sprintf("a rule of this host gives datagrams to UDP port %d another destination: peers cannot begin a session with it",
				e.Instance.ListenPort),
			Evidence: r.String(), Remedy: r.Remedy(),
		})
	}
	if e.Host != nil {
		list = append(list, unseen("rules of the firewall", e.Host.RulesUnseen)...)
	} else {
		list = append(list, unseen("rules of the firewall", e.HostUnseen)...)
	}
	return list
}

// rules are those at one hook.
func (e *Evidence) rules(hook string) []hostcheck.Rule {
	if e.Host == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(e.Host.Rules), func(r hostcheck.Rule) bool { return r.Hook != hook })
}

func (e *Evidence) anyDown() bool {
	return slices.ContainsFunc(e.Instance.Peers, func(p control.Peer) bool { return p.State == control.StateDown })
}

// forwarding explains why networks behind this host cannot use the tunnel.
func (e *Evidence) forwarding() []Finding {
	list := e.warnings(Warning, "forwarding", "reverse-path")
	for _, r := range e.rules("forward") {
		if slices.ContainsFunc(list, func(f Finding) bool { return f.Subject == r.Table+" "+r.Chain }) {
			continue // the instance says so itself
		}
		severity := Warning
		if r.Policy { // nobody may want anything forwarded
			severity = Note
		}
		list = append(list, Finding{
			Severity: severity, Subject: r.Table, Cause: "the firewall of this host drops what is forwarded between the tunnel and other networks",
			Evidence: r.String(), Remedy: r.Remedy(),
		})
	}
	return list
}

// ethernet explains what keeps frames from crossing.
func (e *Evidence) ethernet() []Finding {
	list := append(e.warnings(Warning, "switch"), e.warnings(Problem, "bridge")...)
	if e.Host == nil {
		return list
	}
	for _, b := range e.Host.Bridges {
		if b.VLANFiltering && e.tagged(func(port string) bool { return port != b.Device }) &&
			!e.tagged(func(port string) bool { return port == b.Device }) {
			list = append(list, Finding{
				Severity: Note, Subject: b.Device, Cause: "the bridge " + b.Name + " filters VLANs, and no tagged frame has come from it",
				Remedy: "the port needs the VLANs that the peers carry: bridge vlan show dev " + b.Device,
			})
		}
	}
	if e.Host.FiltersBridged && len(e.Host.Bridges) > 0 {
		list = append(list, Finding{
			Severity: Note, Cause: "this host applies its rules for routed packets to bridged ones as well, and may drop some",
			Evidence: "net.bridge.bridge-nf-call-iptables = 1",
			Remedy:   "unless that is intended: sysctl -w net.bridge.bridge-nf-call-iptables=0",
		})
	}
	return list
}

// tagged reports whether hosts are known in VLANs, behind some ports.
func (e *Evidence) tagged(at func(port string) bool) bool {
	return slices.ContainsFunc(e.Instance.FDB, func(f control.FDBEntry) bool {
		return f.VLAN != 0 && f.VLAN != control.AllVLANs && at(f.Port)
	})
}
