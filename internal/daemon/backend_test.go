package daemon

import (
	"strings"
	"testing"

	"tund/internal/control"
)

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
