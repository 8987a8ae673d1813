package ethernet

import (
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// A bridge that nobody gave an address has the lowest of its ports' addresses, and hosts keep that
// in their ARP tables: it must not change because tund joins, leaves or starts again. The other
// port has the address of a virtual machine's device, as libvirt gives it, which is high.
func TestBridge_keepsItsAddressWhenTundStarts(t *testing.T) {
	beside(t)
	berlin := newWAN(t).site("berlin")
	vm := berlin.host(1)
	berlin.NS.Run(t, "ip", "link", "set", vm.port, "address", "fe:54:00:12:34:56")
	before := macOf(t, berlin.NS, "br0")
	var first string
	for range 2 {
		berlin.start()
		tap := macOf(t, berlin.NS, "tap0").String()
		if first == "" {
			first = tap
		}
		if tap != first {
			t.Errorf("the TAP has %s after another start, it had %s", tap, first)
		}
		if got := macOf(t, berlin.NS, "br0"); got != before {
			t.Errorf("the bridge has %v when tund runs, it had %v", got, before)
		}
		berlin.Stop()
		if got := macOf(t, berlin.NS, "br0"); got != before {
			t.Errorf("the bridge has %v when tund is gone, it had %v", got, before)
		}
	}
}

// Bridges that have no port but the TAP take its address. No two sites may have the same, not even
// if their instances and devices are called alike.
func TestBridge_sitesOfOneNameHaveAddressesOfTheirOwn(t *testing.T) {
	beside(t)
	w := newWAN(t)
	one, other := w.site("office"), w.site("office")
	one.start()
	other.start()
	var macs [2]string
	testnet.Await(t, "bridges with the addresses of their TAPs", 5*time.Second, func() bool {
		for i, s := range []*site{one, other} {
			macs[i] = macOf(t, s.NS, "br0").String()
			if macs[i] != macOf(t, s.NS, "tap0").String() {
				return false
			}
		}
		return true
	})
	if macs[0] == macs[1] {
		t.Errorf("both bridges have the address %s", macs[0])
	}
}

// What a bridge knows of a host does not keep it there: one that was silent for longer than a
// moment is believed at its new place with its first frame, whether the bridge learned it, or was
// told of it by a routing daemon or by a switch chip.
func TestBridge_silentHostIsBelievedAtItsNewPlace(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	here, there := a.raw(), b.raw()
	const hosts = 4 // of each kind: the machine may be busy when one of them is heard
	kinds := map[string]l2.MAC{"learned": strangerMAC, "told": anotherMAC}
	for kind, first := range kinds {
		for m := first; m < first+hosts<<8; m += 1 << 8 {
			if kind == "told" {
				berlin.NS.Run(t, "bridge", "fdb", "add", m.String(), "dev", a.port, "master", "extern_learn")
			} else {
				here.send(plainFrame(l2.Broadcast, m, "at home"))
			}
			testnet.Await(t, m.String()+" in Berlin", 5*time.Second, func() bool { return berlin.where(m, 0) == "tap0" })
		}
	}
	pause(2100 * time.Millisecond)
	for kind, first := range kinds {
		least := time.Minute
		for m := first; m < first+hosts<<8; m += 1 << 8 {
			began := time.Now()
			there.send(plainFrame(l2.Broadcast, m, "from "+m.String()))
			here.expect("the first frame of "+m.String(), 2*time.Second, holds("from "+m.String()))
			least = min(least, time.Since(began))
		}
		if least > 300*time.Millisecond {
			t.Errorf("the first frames of hosts that the bridge %s were delivered after %v and more", kind, least)
		}
	}
}

// A host that talks only to others on its LAN is not heard at the TAP. The bridge hears it: another
// site cannot take its address, however long it tries. When its port is gone, the address may
// appear elsewhere at once.
func TestBridge_hostThatTheTAPNeverHearsKeepsItsAddress(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	neighbour, quiet := berlin.host(1), berlin.host(2)
	evil := paris.host(3).raw()
	start(t, berlin, paris)
	lan, stop, stopped := quiet.raw(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				lan.send(plainFrame(neighbour.mac, strangerMAC, "to a neighbour"))
			}
		}
	}()
	testnet.Await(t, "the host that only the bridge hears", 5*time.Second, func() bool { return berlin.where(strangerMAC, 0) == "tap0" })
	for began := time.Now(); time.Since(began) < 3500*time.Millisecond; pause(50 * time.Millisecond) {
		evil.send(plainFrame(l2.Broadcast, strangerMAC, "mine now"))
		if at := berlin.where(strangerMAC, 0); at != "tap0" {
			t.Fatalf("after %v the address of a living host is behind %q", time.Since(began), at)
		}
	}
	close(stop)
	<-stopped
	berlin.Says(time.Second, "refused", strangerMAC.String())
	berlin.NS.Run(t, "ip", "link", "delete", quiet.port)
	testnet.Await(t, "the address in Paris", slowly(2*time.Second), func() bool {
		evil.send(plainFrame(l2.Broadcast, strangerMAC, "moved"))
		pause(20 * time.Millisecond)
		return berlin.where(strangerMAC, 0) == "paris"
	})
}
