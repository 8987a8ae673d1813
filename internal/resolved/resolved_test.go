package resolved

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/rundir"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		servers []netip.Addr
		domains []string
		full    bool
		want    string
	}{
		{"nothing", nil, nil, true, "revert office"},
		{"servers for all names", addrs("10.9.0.1", "fd09::1"), nil, false, "dns office 10.9.0.1 fd09::1|domain office ~.|default-route office yes"},
		{"servers for some names", addrs("10.9.0.1"), []string{"corp.example"}, false, "dns office 10.9.0.1|domain office corp.example|default-route office no"},
		{"a full tunnel", addrs("10.9.0.1"), []string{"corp.example"}, true, "dns office 10.9.0.1|domain office corp.example ~.|default-route office yes"},
		{"all names, as the file says", addrs("10.9.0.1"), []string{"~.", "~corp.example"}, true,
			"dns office 10.9.0.1|domain office ~. ~corp.example|default-route office yes"},
	} {
		w := Plan(c.servers, c.domains, c.full)
		var got []string
		for _, args := range Commands("office", w) {
			got = append(got, strings.Join(args, " "))
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
		if back := Parse(w.Words()); len(w.Words()) > 0 && !reflect.DeepEqual(back, w) {
			t.Errorf("%s: %v became %v", c.name, w, back)
		}
	}
}

func TestKnows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, is bool) {
		t.Helper()
		if got := knows(dir, 7, addrs("10.9.0.1", "fe80::1")); got != is {
			t.Errorf("%s: %t, want %t", what, got, is)
		}
	}
	want("no resolved", false)
	write("resolv.conf", "# all\nnameserver 192.0.2.1\nnameserver 10.9.0.1\nnameserver fe80::1%office\nsearch .\n")
	want("no settings of the link", false)
	write("netif/7", "")
	want("settings", true)
	write("resolv.conf", "nameserver 192.0.2.1\nnameserver 10.9.0.1\n")
	want("one server is missing", false)
}

// The service runs as a user of its own, who may not look into resolved's directory of links.
func TestKnows_withoutTheRightsOfRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "netif"), 0o700),
		os.WriteFile(filepath.Join(dir, "netif", "7"), nil, 0o644), os.Chmod(filepath.Join(dir, "netif"), 0),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 10.9.0.1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // so that whoever is not root can remove it
		if err := os.Chmod(filepath.Join(dir, "netif"), 0o700); err != nil {
			t.Error(err)
		}
	})
	asStranger(t, func() {
		if !knows(dir, 7, addrs("10.9.0.1")) {
			t.Error("a server that is asked is said not to be")
		}
		if knows(dir, 7, addrs("10.9.0.2")) {
			t.Error("a server that is not asked is said to be")
		}
	})
}

// asStranger calls f on a thread that may use files only as any user may. It ends with the thread.
func asStranger(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			const nobody = 65534
			// setfsuid(2) reports no error, and takes the capabilities about files away.
			_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0)
		}
		f()
	}()
	<-done
}

func TestAsked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		nsswitch, resolv string
		linked, want     bool
	}{
		{"hosts: files dns\n", "nameserver 127.0.0.53\n", false, true},
		{"hosts: files dns\n", "nameserver 192.0.2.1\n", false, false},
		{"hosts: files resolve [!UNAVAIL=return] dns\n", "nameserver 192.0.2.1\n", false, true},
		{"", "nameserver 192.0.2.1\n", true, true},
		{"", "", false, false},
	} {
		if got := asked(c.nsswitch, c.resolv, c.linked); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestAnnounce_andRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Announce(dir, Plan(addrs("10.9.0.1"), nil, false)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, rundir.DNSFile)); err != nil || string(text) != "10.9.0.1\n~.\n" {
		t.Errorf("%q, %v", text, err)
	}
	for range 2 {
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestOthers(t *testing.T) {
	t.Parallel()
	text := "nameserver 10.9.0.1\nnameserver 192.0.2.53\nnameserver fe80::1%2\nnameserver 192.0.2.53\nnameserver nonsense\n"
	want := []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fe80::1%2")}
	if got := others(text, addrs("10.9.0.1")); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Others(netip.MustParseAddr("192.0.2.53"), nil); got != nil {
		t.Errorf("for a server that is no stub: %v", got)
	}
}
