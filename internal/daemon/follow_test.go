package daemon

import (
	"strings"
	"testing"
	"time"
)

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

// TestLoop_intoTheTunnelItself covers the routing loop that arises when an allowed IP contains the
// network of the peer's own endpoint.
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
