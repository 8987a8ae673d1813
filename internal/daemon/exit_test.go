package daemon

import (
	"strings"
	"testing"

	"tund/route"
)

// exitConfig is an exit with one client.
const exitConfig = "[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\", \"fd09::1/64\"]\nforward = true\nmasquerade = true\n" +
	"[[peer]]\npublic_key = \"" + berlinKey + "\"\nallowed_ips = [\"10.9.0.2/32\", \"fd09::2/128\"]\n"

// TestExit_isRestored: what an exit sets in the kernel is there while it runs, and gone after a
// stop, after a reload that does without, and after a crash and the next start, or --cleanup.
func TestExit_isRestored(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	before := kernelState(t)
	same := func(when string) {
		t.Helper()
		if after := kernelState(t); after != before {
			t.Errorf("%s: the kernel has\n%swant\n%s", when, after, before)
		}
	}
	set := func(when string, want bool) {
		t.Helper()
		state := kernelState(t)
		for _, part := range []string{"ipv4/ip_forward:1", "ipv6/conf/all/forwarding:1", "iifname \"" + device() + "\" oifname != \"" + device() + "\"", "masquerade"} {
			if strings.Contains(state, part) != want {
				t.Errorf("%s: %q there: %t, want %t", when, part, !want, want)
			}
		}
	}
	without := strings.NewReplacer("forward = true", "", "masquerade = true", "").Replace(exitConfig)

	n := newInstance(t, exitConfig)
	n.start()
	set("started", true)
	if err := n.reloads(without); err != nil {
		t.Error(err)
	}
	set("reloaded without", false)
	if err := n.reloads(exitConfig); err != nil {
		t.Error(err)
	}
	set("reloaded with", true)
	n.stop()
	same("stopped")

	// What a killed instance leaves is what this manager does not take away.
	crash := func() {
		t.Helper()
		n.start()
		sh(t, "ip link delete %s", device())
		_ = n.ended()
		n.cancel()
		sh(t, "sysctl -qw net.ipv4.ip_forward=1 && nft add table inet tund-office && nft add chain inet tund-office restore_ip_forward")
	}
	crash()
	n.write(without)
	n.start()
	n.stop()
	same("after a crash, a start and a stop")
	n.write(exitConfig)
	crash()
	if _, err := route.Cleanup("office"); err != nil {
		t.Error(err)
	}
	same("after a crash and --cleanup")
}

// TestExit_keepsTheDefaultRouteFromRouterAdvertisements: a host that begins to forward drops the
// default routes that it has from router advertisements, on links that do not accept them then.
func TestExit_keepsTheDefaultRouteFromRouterAdvertisements(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	sh(t, "ip -6 address add 2001:db8::1/64 dev up0 nodad && sysctl -qw net.ipv6.conf.up0.accept_ra=1 && "+
		"ip -6 route add default via 2001:db8::2 dev up0 proto ra")
	accepts := func() string {
		return strings.TrimSpace(sh(t, "cat /proc/sys/net/ipv6/conf/up0/accept_ra"))
	}
	n := newInstance(t, exitConfig)
	n.start()
	if got := accepts(); got != "2" {
		t.Errorf("accept_ra is %s while the host forwards, want 2", got)
	}
	n.stop()
	if got := accepts(); got != "1" {
		t.Errorf("accept_ra is %s afterwards, want 1", got)
	}
}
