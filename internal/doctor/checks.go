package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tund/internal/control"
)

// known are the kinds of warnings that a check of their own explains.
var known = []string{
	"config", "runtime", "network", "routing-loop", "unknown-peer", "wrong-key", "dns", "resolver", "clock", "firewall", "forwarding",
	"reverse-path", "route-elsewhere", "offload", "switch", "device-queue", "bridge", "address",
}

// File is what was seen of the configuration file.
type File struct {
	Errors  []string // what is wrong with it now
	Changed bool     // it was written after it was read
}

func (e *Evidence) configuration() []Finding {
	i := e.Instance
	list := unseen("the configuration file", e.FileUnseen)
	if i.ConfigError != "" {
		list = append(list, Finding{
			Severity: Problem, Subject: i.Config, Cause: "the last reload was refused, so an older configuration is in force",
			Evidence: i.ConfigError, Remedy: "correct the file (tunctl -i " + i.Name + " check), then: tunctl -i " + i.Name + " reload",
		})
	}
	switch f := e.File; {
	case f == nil:
	case len(f.Errors) > 0 && i.ConfigError == "":
		list = append(list, Finding{
			Severity: Problem, Subject: i.Config, Cause: "the file has errors now: the next reload or start will be refused",
			Evidence: strings.Join(f.Errors, "; "), Remedy: "correct it: tunctl -i " + i.Name + " check",
		})
	case f.Changed && len(f.Errors) == 0 && i.ConfigError == "":
		list = append(list, Finding{
			Severity: Warning, Subject: i.Config, Cause: "the file was written after it was read: what it says may not be in force",
			Evidence: "read at " + moment(i.ConfigLoaded), Remedy: "tunctl -i " + i.Name + " reload",
		})
	}
	return append(list, e.warnings(Warning, "config", "runtime")...)
}

func (e *Evidence) versions() []Finding {
	if e.ToolVersion == "" || e.ToolVersion == e.Instance.Version {
		return nil
	}
	return []Finding{{
		Severity: Note, Cause: fmt.Sprintf("the instance runs tund %s, and tunctl is %s", e.Instance.Version, e.ToolVersion),
		Remedy: "after an upgrade: systemctl restart tund@" + e.Instance.Name,
	}}
}

func (e *Evidence) devices() []Finding {
	list := e.warnings(Warning, "device-queue")
	for _, d := range e.Instance.Devices {
		if !d.Up {
			list = append(list, Finding{
				Severity: Problem, Subject: d.Name, Cause: "the device is down: no packet enters or leaves the tunnel by it",
				Remedy: "ip link set " + d.Name + " up",
			})
		}
	}
	return list
}

func (e *Evidence) network() []Finding {
	list := e.warnings(Problem, "network", "routing-loop", "route-elsewhere", "address")
	list = append(list, unseen("routes and addresses in the kernel", e.RoutesUnseen)...)
	if e.Routes != nil {
		for _, o := range e.Routes.Objects {
			switch o.State {
			case "missing", "refused":
				list = append(list, Finding{
					Severity: Problem, Subject: o.Kind, Cause: o.Kind + " " + o.Object + " is " + o.State + " in the kernel",
					Remedy: "see tunctl -i " + e.Instance.Name + " routes; a reload tries again",
				})
			case "surplus":
				list = append(list, Finding{
					Severity: Warning, Subject: o.Kind, Cause: o.Kind + " " + o.Object + " has tund's mark, but the configuration does not ask for it",
					Remedy: "tunctl -i " + e.Instance.Name + " reload removes it",
				})
			}
		}
	}
	if e.Host != nil {
		for _, o := range e.Host.Overlaps {
			list = append(list, Finding{
				Severity: Warning, Subject: o.Link,
				Cause:  o.Prefix + ", an allowed IP, is also routed to " + o.Link + ": which way a packet takes depends on the metrics",
				Remedy: "remove one of the two (ip route show " + o.Prefix + ")",
			})
		}
	}
	return list
}

func (e *Evidence) sessions() []Finding {
	list := e.warnings(Warning, "unknown-peer", "wrong-key")
	said := make(map[string]bool)
	for _, w := range e.Instance.Warnings {
		said[w.Message] = w.Kind == "dns" // the check of names explains it
	}
	for n := range e.Instance.Peers {
		p := &e.Instance.Peers[n]
		if p.State != control.StateDown && p.LastError == "" || said[p.LastError] {
			continue
		}
		f := Finding{Severity: Warning, Subject: p.Name, Cause: p.LastError, Evidence: e.aboutPeer(p), Remedy: sessionRemedy(p, e.Instance)}
		if p.State == control.StateDown {
			f.Severity = Problem
			if f.Cause == "" {
				f.Cause = "attempts to reach the peer failed"
			}
		}
		list = append(list, f)
	}
	return list
}

// aboutPeer is what is known of a peer that explains its state.
func (e *Evidence) aboutPeer(p *control.Peer) string {
	parts := []string{string(p.State)}
	if !p.StateSince.IsZero() {
		parts[0] += " " + e.since(p.StateSince)
	}
	if p.Endpoint != "" {
		parts = append(parts, "endpoint "+p.Endpoint)
	} else {
		parts = append(parts, "no endpoint is known")
	}
	parts = append(parts, fmt.Sprintf("initiations sent %d, received %d", p.Handshake.InitiationsTx, p.Handshake.InitiationsRx),
		fmt.Sprintf("responses sent %d, received %d", p.Handshake.ResponsesTx, p.Handshake.ResponsesRx))
	if p.LastHandshake.IsZero() {
		parts = append(parts, "never had a session")
	} else {
		parts = append(parts, "last session "+moment(p.LastHandshake))
	}
	return strings.Join(parts, ", ")
}

// sessionRemedies say what to do about the reasons that the instance gives, by words in them.
var sessionRemedies = []struct{ words, remedy string }{
	{"preshared key", "compare preshared_key at both ends; they have to be equal, or absent at both"},
	{"old timestamp", "set the clock of the peer, and keep it right with NTP; if it is right, someone replays the peer's messages"},
	{"two hosts use the key", "give one of the two hosts a key of its own: tunctl genkey"},
	{"allowed_ips of this host there", "at the peer: add the address to allowed_ips of its [[peer]] for this host; or send from one that is"},
	{"not among the allowed_ips", "add the address to allowed_ips of this peer here, or have the peer send from one that is"},
	{"through the tunnel itself", "leave the endpoint out of the peer's allowed_ips, or add a route to it outside the tunnel"},
	{"firewall of this host", "find the rule (nft -a list ruleset, chains at hook output; ip xfrm policy; " +
		"systemctl show -p IPAddressDeny tund@NAME) and let UDP to that address pass"},
	{"prohibit", "ip route get ADDRESS shows the route or the type of the address: remove the route, or correct the endpoint"},
	{"stopped: the peer", "start it there"},
	{"removed: the peer", "if that was not intended: there, put back its [[peer]] with our public key, and reload"},
	{"although small", "find what drops by size on the way there and back: ping -M dont -s 1200 ADDRESS, tracepath ADDRESS; " +
		"filters that drop fragments or match lengths, a tunnel or switch with a smaller MTU"},
	{"are lost on the path", "find the link that loses: mtr -u ADDRESS, from both ends; a full uplink, a bad cable, wireless, or a limit for UDP"},
	{"nothing comes to it from this host", "at the peer: let UDP from this host's address and port in (nft -a list ruleset, hook input); " +
		"here: does something on the way out drop or redirect it? tcpdump at both ends shows where it ends"},
	{"port unreachable", "at the peer: does tund run, is this its listen_port, and does its firewall not reject UDP to it?"},
	{"forbidden by a router or a firewall", "at the peer: let UDP to its listen_port in (a firewall rejects it); otherwise ask who runs the firewalls on the way"},
	{"says the network", "the host is off, or a router on the way knows no way to it: ping ADDRESS, traceroute ADDRESS"},
	{"is this host itself", "correct the endpoint, or the record of its name: getent hosts NAME"},
	{"bind_device in [tunnel] is gone", "bring the interface back, or change bind_device and reload"},
	{"no route", "add a route to the endpoint: ip route get ADDRESS"},
	{"unreachable", "check the route to the endpoint here (ip route get ADDRESS), and the way there (traceroute)"},
}

func sessionRemedy(p *control.Peer, i *control.Instance) string {
	if p.Source == "agent" && strings.Contains(p.LastError, "removed: the peer") {
		return "ask our agent what has become of our grant (tund-agent --status): after a revocation, or its end, other sites remove us, " +
			"until the signers grant it again"
	}
	host := "ADDRESS"
	if a, err := netip.ParseAddrPort(p.Endpoint); err == nil {
		host = a.Addr().String()
	}
	for _, r := range sessionRemedies {
		if strings.Contains(p.LastError, r.words) {
			return strings.ReplaceAll(r.remedy, "ADDRESS", host)
		}
	}
	if p.Endpoint == "" {
		return "give the peer an endpoint here, or let it begin: it has to have one for this host"
	}
	if len(p.Endpoints) == 0 && strings.Contains(p.LastError, "no answer from") {
		return fmt.Sprintf("it has no endpoint here, so it can be reached only where it was last, at %s: behind NAT it needs "+
			"keepalive = 25 in its [[peer]] for this host, or the way back closes while it is silent; otherwise, does it run?", p.Endpoint)
	}
	return fmt.Sprintf("at the peer: does it run, has it public_key = %q for us, and does its firewall accept UDP at %s? Its own tunctl doctor says more",
		i.PublicKey, p.Endpoint)
}

func (e *Evidence) names() []Finding {
	list := e.warnings(Problem, "dns", "resolver")
	for n := range list {
		if list[n].Remedy == "" {
			list[n].Remedy = "check the name, and that this host can ask its DNS server (getent hosts NAME)"
		}
	}
	return list
}

func (e *Evidence) clock() []Finding {
	list := e.warnings(Problem, "clock")
	if e.Host != nil && e.Host.ClockUnsynced && len(list) == 0 {
		list = append(list, Finding{
			Severity: Note, Cause: "the kernel says that nothing keeps the clock of this host right",
			Evidence: "adjtimex(2) has STA_UNSYNC",
			Remedy:   "timedatectl set-ntp true; peers refuse handshakes of a host whose clock went back",
		})
	}
	return list
}

func (e *Evidence) offloads() []Finding {
	list := e.warnings(Warning, "offload")
	for _, d := range e.Instance.Devices {
		said := slices.ContainsFunc(list, func(f Finding) bool { return f.Subject == d.Name })
		if !d.Offload && !said {
			list = append(list, Finding{
				Severity: Note, Subject: d.Name, Cause: "the device exchanges single packets with the kernel, which is slower",
				Remedy: `offload = "auto" in [tunnel], unless it was turned off on purpose`,
			})
		}
	}
	for _, feature := range []string{"gso", "gro"} {
		if !slices.Contains(e.Instance.Underlay, feature) && len(list) == 0 {
			list = append(list, Finding{
				Severity: Note, Cause: "the UDP sockets work without " + strings.ToUpper(feature) + ", which is slower",
				Remedy: `udp_offload = "auto" in [tunnel], unless it was turned off on purpose`,
			})
		}
	}
	return list
}

func (e *Evidence) load() []Finding {
	if !e.Instance.UnderLoad {
		return nil
	}
	return []Finding{{
		Severity: Warning, Cause: "so many handshakes arrive that their senders have to prove their addresses first",
		Evidence: fmt.Sprintf("%d cookie replies sent", e.Instance.Handshakes.CookiesTx),
		Remedy:   "existing sessions continue; see who sends (tcpdump udp port " + fmt.Sprint(e.Instance.ListenPort) + "), and limit it before this host",
	}}
}

// others are the warnings that no other check explains, so that nothing is lost.
func (e *Evidence) others() []Finding {
	var kinds []string
	for _, w := range e.Instance.Warnings {
		if !slices.Contains(known, w.Kind) {
			kinds = append(kinds, w.Kind)
		}
	}
	return e.warnings(Warning, kinds...)
}
