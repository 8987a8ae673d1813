package hostcheck

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// gateway is a host between a LAN and an uplink, with a tunnel to another site.
func gateway() (Tunnel, Host) {
	t := Tunnel{Device: "office", Allowed: prefixes("10.20.0.0/16", "fd20::/64"), Uplinks: []string{"wan"}, File: "office.toml"}
	h := Host{Forward6: true, Now: time.Unix(1_800_000_000, 0), Links: []Link{
		{Name: "lo", Up: true, Loopback: true, Addrs: prefixes("127.0.0.1/8")},
		{Name: "wan", Up: true, Addrs: prefixes("192.0.2.1/24", "2001:db8::1/64")},
		{Name: "lan", Up: true, Addrs: prefixes("192.168.1.1/24", "fd01::1/64", "fe80::1/64"), Forward4: true},
		{Name: "office", Up: true, Addrs: prefixes("10.9.0.1/24", "fd09::1/64"), Forward4: true},
	}}
	return t, h
}

// barrier is a rule, or a policy, that drops what is forwarded.
func barrier(handle uint64) []Rule {
	return []Rule{{Hook: "forward", Table: "inet fw", Chain: "f", Handle: handle, Policy: handle == 0, Accept: "iifname office", Back: "oifname office"}}
}

// bridgeTAP gives an instance a TAP that is to be in the bridge br0.
func bridgeTAP(t *Tunnel, h *Host, master string, up bool) {
	t.Tap, t.Bridge = "tap0", "br0"
	h.Links = append(h.Links, Link{Name: "tap0", Up: true, Master: master, State: PortForwarding}, Link{Name: "br0", Up: up, Bridge: true})
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Tunnel, *Host)
		want   []string // words of the message and remedy of each finding, in order
	}{
		{"all is well", func(*Tunnel, *Host) {}, nil},
		{"the LAN is not forwarded", func(_ *Tunnel, h *Host) { h.Links[2].Forward4 = false }, []string{"IPv4 between office and lan|net.ipv4.ip_forward=1"}},
		{"nor the tunnel", func(_ *Tunnel, h *Host) { h.Links[3].Forward4 = false }, []string{"IPv4 between office and lan"}},
		{"the LAN alone is not forwarded", func(_ *Tunnel, h *Host) { h.Forward4, h.Links[2].Forward4, h.Links[2].Name = true, false, "eth0.10" },
			[]string{"IPv4 between office and eth0.10|sysctl -w net.ipv4.conf.eth0/10.forwarding=1"}},
		{"the tunnel alone is not forwarded", func(_ *Tunnel, h *Host) { h.Forward4, h.Links[3].Forward4 = true, false },
			[]string{"IPv4 between office and lan|net.ipv4.conf.office.forwarding=1"}},
		{"nor IPv6", func(_ *Tunnel, h *Host) { h.Forward6 = false }, []string{"IPv6 between office and lan|net.ipv6.conf.all.forwarding=1"}},
		{"peers are hosts", func(x *Tunnel, h *Host) {
			h.Links[3].Forward4, h.Forward6, x.Allowed = false, false, prefixes("10.20.0.1/32", "fd20::1/128")
		}, nil},
		{"peers are in the tunnel's network", func(x *Tunnel, h *Host) {
			h.Links[3].Forward4, x.Allowed = false, prefixes("10.9.0.0/24", "10.9.0.128/25")
		}, nil},
		{"the LAN is down", func(_ *Tunnel, h *Host) { h.Links[2].Up, h.Links[2].Forward4 = false, false }, nil},
		{"a host on one network", func(x *Tunnel, h *Host) {
			x.Uplinks, h.Forward6 = []string{"lan", "wan"}, false
			h.Links[2].Forward4 = false
		}, nil},
		{"one network, uplink not known", func(x *Tunnel, h *Host) {
			x.Uplinks, h.Links[2].Forward4, h.Links = nil, false, slices.Delete(h.Links, 1, 2)
		}, nil},
		{"the LAN is our bridge", func(x *Tunnel, h *Host) { x.Own, h.Links[2].Forward4 = []string{"lan"}, false }, nil},
		{"strict, and routed elsewhere", func(x *Tunnel, h *Host) {
			h.Links[3].Strict, x.Astray = true, []Astray{{Prefix: netip.MustParsePrefix("10.20.0.0/16"), Link: "lan"}}
		}, []string{"from 10.20.0.0/16 (by lan): rp_filter is strict on office|net.ipv4.conf.office.rp_filter=2"}},
		{"loose, and routed elsewhere", func(x *Tunnel, _ *Host) {
			x.Astray = []Astray{{Prefix: netip.MustParsePrefix("10.20.0.0/16"), Link: "lan"}}
		}, nil},
		{"strict, and routed to us", func(_ *Tunnel, h *Host) { h.Links[3].Strict = true }, nil},
		{"many are routed elsewhere", func(x *Tunnel, h *Host) {
			h.Links[3].Strict, x.Astray = true, slices.Repeat([]Astray{{Prefix: netip.MustParsePrefix("10.20.0.0/16"), Link: "lan"}}, 50)
		}, []string{"and 47 more"}},
		{"the clock is behind", func(x *Tunnel, h *Host) { x.Written = h.Now.Add(24 * time.Hour) }, []string{"2027-01-15 08:00 UTC, which is before office.toml was written|set the clock"}},
		{"the clock is behind the last handshake", func(x *Tunnel, h *Host) { x.Sent = h.Now.Add(24 * time.Hour) },
			[]string{"its last handshake was sent at 2027-01-16 08:00 UTC|set the clock"}},
		{"the clock is a little behind the last handshake", func(x *Tunnel, h *Host) { x.Sent = h.Now.Add(time.Minute) }, nil},
		{"the clock is as good as that of another", func(x *Tunnel, h *Host) { x.Written = h.Now.Add(time.Minute) }, nil},
		{"the clock is in 1970", func(x *Tunnel, h *Host) { x.Written, h.Now = h.Now, time.Unix(60, 0) }, []string{"1970-01-01 00:01 UTC, which is before office.toml was written"}},
		{"the clock is in 1970, and a handshake was sent", func(x *Tunnel, h *Host) { x.Sent, h.Now = h.Now, time.Unix(60, 0) },
			[]string{"1970-01-01 00:01 UTC, and its last handshake was sent at 2027"}},
		{"an address of ours at another link", func(_ *Tunnel, h *Host) {
			h.Links[2].Addrs = append(h.Links[2].Addrs, prefixes("10.9.0.1/32", "fd09::1/128")...)
		}, []string{"10.9.0.1 is an address of office and of lan|another address", "fd09::1 is an address"}},
		{"our network is a part of that of another link", func(_ *Tunnel, h *Host) {
			h.Links[2].Addrs = append(h.Links[2].Addrs, prefixes("10.9.0.77/16")...)
		}, []string{"10.9.0.0/24, the network of office, is also in that of lan (10.9.0.0/16)|10.9.0.1/32"}},
		{"our address alone is in the network of another link", func(_ *Tunnel, h *Host) {
			h.Links[3].Addrs, h.Links[2].Addrs = prefixes("192.168.1.9/32"), prefixes("192.168.1.1/24", "fd01::1/64")
		}, nil},
		{"another link's network is a part of ours", func(_ *Tunnel, h *Host) {
			h.Links[2].Addrs = append(h.Links[2].Addrs, prefixes("10.9.0.129/25")...)
		}, nil},
		{"the other link with our address is down", func(_ *Tunnel, h *Host) {
			h.Links = append(h.Links, Link{Name: "old", Addrs: prefixes("10.9.0.1/24")})
		}, nil},
		{"a part of an allowed IP goes elsewhere", func(x *Tunnel, _ *Host) {
			x.Parts = []Part{{Of: prefixes("10.20.0.0/16")[0], Part: prefixes("10.20.5.0/24")[0], Link: "wan"}}
		}, []string{"10.20.5.0/24, a part of the allowed IP 10.20.0.0/16, is led to wan|ip route show 10.20.5.0/24"}},
		{"a part of an allowed IP is refused", func(x *Tunnel, _ *Host) {
			x.Parts = []Part{{Of: prefixes("10.20.0.0/16")[0], Part: prefixes("10.20.5.0/24")[0], Refused: "blackhole"}}
		}, []string{"10.20.5.0/24, a part of the allowed IP 10.20.0.0/16, is covered by a route of type blackhole|ip route show 10.20.5.0/24"}},
		{"an allowed IP is refused", func(x *Tunnel, h *Host) {
			x.Routed, x.Astray = true, []Astray{{Prefix: prefixes("10.20.0.0/16")[0], Refused: "prohibit"}}
			for i := range h.Links {
				h.Links[i].Up = true
			}
		}, []string{"10.20.0.0/16 is an allowed IP, and a route or rule of type prohibit that is not tund's covers it|ip rule; ip route show 10.20.0.0/16"}},
		{"what comes from the LAN goes elsewhere", func(x *Tunnel, _ *Host) {
			p := prefixes("10.20.0.0/16")[0]
			x.Parts = []Part{{Of: p, Part: p, Link: "wan", From: "lan", Src: netip.MustParseAddr("192.168.1.2")}}
		}, []string{"leads what comes by lan for it to wan|ip route get 10.20.0.1 from 192.168.1.2 iif lan"}},
		{"the table of connections is full", func(_ *Tunnel, h *Host) { h.Tracking = Tracking{65000, 65536} },
			[]string{"is full (65000 of 65536)|nf_conntrack_max=131072"}},
		{"the table of connections has room", func(_ *Tunnel, h *Host) { h.Tracking = Tracking{64000, 65536} }, nil},
		{"connections are not tracked", func(_ *Tunnel, h *Host) { h.Tracking = Tracking{5, 0} }, nil},
		{"a rule against what is forwarded", func(x *Tunnel, _ *Host) { x.Barriers = barrier(7) },
			[]string{"drops what is forwarded between office and other networks (nftables: table inet fw, chain f, handle 7)|iifname office accept"}},
		{"a policy against it", func(x *Tunnel, _ *Host) { x.Barriers = barrier(0) }, []string{"the policy is drop|oifname office accept"}},
		{"a policy against it, and the networks are bridges", func(x *Tunnel, h *Host) { x.Barriers, h.Links[2].Bridge = barrier(0), true }, nil},
		{"a rule against it, and the networks are bridges", func(x *Tunnel, h *Host) { x.Barriers, h.Links[2].Bridge = barrier(7), true }, []string{"handle 7"}},
		{"a policy against it, and peers are hosts", func(x *Tunnel, _ *Host) { x.Barriers, x.Allowed = barrier(0), prefixes("10.20.0.1/32") }, nil},
		{"a policy against it at an exit", func(x *Tunnel, _ *Host) {
			x.Barriers, x.Allowed, x.Forwards = barrier(0), prefixes("10.20.0.1/32"), true
		}, []string{"the policy is drop"}},
		{"the TAP is in its bridge", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br0", true) }, nil},
		{"the TAP is in another bridge", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br1", true) }, []string{"a port of br1|master br0"}},
		{"the TAP is in no bridge", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "", true) }, []string{"of no bridge|master br0"}},
		{"the port is locked", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br0", true); h.link("tap0").Flags.Locked = true },
			[]string{"tap0 of the bridge br0 is locked|bridge link set dev tap0 locked off"}},
		{"the port gets no broadcasts", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br0", true); h.link("tap0").Flags.Unheard = true },
			[]string{"floods no broadcasts to its port tap0|bridge link set dev tap0 bcast_flood on"}},
		{"all ports are isolated", func(x *Tunnel, h *Host) {
			bridgeTAP(x, h, "br0", true)
			h.link("tap0").Flags.Isolated = true
			h.Links = append(h.Links, Link{Name: "eth5", Master: "br0", Flags: PortFlags{Isolated: true}})
		}, []string{"all ports of the bridge br0 are isolated, tap0 too|bridge link set dev tap0 isolated off"}},
		{"some ports are isolated", func(x *Tunnel, h *Host) {
			bridgeTAP(x, h, "br0", true)
			h.link("tap0").Flags.Isolated = true
			h.Links = append(h.Links, Link{Name: "eth5", Master: "br0", Flags: PortFlags{Isolated: true}}, Link{Name: "eth6", Master: "br0"})
		}, nil},
		{"the only port is isolated", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br0", true); h.link("tap0").Flags.Isolated = true }, nil},
		{"the bridge is down", func(x *Tunnel, h *Host) { bridgeTAP(x, h, "br0", false) }, []string{"bridge br0 is down|ip link set br0 up"}},
		{"the bridge is gone", func(x *Tunnel, h *Host) {
			bridgeTAP(x, h, "", true)
			h.Links = h.Links[:len(h.Links)-1]
		}, []string{"bridge br0 is gone|ip link add br0 up type bridge"}},
		{"the port of the TAP is blocked", func(x *Tunnel, h *Host) {
			bridgeTAP(x, h, "br0", true)
			h.link("tap0").State = PortBlocking
		}, []string{"has its port tap0 blocking|bridge link set dev tap0 state 3"}},
		{"a rule against what the bridge passes", func(x *Tunnel, h *Host) {
			bridgeTAP(x, h, "br0", true)
			x.Bridged = barrier(7)
		}, []string{"drops IP packets that br0 passes between its ports|handle 7|bridge-nf-call-iptables=0"}},
		{"the device is gone", func(_ *Tunnel, h *Host) { h.Links = h.Links[:3]; h.Links[2].Forward4 = false }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x, h := gateway()
			c.change(&x, &h)
			got := Find(x, h)
			if len(got) != len(c.want) {
				t.Fatalf("%d findings, want %d: %+v", len(got), len(c.want), got)
			}
			for i, f := range got {
				for _, words := range strings.Split(c.want[i], "|") {
					if !strings.Contains(f.Message+" "+f.Remedy, words) {
						t.Errorf("%q, %q do not say %q", f.Message, f.Remedy, words)
					}
				}
				if f.Remedy == "" || !slices.Contains(Kinds(), f.Kind) {
					t.Errorf("kind %q, remedy %q", f.Kind, f.Remedy)
				}
			}
		})
	}
}

func TestRead_seesLoopback(t *testing.T) {
	t.Parallel()
	h, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	lo := h.link("lo")
	if lo == nil || !lo.Loopback {
		t.Fatalf("links: %+v", h.Links)
	}
	if lo.Up && !slices.ContainsFunc(lo.Addrs, func(p netip.Prefix) bool { return p.Addr().IsLoopback() }) {
		t.Errorf("addresses of lo: %v", lo.Addrs)
	}
}

// The queue of a TAP overflows: that is found while it does, and not because of the odd packet that
// TCP loses.
func TestFind_queueOfADevice(t *testing.T) {
	t.Parallel()
	const dev = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\n  tap0: 100 4 0 7 0 0 0 0 900 5000 0 %d 0 0 0 0\n"
	for lost, want := range map[uint64]bool{40: false, 139: false, 140: true, 5000: true, 10: false} {
		counts := parseDev(fmt.Sprintf(dev, lost))["tap0"]
		if counts != (QueueCounts{Taken: 5000, Lost: lost}) {
			t.Fatalf("read %+v", counts)
		}
		tunnel := Tunnel{Earlier: map[string]QueueCounts{"tap0": {Taken: 1000, Lost: 40}, "gone": {}}}
		got := Find(tunnel, Host{Links: []Link{{Name: "tap0", Queue: counts}}})
		if (len(got) == 1) != want || want && (got[0].Kind != Queue || got[0].Subject != "tap0" || got[0].Remedy == "") {
			t.Errorf("%d lost: %+v, want %v", lost, got, want)
		}
	}
	tunnel := Tunnel{Earlier: map[string]QueueCounts{"tap0": {}}}
	if got := Find(tunnel, Host{Links: []Link{{Name: "tap0", Queue: QueueCounts{Taken: 1_000_000, Lost: 200}}}}); len(got) != 0 {
		t.Errorf("200 of a million lost: %+v", got)
	}
}

func TestRead_seesTheFlagsOfABridgePort(t *testing.T) {
	t.Parallel()
	testnet.Require(t)
	ns := testnet.New(t)
	ns.Run(t, "sh", "-c", "ip link add br0 type bridge && ip link add tap0 type veth peer name other && ip link set tap0 master br0")
	for _, step := range []struct {
		flags string
		want  PortFlags
	}{
		{"", PortFlags{}}, {"isolated on", PortFlags{Isolated: true}}, {"bcast_flood off", PortFlags{Isolated: true, Unheard: true}},
		{"neigh_suppress on", PortFlags{Isolated: true}}, {"isolated off locked on", PortFlags{Locked: true}},
	} {
		if step.flags != "" {
			ns.Run(t, append([]string{"bridge", "link", "set", "dev", "tap0"}, strings.Fields(step.flags)...)...)
		}
		var h Host
		ns.Do(func() { h, _ = Read() })
		if p := h.link("tap0"); p == nil || p.Flags != step.want {
			t.Errorf("after %q: %+v, want %+v", step.flags, p, step.want)
		}
	}
}

func TestRead_seesTheStateOfABridgePort(t *testing.T) {
	t.Parallel()
	testnet.Require(t)
	ns := testnet.New(t)
	for _, command := range []string{
		"link add br0 up type bridge", "link add tap0 type veth peer name other", "link set other up",
		"link set tap0 master br0", "link set tap0 up",
	} {
		ns.Run(t, append([]string{"ip"}, strings.Fields(command)...)...)
	}
	for _, state := range []PortState{PortForwarding, PortDisabled} {
		// A port that has just been connected comes to forward once more.
		testnet.Await(t, "a port that is "+state.String(), 5*time.Second, func() bool {
			ns.Run(t, "bridge", "link", "set", "dev", "tap0", "state", strconv.Itoa(int(state)))
			var h Host
			ns.Do(func() { h, _ = Read() })
			p, br := h.link("tap0"), h.link("br0")
			return p != nil && br != nil && p.Master == "br0" && p.State == state && br.Bridge
		})
	}
}
