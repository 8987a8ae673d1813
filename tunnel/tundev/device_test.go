package tundev

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// openIn opens a device inside ns and closes it at the end of the test.
func openIn(t testing.TB, ns *testnet.NS, o Options) *Device {
	t.Helper()
	var d *Device
	var err error
	ns.Do(func() { d, err = Open(o) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// up brings the link up with an address and without IPv6 chatter.
func up(t testing.TB, ns *testnet.NS, name, addr string) {
	t.Helper()
	_, _ = ns.Try("sysctl", "-qw", "net.ipv6.conf."+name+".disable_ipv6=1")
	ns.Run(t, "ip", "address", "add", addr, "dev", name)
	ns.Run(t, "ip", "link", "set", name, "up")
}

// both runs a test on both backends.
func both(t *testing.T, f func(t *testing.T, offload bool)) {
	t.Run("offload", func(t *testing.T) { f(t, true) })
	t.Run("plain", func(t *testing.T) { f(t, false) })
}

func TestDevice_hasTheAddressThatWasAskedFor(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		for queues := 1; queues <= 2; queues++ {
			name := "tundtest" + strconv.Itoa(queues)
			openIn(t, ns, Options{
				Name: name, Kind: TAP, Offload: offload, Queues: queues, MAC: [6]byte{0xfe, 0xff, 1, 2, 3, byte(queues)},
			})
			got := strings.TrimSpace(ns.Run(t, "cat", "/sys/class/net/"+name+"/address"))
			if want := "fe:ff:01:02:03:0" + strconv.Itoa(queues); got != want {
				t.Errorf("%d queues: address %s, want %s", queues, got, want)
			}
		}
	})
}

func TestDevice_refusedAddressLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		var d *Device
		var err error
		ns.Do(func() { d, err = Open(Options{Name: "tundtest0", Kind: TAP, Offload: offload, MAC: [6]byte{1}}) })
		if err == nil || d != nil || !strings.Contains(err.Error(), "address 01:00:00:00:00:00") {
			t.Errorf("a group address: device %v, error %v", d, err)
		}
		if out, err := ns.Try("ip", "link", "show", "dev", "tundtest0"); err == nil {
			t.Errorf("the device is still there:\n%s", out)
		}
	})
}

func TestDevice_packetsPassBothWays(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		d := openIn(t, ns, Options{Name: "tundtest0", Offload: offload})
		if got, want := d.Features().TSO, offload; got != want {
			t.Errorf("TSO: got %v, want %v", got, want)
		}
		if d.Fallback() != "" {
			t.Errorf("fell back: %s", d.Fallback())
		}
		up(t, ns, "tundtest0", "10.9.0.1/24")
		q := d.Queues()[0]
		buf := make([]byte, MaxRead)
		if n, err := q.Read(buf, false); n != 0 || err != nil {
			t.Fatalf("read of an idle device: %d, %v", n, err)
		}
		var conn net.Conn
		var err error
		ns.Do(func() { conn, err = net.Dial("udp", "10.9.0.2:9") })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("to the tunnel")); err != nil {
			t.Fatal(err)
		}
		n, err := q.Read(buf, true)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(buf[:n], []byte("to the tunnel")) || buf[HeaderSize]>>4 != 4 {
			t.Errorf("read %x", buf[:n])
		}
		// Turn the packet round: swap addresses and ports, which leaves the checksums true; the
		// header still asks for the checksum of the offload backend to be completed.
		p := buf[HeaderSize:n]
		swap(p[12:16], p[16:20])
		swap(p[20:22], p[22:24])
		if err := q.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 100)
		m, err := conn.Read(reply)
		if err != nil || string(reply[:m]) != "to the tunnel" {
			t.Errorf("got %q, %v", reply[:m], err)
		}
	})
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

func TestDevice_deletedLinkIsGone(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		d := openIn(t, ns, Options{Name: "tundtest0", Offload: offload})
		up(t, ns, "tundtest0", "10.9.0.1/24")
		q := d.Queues()[0]
		result := make(chan error, 1)
		go func() {
			_, err := q.Read(make([]byte, MaxRead), true)
			result <- err
		}()
		ns.Run(t, "ip", "link", "delete", "tundtest0")
		if err := <-result; !errors.Is(err, ErrGone) {
			t.Errorf("waiting read: %v, want ErrGone", err)
		}
		if _, err := q.Read(make([]byte, MaxRead), true); !errors.Is(err, ErrGone) {
			t.Errorf("later read: %v, want ErrGone", err)
		}
		if err := q.Write(append(make([]byte, HeaderSize), 0x45, 0, 0, 20)); !errors.Is(err, ErrGone) {
			t.Errorf("write: %v, want ErrGone", err)
		}
		if d.Name() != "" {
			t.Errorf("name %q of a device that is gone", d.Name())
		}
	})
}

func TestDevice_failedOpenLeavesNoDescriptor(t *testing.T) {
	ns := testnet.New(t)
	ns.Run(t, "ip", "link", "add", "taken", "type", "bridge")
	ns.Run(t, "ip", "tuntap", "add", "dev", "other", "mode", "tun")
	before := descriptors(t)
	for _, name := range []string{"taken", "other", "a/b", "sixteen-bytes-ab", "lo", ".."} {
		for _, offload := range []bool{false, true} {
			ns.Do(func() {
				if d, err := Open(Options{Name: name, Offload: offload}); err == nil {
					_ = d.Close()
					t.Errorf("%q opened", name)
				} else if strings.ContainsAny(name, "kr") && !errors.Is(err, ErrExists) && len(name) < 16 {
					t.Errorf("%q: %v, want ErrExists", name, err)
				} else {
					t.Log(err)
				}
			})
		}
	}
	if after := descriptors(t); len(after) != len(before) {
		t.Errorf("descriptors before %v, after %v", before, after)
	}
}

// descriptors lists this process' descriptors of tun devices and eventfds.
func descriptors(t testing.TB) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		link, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && (strings.Contains(link, "/dev/net/tun") || strings.Contains(link, "eventfd")) {
			list = append(list, entry.Name()+"="+link)
		}
	}
	return list
}

func TestDevice_descriptorsAreCloseOnExec(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		openIn(t, ns, Options{Offload: offload, Queues: 3})
		cmd := exec.Command("ls", "-l", "/proc/self/fd")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "tun") {
			t.Errorf("a child sees\n%s", out)
		}
		for _, d := range descriptors(t) {
			number, _, _ := strings.Cut(d, "=")
			fd, _ := strconv.Atoi(number)
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err == nil && flags&unix.FD_CLOEXEC == 0 && strings.Contains(d, "tun") {
				t.Errorf("descriptor %s is not close-on-exec", d)
			}
		}
	})
}
