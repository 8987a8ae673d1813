package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/acquire"
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
	sh(t, "ip link add br-jumbo type bridge && ip link set br-jumbo mtu 4000 up && ip link add br-empty type bridge && "+
		"ip link add br-lan type bridge && ip link add port0 type veth peer name port1 && ip link set port0 master br-lan")
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
		// A bridge follows the smallest of its ports, unless somebody has given it an MTU.
		{"", "", "mtu = 1400\nbridge = \"br-jumbo\"", "ip link show dev " + dev + "t", "mtu 1400"},
		{"", "", `bridge = "br-jumbo"`, "ip link show dev " + dev + "t", "mtu 4000"},
		{"", "", "mtu = 1400\nbridge = \"br-lan\"", "ip link show dev br-lan", "mtu 1400"},
		{"", "", `bridge = "br-lan"`, "ip link show dev " + dev + "t", "mtu 1500"},
		{"", "", `bridge = "br-lan"`, "ip link show dev br-lan", "mtu 1500"},
		{"", "", "mtu = 9000\nbridge = \"br-empty\"", "ip link show dev br-empty", "mtu 9000"},
		{"", "", `bridge = "br-empty"`, "ip link show dev " + dev + "t", "mtu 1500"},
		{"", "", "mtu = 1400\nbridge = \"br-n\"", "ip link show dev br-n", "mtu 1400"},
		{"", "", `bridge = "br-n"`, "ip link show dev br-n", "mtu 1500"},
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
	conns, err := acquire.Sockets(n.d.config, 1235, 0) // another program
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = acquire.CloseSockets(conns) }()
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

// A name whose answer comes while a reload gives its peer other endpoints changes nothing any more.
func TestReload_aLateAnswerDoesNotBringOldEndpointsBack(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const file = "[tun]\ndevice = \"DEVICE\"\n" + onePeer
	n := newInstance(t, strings.Replace(file, `"192.0.2.2:51820"`, `["192.0.2.9:1", "localhost:2"]`, 1))
	n.start()
	defer n.stop()
	late := n.d.config.Peers[0]
	if err := n.reloads(file); err != nil {
		t.Fatal(err)
	}
	n.d.resolved(late)
	if at := n.d.tunnel.Endpoint(late.PublicKey).String(); at != "192.0.2.2:51820" {
		t.Errorf("the peer is looked for at %s, want the endpoint of the file", at)
	}
}
