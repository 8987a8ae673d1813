package testnet

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestVeth_joinsTwoNamespaces(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	nameA, nameB := Veth(t, a, b, []string{"192.0.2.1/24", "fd00::1/64"}, []string{"192.0.2.2/24", "fd00::2/64"})
	if nameA != "eth0" || nameB != "eth0" {
		t.Errorf("Veth names = %s, %s, want eth0, eth0", nameA, nameB)
	}
	if a.Name() == b.Name() {
		t.Fatalf("two namespaces named %s", a.Name())
	}
	var listener net.Listener
	b.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", "[fd00::2]:0"); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = listener.Close() }()
	a.Do(func() {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
	if list := a.Run(t, "ip", "netns", "list"); !strings.Contains(list, a.Name()) {
		t.Errorf("ip netns list = %q, want %s in it", list, a.Name())
	}
}

func TestSnapshot_showsWhatWasAddedAndNothingAfterItsRemoval(t *testing.T) {
	t.Parallel()
	ns := New(t)
	before := ns.Snapshot()
	ns.Run(t, "ip", "link", "add", "d0", "type", "bridge")
	ns.Run(t, "ip", "link", "set", "d0", "up", "alias", "somebody")
	ns.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "d0")
	ns.Run(t, "ip", "route", "add", "198.51.100.0/24", "dev", "d0", "table", "99", "protocol", "117")
	ns.Run(t, "ip", "-6", "rule", "add", "not", "fwmark", "7", "table", "99")
	during := ns.Snapshot()
	for _, want := range []string{
		"link d0 kind=bridge mtu=1500 up=true master= alias=somebody\n",
		"addr d0 192.0.2.1/24\n",
		"route-4 198.51.100.0/24 dev d0 table 99 proto 117 scope 253\n",
		"fwmark 0x7 lookup 99\n",
		"src_valid_mark 0\n",
	} {
		if !strings.Contains(during, want) {
			t.Errorf("snapshot lacks %q:\n%s", want, during)
		}
	}
	ns.Run(t, "ip", "link", "delete", "d0")
	ns.Run(t, "ip", "-6", "rule", "delete", "not", "fwmark", "7", "table", "99")
	if after := ns.Snapshot(); after != before {
		t.Errorf("after removal\ngot:\n%swant:\n%s", after, before)
	}
}

func TestStart_outputIsSeenAndStopEndsIt(t *testing.T) {
	t.Parallel()
	ns := New(t)
	p := ns.Start(t, "sh", "-c", "echo ready; exec sleep 1000")
	Await(t, "the process prints", 5*time.Second, func() bool { return p.Output() == "ready\n" })
	if err := p.Stop(syscall.SIGTERM, 5*time.Second); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("Stop = %v, want the signal's exit error", err)
	}
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(p.Pid()))); err == nil {
		t.Errorf("process %d is still there", p.Pid())
	}
}

func TestRequire_failsInsteadOfSkippingWhenDemanded(t *testing.T) {
	if missing() == "" {
		Require(t) // neither skips nor fails
		return
	}
	t.Skip("this host lacks what Require asks for: " + missing())
}
