package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/hostcheck"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// healthy is an instance without a fault.
func healthy() control.Instance {
	return control.Instance{
		Name: "office", Version: "1.4.0", PublicKey: "us=", ListenPort: 51820, Config: "/etc/tund/office.toml", Underlay: []string{"gso", "gro"},
		Devices: []control.Device{
			{Name: "office", Kind: "tun", MTU: 1420, Offload: true, Up: true}, {Name: "lan", Kind: "tap", Offload: true, Up: true, Bridge: "br0"},
		},
		Peers: []control.Peer{
			{Name: "berlin", PublicKey: "berlin=", State: control.StateUp, Endpoint: "192.0.2.2:51820", Endpoints: []string{"192.0.2.2:51820"},
				Session: &control.Session{}},
			{Name: "paris", State: control.StateIdle},
		},
		FDBLimit: 16384,
	}
}

// whole is complete evidence about it.
func whole(i *control.Instance) *Evidence {
	return &Evidence{
		Now: noon, Instance: i, ToolVersion: "1.4.0", File: &File{},
		Routes: &control.RouteInstance{Objects: []control.RouteObject{{Kind: "route", Object: "10.20.0.0/16 dev office", State: "present"}}},
		Host:   &Host{Bridges: []Bridge{{Device: "lan", Name: "br0", VLANFiltering: true}}},
		Probes: []Probe{{Peer: "berlin", Size: 1420, Small: 3, SmallBack: 3, Large: 3, LargeBack: 2}},
	}
}

func TestExamine_findsNothingWhereNothingIs(t *testing.T) {
	t.Parallel()
	i := healthy()
	r := Examine(whole(&i))
	if r.Worst != OK {
		t.Errorf("%+v", r)
	}
	for _, name := range Checks() {
		if n := len(slices.Collect(of(r, name))); n != 1 {
			t.Errorf("check %s has %d findings", name, n)
		}
	}
	if f := first(r, "paths"); !strings.Contains(f.Cause, "UDP port 51820 is reachable from outside: berlin") {
		t.Errorf("%+v", f)
	}
	// What could not be looked at is said, and is no fault.
	r = Examine(&Evidence{Now: noon, Instance: &i, RoutesUnseen: "no", HostUnseen: "only root may", FileUnseen: "no", ProbesUnseen: "many"})
	if r.Worst != Unseen {
		t.Errorf("worst is %s", r.Worst)
	}
	for _, name := range []string{"configuration", "network", "firewall", "paths"} {
		if f := first(r, name); f.Severity != Unseen || f.Cause == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func of(r Report, check string) func(func(Finding) bool) {
	return func(yield func(Finding) bool) {
		for _, f := range r.Findings {
			if f.Check == check && !yield(f) {
				return
			}
		}
	}
}

// first is the gravest finding of a check.
func first(r Report, check string) Finding {
	for f := range of(r, check) {
		return f
	}
	return Finding{}
}

func TestExamine_namesCauseEvidenceAndRemedy(t *testing.T) {
	t.Parallel()
	rule := hostcheck.Rule{Hook: "forward", Table: "inet fw", Chain: "c", Handle: 7, Accept: `iifname "office"`}
	warn := func(kind, subject, message, remedy string) func(*Evidence) {
		return func(e *Evidence) {
			e.Instance.Warnings = []control.Warning{{Kind: kind, Subject: subject, Message: message, Remedy: remedy, Since: control.At(noon)}}
		}
	}
	down := func(why string) func(*Evidence) {
		return func(e *Evidence) {
			p := &e.Instance.Peers[0]
			p.State, p.LastError, p.Handshake.InitiationsTx = control.StateDown, why, 9
		}
	}
	for _, test := range []struct {
		name     string
		fault    func(*Evidence)
		check    string
		severity Severity
		words    string // separated by |
	}{
		{"no answer", down("no answer from 192.0.2.2:51820"), "sessions", Problem, `no answer|initiations sent 9|public_key = "us="|192.0.2.2:51820`},
		{"no answer from a peer behind NAT", func(e *Evidence) {
			down("no answer from 192.0.2.2:51820")(e)
			e.Instance.Peers[0].Endpoints = nil
		}, "sessions", Problem, "only where it was last, at 192.0.2.2:51820|keepalive = 25"},
		{"what the peer drops", down("the peer drops our packets from 10.9.0.1: the address is not among the allowed_ips of this host there"),
			"sessions", Problem, "at the peer: add the address to allowed_ips"},
		{"a peer that has removed us", down("removed: the peer said that this host is no longer in its configuration"), "sessions", Problem,
			"put back its [[peer]]"},
		{"a peer of the agent that has removed us", func(e *Evidence) {
			down("removed: the peer said that this host is no longer in its configuration")(e)
			e.Instance.Peers[0].Source = "agent"
		}, "sessions", Problem, "removed: the peer said|what has become of our grant"},
		{"a preshared key", down("preshared keys differ"), "sessions", Problem, "preshared keys differ|compare preshared_key"},
		{"a clock of the peer", down("initiation with an old timestamp"), "sessions", Problem, "set the clock of the peer"},
		{"a key used twice", down("two hosts use the key of this peer at once"), "sessions", Problem, "key of its own"},
		{"down without a reason", down(""), "sessions", Problem, "attempts to reach the peer failed"},
		{"a stranger", warn("unknown-peer", "", "a host asks", "add [[peer]]"), "sessions", Warning, "a host asks|add [[peer]]"},
		{"a refused file", func(e *Evidence) { e.Instance.ConfigError = "office.toml:1:1: bad" }, "configuration", Problem, "1:1: bad|tunctl -i office reload"},
		{"a file with errors", func(e *Evidence) { e.File.Errors = []string{"x"} }, "configuration", Problem, "the next reload or start will be refused"},
		{"a newer file", func(e *Evidence) { e.File.Changed = true }, "configuration", Warning, "written after it was read|reload"},
		{"changes at run time", warn("runtime", "", "changed at run time", ""), "configuration", Warning, "changed at run time|since 2026"},
		{"a device", func(e *Evidence) { e.Instance.Devices[0].Up = false }, "devices", Problem, "is down|ip link set office up"},
		{"a route", func(e *Evidence) { e.Routes.Objects[0].State = "missing" }, "network", Problem, "10.20.0.0/16 dev office is missing"},
		{"what the kernel refused", warn("network", "", "file exists", ""), "network", Problem, "file exists"},
		{"an overlap", func(e *Evidence) { e.Host.Overlaps = []Overlap{{"10.20.0.0/16", "eth1"}} }, "network", Warning, "10.20.0.0/16|eth1"},
		{"a name", warn("dns", "berlin", "no such host", ""), "names", Problem, "no such host|getent hosts"},
		{"the clock", warn("clock", "", "the clock of this host says 1970", "set the clock"), "clock", Problem, "1970|set the clock"},
		{"no time server", func(e *Evidence) { e.Host.ClockUnsynced = true }, "clock", Note, "set-ntp"},
		{"the firewall", func(e *Evidence) {
			warn("firewall", "inet fw", "no peer is up, and a rule drops (nftables: table inet fw, chain c)", "accept it")(e)
			e.Host.Rules = []hostcheck.Rule{{Hook: "input", Table: "inet fw", Chain: "c", Handle: 4, Accept: "udp dport 51820"}}
		}, "firewall", Problem, "handle 4|nft delete rule inet fw c handle 4"},
		{"the firewall outwards", func(e *Evidence) {
			down("cannot send")(e)
			e.Host.Rules = []hostcheck.Rule{{Hook: "output", Table: "inet fw", Chain: "o", Handle: 5, Accept: "udp sport 51820"}}
		}, "firewall", Problem, "on their way out|handle 5"},
		{"a redirected port", func(e *Evidence) {
			e.Host.Rules = []hostcheck.Rule{{Hook: "nat", Table: "ip nat", Chain: "pre", Handle: 6}}
		}, "firewall", Warning, "another destination|table ip nat, chain pre, handle 6|nft delete rule ip nat pre handle 6"},
		{"a redirected port, and no peer", func(e *Evidence) {
			down("no answer")(e)
			e.Host.Rules = []hostcheck.Rule{{Hook: "nat", Table: "ip nat", Chain: "pre", Handle: 6}}
		}, "firewall", Problem, "cannot begin a session|handle 6"},
		{"forwarding", warn("forwarding", "eth1 IPv4", "this host does not forward", "sysctl"), "forwarding", Warning, "does not forward|sysctl"},
		{"a rule against forwarding", func(e *Evidence) { e.Host.Rules = []hostcheck.Rule{rule} }, "forwarding", Warning, "handle 7|iifname \"office\" accept"},
		{"a path that takes less", func(e *Evidence) { e.Probes[0].LargeBack = 0 }, "paths", Problem, "large packets|1420 bytes|mtu = 1280"},
		{"a path that takes nothing", func(e *Evidence) { e.Probes[0] = Probe{Peer: "berlin", Small: 3, Reason: "no answer"} }, "paths", Problem, "no echo request|no answer"},
		{"a path that loses", func(e *Evidence) { e.Probes[0].SmallBack, e.Probes[0].LargeBack = 1, 1 }, "paths", Warning, "4 of 6|tunctl ping berlin"},
		{"a slow device", func(e *Evidence) { e.Instance.Devices[0].Offload = false }, "offloads", Note, "single packets"},
		{"slow sockets", func(e *Evidence) { e.Instance.Underlay = nil }, "offloads", Note, "GSO"},
		{"the switch", warn("switch", "berlin", "carries no VLAN 7 with us", "vlans"), "ethernet", Warning, "VLAN 7"},
		{"a port of the bridge", warn("bridge", "lan", "the bridge br0 has its port lan blocking", "bridge link"), "ethernet", Problem, "br0|blocking|bridge link"},
		{"a bridge that filters VLANs", func(e *Evidence) { e.Instance.FDB = []control.FDBEntry{{VLAN: 7, Port: "berlin"}} }, "ethernet", Note, "bridge vlan show dev lan"},
		{"rules on bridged packets", func(e *Evidence) { e.Host.FiltersBridged = true }, "ethernet", Note, "bridge-nf-call-iptables"},
		{"load", func(e *Evidence) { e.Instance.UnderLoad = true }, "load", Warning, "prove their addresses"},
		{"another version", func(e *Evidence) { e.ToolVersion = "1.5.0" }, "versions", Note, "1.4.0|1.5.0|systemctl restart"},
		{"something new", warn("brand-new", "", "something else", "do it"), "other", Warning, "something else|do it"},
	} {
		i := healthy()
		e := whole(&i)
		test.fault(e)
		r := Examine(e)
		f := first(r, test.check)
		text := f.Cause + "\n" + f.Evidence + "\n" + f.Remedy
		for word := range strings.SplitSeq(test.words, "|") {
			if !strings.Contains(text, word) {
				t.Errorf("%s: no %q in\n%s", test.name, word, text)
			}
		}
		if f.Severity != test.severity || r.Worst != test.severity && r.Worst != Problem {
			t.Errorf("%s: %s, worst %s; want %s", test.name, f.Severity, r.Worst, test.severity)
		}
		if f.Severity.Worse(Note) && f.Remedy == "" && test.check != "network" && test.check != "configuration" {
			t.Errorf("%s: no remedy", test.name)
		}
	}
}

// With a peer of interest, what is about others is left out, and what is about the host is not.
func TestExamine_onePeer(t *testing.T) {
	t.Parallel()
	i := healthy()
	i.Peers[1].State, i.Peers[1].LastError = control.StateDown, "no answer"
	e := whole(&i)
	e.Peer = "berlin"
	if r := Examine(e); r.Worst != OK {
		t.Errorf("%+v", r.Findings[0])
	}
	i.Devices[0].Up = false
	if r := Examine(e); r.Worst != Problem {
		t.Errorf("a device is down: %s", r.Worst)
	}
	e.Peer = "paris"
	if f := first(Examine(e), "sessions"); f.Subject != "paris" || f.Severity != Problem {
		t.Errorf("%+v", f)
	}
}
