package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
)

const onePeer = `
[[peer]]
name = "berlin"
public_key = "` + berlinKey + `"
endpoint = "192.0.2.2:51820"
allowed_ips = ["10.20.0.0/16"]
`

func TestReload_changesTheKernel(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip link add br-jumbo type bridge && ip link set br-jumbo mtu 4000 up")
	const file = "%s\n[tun]\ndevice = \"DEVICE\"\n%s\n[tap]\ndevice = \"DEVICEt\"\n%s\n" + onePeer
	n := newInstance(t, fmt.Sprintf(file, "", "", ""))
	n.start()
	defer n.stop()
	dev := device()
	for _, test := range []struct {
		tunnel, tun, tap string
		command, want    string // want is in what the command prints; "!" before it: is not
	}{
		{"", `address = ["10.9.0.1/24"]`, "", "ip address show dev " + dev, "inet 10.9.0.1/24"},
		{"", `address = ["10.9.0.2/24"]`, "", "ip address show dev " + dev, "!10.9.0.1"},
		{"", "mtu = 1300", "", "ip link show dev " + dev, "mtu 1300"},
		{"", "", "", "ip link show dev " + dev, "mtu 1420"},
		{"", "metric = 77", "", "ip route show 10.20.0.0/16", "metric 77"},
		{"", "table = 99", "", "ip route show 10.20.0.0/16 table 99", dev},
		{"", "table = 99", "", "ip route show", "!10.20.0.0/16"},
		{"", `routes = "off"`, "", "ip route show table all", "!10.20.0.0/16"},
		{"", "", "mtu = 1400", "ip link show dev " + dev + "t", "mtu 1400"},
		{"", "", `address = ["10.8.0.1/24"]`, "ip address show dev " + dev + "t", "inet 10.8.0.1/24"},
		{"", "", `bridge = "br-n"`, "ip link show dev " + dev + "t", "master br-n"},
		{"", "", `bridge = "br-jumbo"`, "ip link show dev " + dev + "t", "mtu 4000"},
		{"", "", `bridge = "br-jumbo"`, "ip link show", "!br-n"},
		{"", "", "", "ip link show dev " + dev + "t", "!master"},
		{"listen_port = 1234", "", "", "ss -lun", ":1234 "},
		{"listen_port = 1235", "", "", "ss -lun", "!:1234 "},
	} {
		if err := n.reloads(fmt.Sprintf(file, test.tunnel, test.tun, test.tap)); err != nil {
			t.Errorf("%s %s %s: %v", test.tunnel, test.tun, test.tap, err)
		}
		want, no := strings.CutPrefix(test.want, "!")
		out := ""
		for range 200 { // the descriptor of an old socket is closed by the loop that wakes up in it
			if out = sh(t, "%s", test.command); strings.Contains(out, want) != no {
				break
			}
			<-time.After(5 * time.Millisecond)
		}
		if strings.Contains(out, want) == no {
			t.Errorf("%s %s %s: %s says\n%swant %q", test.tunnel, test.tun, test.tap, test.command, out, test.want)
		}
	}
	if s := n.status(); s.ListenPort != 1235 || len(s.Warnings) != 0 || s.ConfigError != "" {
		t.Errorf("port %d, warnings %v, error %q", s.ListenPort, s.Warnings, s.ConfigError)
	}
}

func TestReload_refusedChangesNothingAndIsSeen(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const file = "listen_port = 1234\n%s[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\"]\n" + onePeer
	n := newInstance(t, fmt.Sprintf(file, ""))
	n.start()
	defer n.stop()
	conns, err := openConns(n.d.config, 1235, 0) // another program
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeConns(conns) }()
	before := kernelState(t)
	good := fmt.Sprintf(file, "")
	for _, test := range []struct{ what, file, want string }{
		{"a fault", good + "keepalife = 1\n", `unknown key "keepalife"`},
		{"a key that needs a restart", strings.Replace(good, "listen_port", "offload = \"off\"\nlanes = 7\nlisten_port", 1),
			"tunnel.offload changed: restart the instance to apply it"},
		{"several of them", strings.Replace(good, "listen_port", "offload = \"off\"\nlanes = 7\nlisten_port", 1), "tunnel.lanes changed"},
		{"a port that is taken", strings.Replace(strings.Replace(good, "1234", "1235", 1), "10.9.0.1", "10.9.0.2", 1),
			"tunnel: listen_port: bind udp port 1235: address already in use: another program has it"},
	} {
		err := n.reloads(test.file)
		var refused *control.Error
		if !errors.As(err, &refused) || refused.Code != control.CodeConfig || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
		if now := kernelState(t); now != before {
			t.Errorf("%s: the kernel has\n%swant\n%s", test.what, now, before)
		}
		if s := n.status(); !strings.Contains(s.ConfigError, test.want) || s.ListenPort != 1234 {
			t.Errorf("%s: status says %q, port %d", test.what, s.ConfigError, s.ListenPort)
		}
	}
	if err := n.reloads(good); err != nil {
		t.Fatal(err)
	}
	if s := n.status(); s.ConfigError != "" {
		t.Errorf("after a good one: %q", s.ConfigError)
	}
}

func TestReload_saysWhatTheKernelRefusedAndTriesAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const file = "[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\"]\n" + onePeer
	n := newInstance(t, file)
	n.start()
	defer n.stop()
	sh(t, "ip route add 10.30.0.0/16 dev up0")
	err := n.reloads(strings.Replace(file, `"10.20.0.0/16"`, `"10.30.0.0/16", "10.31.0.0/16"`, 1))
	var answer *control.Error
	if !errors.As(err, &answer) || answer.Code != control.CodeInternal || !strings.Contains(err.Error(), "the new configuration is in force") ||
		!strings.Contains(err.Error(), "add route 10.30.0.0/16 dev "+device()+": file exists") {
		t.Errorf("reload: %v", err)
	}
	if out := sh(t, "ip route show"); !strings.Contains(out, "10.31.0.0/16 dev "+device()) || strings.Contains(out, "10.20.0.0/16") {
		t.Errorf("the rest was not done:\n%s", out)
	}
	if w := n.warned("network"); len(w) != 1 || !strings.Contains(w[0], "10.30.0.0/16") || n.status().ConfigError != "" {
		t.Errorf("warnings %q, error %q", w, n.status().ConfigError)
	}
	sh(t, "ip route delete 10.30.0.0/16 dev up0")
	n.await("route made after the other has gone", func() bool {
		return strings.Contains(sh(t, "ip route show 10.30.0.0/16"), device()) && len(n.warned("network")) == 0
	})
}

func TestFollow_linksAndPaths(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, "[tun]\ndevice = \"DEVICE\"\n[tap]\ndevice = \"DEVICEt\"\n"+onePeer)
	n.start()
	defer n.stop()
	mtu := func(i int) int { return n.status().Devices[i].MTU }
	if mtu(0) != 1420 || mtu(1) != 1500 || n.status().Peers[0].PathMTU != 1500 {
		t.Errorf("MTU %d and %d, path MTU %d; want 1420, 1500, 1500", mtu(0), mtu(1), n.status().Peers[0].PathMTU)
	}
	sh(t, "ip link set up0 mtu 1400")
	n.await("path MTU 1400", func() bool {
		return mtu(0) == 1320 && n.status().Peers[0].PathMTU == 1400 && strings.Contains(sh(t, "ip link show %s", device()), "mtu 1320")
	})
	sh(t, "ip link set %s mtu 1290 && ip link set %st mtu 1400", device(), device())
	n.await("what an operator sets", func() bool { return mtu(0) == 1290 && mtu(1) == 1400 })
	up := func(i int) bool { return n.status().Devices[i].Up }
	sh(t, "ip link set %s down", device())
	n.await("one device down", func() bool { return !up(0) && up(1) })
	sh(t, "ip link set %st down", device())
	n.await("both down", func() bool { return !up(0) && !up(1) })
	sh(t, "ip link set %s up", device())
	n.await("one up again, with its route", func() bool {
		return up(0) && strings.Contains(sh(t, "ip route show 10.20.0.0/16"), device())
	})
}

func TestWatch_putsBackWhatSomebodyRemoves(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, everything)
	n.start()
	defer n.stop()
	before := kernelState(t)
	sh(t, "ip route flush proto 117 table all; ip rule delete priority 31171; nft flush ruleset; ip address delete 10.9.0.1/24 dev %s", device())
	n.await("all of it back", func() bool { return kernelState(t) == before })
	if n.logs.FilterMessageSnippet("somebody removed what is ours").Len() == 0 {
		t.Errorf("not a word about it:\n%s", n.log())
	}
	if w := n.warned("network"); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

// TestLoop_intoTheTunnelItself is the routing loop of somebody who writes the peer's own network into its allowed IPs.
func TestLoop_intoTheTunnelItself(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, "[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\"]\n"+
		strings.Replace(strings.Replace(onePeer, "10.20.0.0/16", "203.0.113.0/24", 1), "192.0.2.2", "203.0.113.9", 1))
	n.start()
	defer n.stop()
	n.await("a word about it", func() bool { return len(n.warned("routing-loop")) == 1 })
	want := "endpoint 203.0.113.9:51820 is reached through the tunnel itself: see `ip route get 203.0.113.9`; leave the endpoint out of the peer's allowed_ips"
	if w := n.warned("routing-loop"); !strings.Contains(w[0], want) {
		t.Errorf("warning %q, want %q", w, want)
	}
	if w := n.warned("config"); len(w) != 1 || !strings.Contains(w[0], "is inside the peer's own allowed IP") {
		t.Errorf("warnings of the configuration %q", w)
	}
	sent := func() uint64 { return n.status().Devices[0].TxPackets }
	sh(t, "ping -c 20 -i 0.02 -W 1 203.0.113.9 >/dev/null || true")
	n.await("last error", func() bool { return strings.Contains(n.status().Peers[0].LastError, "through the tunnel itself") })
	start := sent()
	<-time.After(time.Second)
	if more := sent() - start; more > 10 {
		t.Errorf("%d packets in a second after the pings: they go round", more)
	}
	if drops := n.status().Drops["routing-loop"]; drops == 0 || drops > 20 {
		t.Errorf("routing-loop counted %d times", drops)
	}
	if n.status().Devices[0].Drops["routing-loop"] == 0 {
		t.Error("not counted at the device")
	}
	sh(t, "ip route add 203.0.113.9 via 192.0.2.2 dev up0") // a longer route leads out
	n.await("all well", func() bool { return len(n.warned("routing-loop")) == 0 })
}

func TestStatus_isComplete(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip route delete default") // no name server is reached, and that is known at once
	n := newInstance(t, "udp_offload = \"off\"\n[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\"]\n"+onePeer+
		"[[peer]]\nname = \"paris\"\npublic_key = \""+parisKey+"\"\nendpoint = \"paris.invalid:1\"\nallowed_ips = [\"10.40.0.0/16\"]\n")
	n.start()
	defer n.stop()
	s := n.status()
	if got := strings.Join(s.Underlay, " "); got != "ipv6" {
		t.Errorf("underlay %q with udp_offload = off, want IPv6 alone", got)
	}
	if len(s.Devices) != 1 || !s.Devices[0].Up || s.Devices[0].Kind != "tun" || s.Devices[0].Queues != s.Lanes || s.Devices[0].Drops == nil {
		t.Errorf("device %+v", s.Devices)
	}
	n.await("a name that does not resolve", func() bool {
		p, w := n.status().Peers[1], n.warned("dns")
		return len(w) == 1 && strings.HasPrefix(w[0], "endpoint paris.invalid does not resolve: ") && p.LastError == w[0] && p.State == control.StateDown
	})
	sh(t, "ping -c 1 -W 1 10.9.0.7 >/dev/null || true")
	n.await("drops of the device", func() bool { return n.status().Devices[0].Drops["no-peer"] > 0 })
}
