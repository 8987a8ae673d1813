package hostcheck

import (
	"net/netip"
	"strings"
	"testing"

	"tund/internal/testnet"
)

func TestFind_exitWithoutTranslation(t *testing.T) {
	t.Parallel()
	x, h := gateway()
	x.Outward = &Outward{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("9.9.9.9"), "wan"}
	got := Find(x, h)
	if len(got) != 1 || got[0].Kind != Masquerade || !strings.Contains(got[0].Message, "10.9.0.2 to 9.9.9.9 by wan") || !strings.HasPrefix(got[0].Remedy, "masquerade = true") {
		t.Errorf("%+v", got)
	}
}

func TestFind_strictFilterOnASecondUplink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Tunnel, *Host)
		want   bool
	}{
		{"packets are dropped", func(*Tunnel, *Host) {}, true},
		{"every peer is up", func(x *Tunnel, _ *Host) { x.Waiting = false }, false},
		{"nothing is dropped", func(_ *Tunnel, h *Host) { h.ReversePathDrops = 7 }, false},
		{"the filter is loose", func(_ *Tunnel, h *Host) { h.Links[2].Strict = false }, false},
		{"peers are reached by it", func(x *Tunnel, _ *Host) { x.Uplinks = []string{"lan"} }, false},
	} {
		x, h := gateway()
		x.Waiting, x.EarlierDrops, h.ReversePathDrops, h.Links[2].Strict = true, 7, 9, true
		c.change(&x, &h)
		got := Find(x, h)
		if (len(got) == 1 && strings.Contains(got[0].Remedy, "net.ipv4.conf.lan.rp_filter=2") && strings.Contains(got[0].Message, "dropped 2 packets")) != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestParseReversePath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		"TcpExt: A IPReversePathFilter B\nTcpExt: 1 42 3\nIpExt: A\nIpExt: 9\n": 42,
		"TcpExt: A B\nTcpExt: 1 2\n":                 0,
		"TcpExt: A IPReversePathFilter\nTcpExt: 1\n": 0,
		"": 0,
	} {
		if got := parseReversePath(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestTranslates(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	src := netip.MustParseAddr("10.9.0.2")
	for _, c := range []struct {
		rules string
		want  bool
	}{
		{"", false},
		{"masquerade", true},
		{"oifname eth0 masquerade", true},
		{"ip saddr 10.9.0.0/24 masquerade", true},
		{"ip saddr 10.9.0.2 snat to 192.0.2.1", true},
		{"ip saddr 10.9.0.0/27 snat to 192.0.2.1", true},
		{"ip saddr 172.17.0.0/16 oifname != docker0 masquerade", false}, // Docker's
		{"ip saddr != 10.0.0.0/8 masquerade", false},
		{"accept", false},
	} {
		script := "nft flush ruleset"
		if c.rules != "" {
			script += " && nft add table ip n && nft add chain ip n post '{ type nat hook postrouting priority 100; }' && nft add rule ip n post '" + c.rules + "'"
		}
		ns.Run(t, "sh", "-c", script)
		ns.Do(func() {
			if got, err := Translates(src); err != nil || got != c.want {
				t.Errorf("%q: %t, %v, want %t", c.rules, got, err, c.want)
			}
		})
	}
}
