package netwatch

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
)

// lanLog keeps what FollowBridge tells.
type lanLog struct {
	mu       sync.Mutex // guards everything below
	attached bool
	allVLANs bool
	stations map[string]Station // by MAC and VLAN
	departed map[string]Departure
	answers  chan answer
}

type answer struct {
	Station
	known bool
}

func stationName(st Station) string { return fmt.Sprint(net.HardwareAddr(st.MAC[:]), "/", st.VLAN) }

func (l *lanLog) Attached(all []Station, allVLANs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached, l.allVLANs = true, allVLANs
	clear(l.stations)
	for _, st := range all {
		l.stations[stationName(st)] = st
	}
}

func (l *lanLog) Detached() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached = false
	clear(l.stations)
}

func (l *lanLog) Heard(list []Station) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range list {
		l.stations[stationName(st)] = st
		delete(l.departed, stationName(st))
	}
}

func (l *lanLog) Departed(st Station, why Departure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stations, stationName(st))
	l.departed[stationName(st)] = why
}

func (l *lanLog) Answer(st Station, known bool) { l.answers <- answer{st, known} }

func (l *lanLog) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	testnet.Await(t, what, 30*time.Second, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return cond()
	})
}

func (l *lanLog) awaitStation(t *testing.T, name string, want bool) {
	t.Helper()
	l.await(t, fmt.Sprintf("station %s: %v", name, want), func() bool {
		_, ok := l.stations[name]
		return ok == want
	})
}

// followBridge runs FollowBridge for the port in ns.
func followBridge(t *testing.T, ns *testnet.NS, port string) (*lanLog, chan<- BridgeRequest) {
	t.Helper()
	l := &lanLog{stations: map[string]Station{}, departed: map[string]Departure{}, answers: make(chan answer, 1)}
	requests := make(chan BridgeRequest)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ns.Do(func() {
			if err := FollowBridge(ctx, port, l, requests); err != nil {
				t.Error(err)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l, requests
}

// bridgeWorld is a bridge with the ports p0, which is followed, and p1; the frames of the hosts
// behind them are sent into q0 and q1.
func bridgeWorld(t *testing.T) *testnet.NS {
	t.Helper()
	ns := testnet.New(t)
	ns.Run(t, "ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
	ns.Run(t, "ip", "link", "set", "br0", "up")
	for _, i := range []string{"0", "1"} {
		ns.Run(t, "ip", "link", "add", "p"+i, "type", "veth", "peer", "name", "q"+i)
		ns.Run(t, "ip", "link", "set", "p"+i, "up", "master", "br0")
		ns.Run(t, "ip", "link", "set", "q"+i, "up")
	}
	for _, port := range []string{"p0", "p1"} { // until then the bridge learns nothing there
		testnet.Await(t, port+" forwards", 10*time.Second, func() bool {
			return strings.Contains(ns.Run(t, "bridge", "link", "show", "dev", port), "state forwarding")
		})
	}
	return ns
}

// speak sends a broadcast from mac into a link, as a host behind it does.
func speak(t *testing.T, ns *testnet.NS, link, mac string) {
	t.Helper()
	ns.Run(t, "ip", "link", "set", link, "address", mac)
	ns.Run(t, "ip", "neighbour", "replace", "192.0.2.1", "lladdr", "ff:ff:ff:ff:ff:ff", "dev", link)
	_, _ = ns.Try("ip", "route", "replace", "192.0.2.1", "dev", link)
	_, _ = ns.Try("ping", "-c1", "-W1", "-q", "-I", link, "192.0.2.1")
}

func TestFollowBridge_hostsComeMoveAndGo(t *testing.T) {
	t.Parallel()
	ns := bridgeWorld(t)
	const early, late, mobile, fixed = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"
	ns.Run(t, "bridge", "fdb", "add", early, "dev", "p1", "master", "dynamic")
	ns.Run(t, "bridge", "fdb", "add", fixed, "dev", "p1", "master", "static")
	l, requests := followBridge(t, ns, "p0")
	l.awaitStation(t, early+"/0", true)
	l.mu.Lock()
	if st := l.stations[fixed+"/0"]; !st.Fixed || l.stations[early+"/0"].Fixed || !l.allVLANs {
		t.Errorf("fixed: %+v, learned: %+v, all VLANs: %v", st, l.stations[early+"/0"], l.allVLANs)
	}
	l.mu.Unlock()
	own := ns.Run(t, "cat", "/sys/class/net/p0/address")
	l.mu.Lock()
	if st, ok := l.stations[strings.TrimSpace(own)+"/0"]; !ok || !st.Fixed {
		t.Errorf("the followed port's own address: %+v", st)
	}
	l.mu.Unlock()
	ns.Run(t, "bridge", "fdb", "add", late, "dev", "p1", "master", "dynamic")
	l.awaitStation(t, late+"/0", true)
	ns.Run(t, "bridge", "fdb", "add", mobile, "dev", "p1", "master", "dynamic")
	l.awaitStation(t, mobile+"/0", true)
	ns.Run(t, "bridge", "fdb", "replace", mobile, "dev", "p0", "master", "dynamic")
	l.await(t, "the move to the followed port", func() bool { why, ok := l.departed[mobile+"/0"]; return ok && why == Moved })
	ns.Run(t, "bridge", "fdb", "del", late, "dev", "p1", "master")
	l.await(t, "the deletion", func() bool { why, ok := l.departed[late+"/0"]; return ok && why == Removed })

	ask := func(mac string) answer {
		hw, _ := net.ParseMAC(mac)
		requests <- BridgeRequest{Ask: &Station{MAC: [6]byte(hw)}}
		return <-l.answers
	}
	if a := ask(early); !a.known || a.Idle > time.Minute {
		t.Errorf("asked for a station: %+v", a)
	}
	if a := ask(late); a.known {
		t.Errorf("asked for a MAC that the bridge does not know: %+v", a)
	}
	if a := ask(mobile); a.known {
		t.Errorf("asked for a MAC at the followed port: %+v", a)
	}
	requests <- BridgeRequest{Flush: true}
	testnet.Await(t, "the flush of the followed port", 5*time.Second, func() bool {
		return !strings.Contains(ns.Run(t, "bridge", "fdb", "show", "dev", "p0"), mobile)
	})
	ns.Run(t, "ip", "link", "set", "p1", "down")
	l.await(t, "the end of the port", func() bool { why, ok := l.departed[early+"/0"]; return ok && why == Removed })
	l.awaitStation(t, fixed+"/0", true) // what somebody made to stay stays
}

func TestFollowBridge_joinsAndLeavesAtRunTime(t *testing.T) {
	t.Parallel()
	ns := bridgeWorld(t)
	const host = "02:00:00:00:00:01"
	ns.Run(t, "ip", "link", "set", "p0", "nomaster")
	ns.Run(t, "bridge", "fdb", "add", host, "dev", "p1", "master", "dynamic")
	l, _ := followBridge(t, ns, "p0")
	for range 2 {
		ns.Run(t, "ip", "link", "set", "p0", "master", "br0")
		l.awaitStation(t, host+"/0", true)
		ns.Run(t, "ip", "link", "set", "p0", "nomaster")
		l.await(t, "no bridge", func() bool { return !l.attached && len(l.stations) == 0 })
	}
	ns.Run(t, "ip", "link", "set", "p0", "master", "br0")
	l.awaitStation(t, host+"/0", true)
	ns.Run(t, "ip", "link", "delete", "br0")
	l.await(t, "no bridge", func() bool { return !l.attached })
}

// A bridge that has lost a host for silence is told apart from one that has removed it.
func TestFollowBridge_silenceIsNoRemoval(t *testing.T) {
	t.Parallel()
	ns := bridgeWorld(t)
	ns.Run(t, "ip", "link", "set", "br0", "type", "bridge", "ageing_time", "100") // one second
	l, _ := followBridge(t, ns, "p0")
	l.await(t, "the bridge", func() bool { return l.attached })
	const host = "02:00:00:00:00:01"
	speak(t, ns, "q1", host)
	l.awaitStation(t, host+"/0", true)
	l.await(t, "ageing", func() bool { why, ok := l.departed[host+"/0"]; return ok && why == Aged })
}

// A full table of tund's own size is read at once.
func TestFollowBridge_sixteenThousandHosts(t *testing.T) {
	t.Parallel()
	ns := bridgeWorld(t)
	var batch strings.Builder
	const hosts = 16384
	for i := range hosts {
		fmt.Fprintf(&batch, "fdb add 02:00:00:01:%02x:%02x dev p1 master dynamic\n", i>>8, i&255)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l, _ := followBridge(t, ns, "p0")
	l.await(t, "the bridge", func() bool { return l.attached })
	// While they come, the kernel may drop notices; then everything is read again.
	ns.Run(t, "bridge", "-batch", file)
	l.await(t, "all hosts", func() bool { return len(l.stations) >= hosts })

	start := time.Now()
	again, _ := followBridge(t, ns, "p0")
	again.await(t, "all hosts at the start", func() bool { return len(again.stations) >= hosts })
	t.Logf("read %d hosts in %v", hosts, time.Since(start).Round(time.Millisecond))
}

func TestParseFDB_ignoresWhatIsNotABridgesEntry(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, make([]byte, sizeofNdmsg-1), make([]byte, sizeofNdmsg), append([]byte{7}, make([]byte, 64)...)} {
		if e, ok := parseFDB(b); ok {
			t.Errorf("%x: %+v", b, e)
		}
	}
}

func TestPortVLANs_translate(t *testing.T) {
	t.Parallel()
	v := portVLANs{filtering: true, untagged: 1}
	v.add(1)
	v.add(10)
	for _, c := range []struct {
		vlan, outside uint16
		ok            bool
	}{{1, 0, true}, {10, 10, true}, {20, 20, false}, {4095, 4095, false}} {
		if got, ok := v.outside(c.vlan); got != c.outside || ok != c.ok {
			t.Errorf("VLAN %d is %d, %v at the port", c.vlan, got, ok)
		} else if ok && v.inside(got) != c.vlan {
			t.Errorf("VLAN %d of the port is %d on the bridge", got, v.inside(got))
		}
	}
	plain := portVLANs{}
	if got, ok := plain.outside(0); got != 0 || !ok || plain.inside(10) != 0 {
		t.Error("a bridge without VLAN filtering has one entry for all VLANs")
	}
}
