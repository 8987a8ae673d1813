package compat

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
	"tund/tunnel/tundev"
)

// run runs tund for an interface and returns what it printed and its exit code. Its output ends
// with it: nothing that stays in the background may hold on to it.
func runTund(t *testing.T, ns *testnet.NS, env []string, args ...string) (string, int) {
	t.Helper()
	command := append([]string{"env", "TUND_RUN_DIR=" + filepath.Join(testnet.Dir(), "run")}, env...)
	out, err := ns.Try(append(append(command, testnet.Tund(t)), args...)...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out, exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return out, 0
}

func TestStart_returnsWhenTheSocketAnswers(t *testing.T) {
	t.Parallel()
	here, there := testnet.New(t), testnet.New(t)
	for range 20 {
		d := start(t, here, testnet.Tund(t)) // the first connection answers; nothing waits
		if answer, err := d.ask("get=1\n\n"); err != nil || !strings.HasSuffix(answer, "errno=0\n\n") {
			t.Fatalf("right after the start: %q (%v)", answer, err)
		}
		d.move(there) // and the device may go away at once
		d.set("private-key", d.keyFile(), "listen-port", "0")
		d.end()
	}
}

func TestStart_failuresHaveAReason(t *testing.T) {
	t.Parallel()
	ns, other := testnet.New(t), testnet.New(t)
	d := start(t, ns, testnet.Tund(t))
	blocked := newName()
	if err := os.WriteFile(filepath.Join(sockets, blocked+".sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(filepath.Join(sockets, blocked+".sock")) }()
	tests := []struct {
		name string
		ns   *testnet.NS
		env  []string
		args []string
		code int
		want string
	}{
		{"the device exists", ns, nil, []string{d.name}, 1, "exists already"},
		{"the socket is in use", other, nil, []string{d.name}, 1, "in use by a running process"},
		{"something else is where the socket should be", ns, nil, []string{blocked}, 1, "not a socket"},
		{"a name too long", ns, nil, []string{"abcdefghijklmnop"}, 2, "longer than 15 bytes"},
		{"a name with a slash", ns, nil, []string{"a/b"}, 2, "letters"},
		{"two names", ns, nil, []string{"a", "b"}, 2, "unexpected argument"},
		{"no descriptor", ns, []string{"WG_TUN_FD=x"}, []string{newName()}, 1, "WG_TUN_FD"},
		{"a descriptor of something else", ns, []string{"WG_TUN_FD=0"}, []string{newName()}, 1, "not an open"},
		{"in the foreground", ns, []string{"LOG_LEVEL=error"}, []string{"-f", d.name}, 1, "exists already"},
		{"by the environment", ns, []string{"WG_PROCESS_FOREGROUND=1", "LOG_LEVEL=error"}, []string{d.name}, 1, "exists already"},
	}
	for _, tt := range tests {
		out, code := runTund(t, tt.ns, tt.env, tt.args...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit code %d and %q, want %d and %q", tt.name, code, out, tt.code, tt.want)
		}
	}
	if out, code := runTund(t, ns, nil, "--version"); code != 0 || !strings.HasPrefix(out, "tund ") || strings.Count(out, "\n") != 1 {
		t.Errorf("--version: %d, %q", code, out)
	}
	if out := other.Run(t, "ip", "-o", "link"); strings.Contains(out, d.name) {
		t.Errorf("a start that failed left its device: %s", out)
	}
}

func TestStart_byAnotherName(t *testing.T) {
	t.Parallel()
	// What wg-quick calls when nobody says otherwise.
	link := filepath.Join(testnet.Scratch(t), "wireguard-go")
	if err := os.Symlink(testnet.Tund(t), link); err != nil {
		t.Fatal(err)
	}
	d := start(t, testnet.New(t), link)
	d.set("private-key", d.keyFile())
}

func TestEnd_byLinkSocketOrSignal(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	for name, end := range map[string]func(d *device){
		"the link is deleted":   func(d *device) { d.inner.Run(t, "ip", "link", "delete", d.name) },
		"the socket is deleted": func(d *device) { _ = os.Remove(d.socket()) },
		"SIGTERM":               func(d *device) { _ = unix.Kill(d.process(), unix.SIGTERM) },
		"SIGINT":                func(d *device) { _ = unix.Kill(d.process(), unix.SIGINT) },
	} {
		d := start(t, ns, testnet.Tund(t))
		pid := d.process()
		_ = unix.Kill(pid, unix.SIGHUP) // there is nothing to read again
		d.set("private-key", d.keyFile())
		end(d)
		testnet.Await(t, "end of the process when "+name, limit, func() bool { return ended(pid) })
		if _, err := os.Lstat(d.socket()); err == nil {
			t.Errorf("%s: the socket is still there", name)
		}
		if _, err := ns.Try("ip", "link", "show", d.name); err == nil {
			t.Errorf("%s: the device is still there", name)
		}
	}
}

// A device that is deleted with the namespace it was moved to ends its process, too.
func TestEnd_withTheNamespaceOfTheDevice(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	pid := d.process()
	name := d.ns.Name() + "-gone"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	ip("-n", d.ns.Name(), "link", "set", d.name, "netns", name)
	ip("-n", name, "link", "set", d.name, "up")
	d.set("private-key", d.keyFile())
	ip("netns", "delete", name)
	testnet.Await(t, "end of the process", limit, func() bool { return ended(pid) })
}

// A killed process leaves its socket, which the next one replaces.
func TestStart_afterAKill(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	pid := d.process()
	_ = unix.Kill(pid, unix.SIGKILL)
	testnet.Await(t, "end of the process", limit, func() bool { return ended(pid) })
	if _, err := os.Lstat(d.socket()); err != nil {
		t.Fatalf("no socket is left: %v", err)
	}
	d.launch(testnet.Tund(t))
	d.set("private-key", d.keyFile())
}

// One process after the other has the device for a name, as fast as wg-quick down and up follow
// each other.
func TestStart_rightAfterTheLinkWasDeleted(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	for range 10 {
		d.ns.Run(t, "ip", "link", "delete", d.name)
		d.launch(testnet.Tund(t))
		d.set("private-key", d.keyFile())
	}
}

// The device and the socket may be handed over, as a supervisor does that keeps them across
// restarts.
func TestStart_withDescriptorsHandedOver(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	name := newName()
	path := filepath.Join(sockets, name+".sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	defer func() { _ = listener.Close() }()
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	var tun *os.File
	ns.Do(func() {
		if tun, err = openTUN(name); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = tun.Close() }()
	for _, foreground := range []bool{false, true} {
		var cmd *exec.Cmd
		args := []string{"netns", "exec", ns.Name(), testnet.Tund(t)}
		if foreground {
			args = append(args, "-f")
		}
		cmd = exec.Command("ip", append(args, name)...)
		cmd.ExtraFiles = []*os.File{tun, socket}
		cmd.Env = append(os.Environ(), "WG_TUN_FD=3", "WG_UAPI_FD=4", "TUND_RUN_DIR="+filepath.Join(testnet.Dir(), "run"))
		if foreground {
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		} else if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		d := &device{t: t, name: name, ns: ns, inner: ns}
		if answer, err := d.ask("set=1\nfwmark=7\n\n"); err != nil || answer != "errno=0\n\n" {
			t.Fatalf("set is answered with %q (%v)", answer, err)
		}
		ns.Run(t, "ip", "link", "show", name)
		if foreground {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("foreground: %v", err)
			}
		} else {
			pid := d.process()
			_ = unix.Kill(pid, unix.SIGKILL) // it does not remove the socket
			testnet.Await(t, "end of the process", limit, func() bool { return ended(pid) })
		}
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

// openTUN opens a device as somebody would who hands it over.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, tundev.HeaderSize); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ended reports whether a process has ended. Whether its new parent has noticed does not matter.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}
