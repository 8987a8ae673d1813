package daemon

import (
	"strings"
	"testing"

	"tund/internal/acquire"
)

// dualStack is a configuration of which the kernel can refuse individual parts.
const dualStack = `
[tun]
device = "DEVICE"
address = ["10.9.0.1/24", "fd09::1/64"]
[[peer]]
public_key = "` + berlinKey + `"
endpoint = "192.0.2.2:51820"
allowed_ips = ["10.20.0.0/16", "10.30.0.0/16", "fd20::/48"]
`

// TestStart_whatTheKernelRefusesIsAWarning starts an instance although the kernel refuses a part of
// its configuration, as a reload would continue. The rest works, and the part is added as soon as
// the kernel accepts it.
func TestStart_whatTheKernelRefusesIsAWarning(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip link add taken type veth peer name taken1")
	for _, test := range []struct{ what, before, file, warning, mend, missing string }{
		{
			what: "a route of somebody else", before: "ip route add 10.30.0.0/16 dev up0",
			warning: "another route is there already: see `ip route show 10.30.0.0/16 table main`",
			mend:    "ip route delete 10.30.0.0/16 dev up0", missing: "10.30.0.0/16",
		},
		{
			what: "IPv6 switched off", before: "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
			warning: "sysctl net.ipv6.conf." + device() + ".disable_ipv6=0",
			mend:    "sysctl -qw net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf." + device() + ".disable_ipv6=0",
			missing: "fd20::/48",
		},
		{
			what: "a bridge that is none", before: "true", file: "[tap]\ndevice = \"DEVICEt\"\nbridge = \"taken\"\n",
			warning: "taken must be one: see `ip -d link show taken`",
			mend:    "ip link delete taken", missing: device() + "t",
		},
	} {
		sh(t, "%s", test.before)
		n := newInstance(t, dualStack+test.file)
		n.start()
		if text := strings.Join(n.warned("network"), "\n"); !strings.Contains(text, test.warning) {
			t.Errorf("%s: warnings %q, want %q", test.what, text, test.warning)
		}
		there := func() string {
			return sh(t, "{ ip route show proto 117; ip -6 route show proto 117; } | grep -v ^unreachable; "+
				"ip link show master taken 2>&1 || true")
		}
		if routes := there(); !strings.Contains(routes, "10.20.0.0/16") || strings.Contains(routes, test.missing) {
			t.Errorf("%s: routes\n%swant all but %s", test.what, routes, test.missing)
		}
		sh(t, "%s", test.mend)
		n.await(test.what+": mended", func() bool {
			return len(n.warned("network")) == 0 && strings.Contains(there(), test.missing)
		})
		n.stop()
	}
}

// TestNetwork_ofTheHostIsNotLedIntoTheTunnel covers an allowed IP that equals the network of a LAN.
// Whichever came first, the LAN keeps its route, and status reports that.
func TestNetwork_ofTheHostIsNotLedIntoTheTunnel(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip link add lan0 type veth peer name lan1 && ip link set lan1 up")
	const lan = "ip link set lan0 up && ip address add 10.20.0.1/16 dev lan0"
	n := newInstance(t, dualStack)
	n.start()
	leadsTo := func(dev string) bool {
		out, err := tryRoute("10.20.7.7")
		return err == nil && strings.Contains(out, "dev "+dev+" ")
	}
	says := func() bool {
		return strings.Contains(strings.Join(n.warned("network"), "\n"), "10.20.0.0/16 is an allowed IP and also the network of lan0")
	}
	if !leadsTo(device()) || says() {
		t.Errorf("before the LAN: warnings %q, want the route and none", n.warned("network"))
	}
	sh(t, lan)
	n.await("the LAN has its network", func() bool { return leadsTo("lan0") && says() })
	sh(t, "ip link set lan0 down")
	n.await("the tunnel has the network while the LAN is down", func() bool { return leadsTo(device()) && !says() })
	sh(t, "ip link set lan0 up")
	n.await("the LAN has its network again", func() bool { return leadsTo("lan0") && says() })
	n.stop()
	n.start()
	if !leadsTo("lan0") || !says() {
		t.Errorf("after a start with the LAN there: warnings %q", n.warned("network"))
	}
	sh(t, "ip address delete 10.20.0.1/16 dev lan0")
	n.await("the tunnel has the network", func() bool { return leadsTo(device()) && !says() })
	n.stop()
}

func TestStart_aPortIsNotSharedByAccident(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const lanes = "lanes = 2\n[tun]\ndevice = \"DEVICE\"\n"
	n := newInstance(t, "listen_port = 51820\n"+lanes)
	n.start()
	defer n.stop()
	for _, port := range []string{"51820", "0"} {
		conns, err := acquire.Sockets(n.d.config, 51820, 0)
		if err == nil || !strings.Contains(err.Error(), "another program has it, see `ss -lunp 'sport = :51820'`") {
			t.Errorf("port %s: %v, want a refusal with a next step", port, err)
		}
		if err := acquire.CloseSockets(conns); err != nil {
			t.Error(err)
		}
	}
	conns, err := acquire.Sockets(n.d.config, 0, 0)
	if err != nil || len(conns) != 2 || conns[0].Port() != conns[1].Port() || conns[0].Port() == 51820 {
		t.Errorf("two lanes on any port: %v, %v", conns, err)
	}
	if err := acquire.CloseSockets(conns); err != nil {
		t.Error(err)
	}
}
