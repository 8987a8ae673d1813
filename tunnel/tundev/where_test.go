package tundev

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

func TestDevice_isFoundInTheNamespaceItWasMovedTo(t *testing.T) {
	t.Parallel()
	here, there := testnet.New(t), testnet.New(t)
	var d *Device
	here.Do(func() {
		var err error
		if d, err = Open(Options{Name: "moves", Kind: TUN, Offload: true}); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = d.Close() }()
	check := func(ns *testnet.NS) {
		t.Helper()
		file, err := d.Namespace()
		if err != nil {
			t.Fatal(err)
		}
		got, err := file.Stat()
		_ = file.Close()
		want, err2 := os.Stat("/run/netns/" + ns.Name())
		if err != nil || err2 != nil || !os.SameFile(got, want) {
			t.Errorf("Namespace is not %s (%v, %v)", ns.Name(), err, err2)
		}
	}
	check(here)
	here.Run(t, "ip", "link", "set", "moves", "netns", there.Name())
	check(there)

	for _, want := range []string{"down", "up", "down"} {
		there.Run(t, "ip", "link", "set", "moves", want)
		if up, known := d.Up(); up != (want == "up") || !known {
			t.Errorf("after ip link set %s: Up = %t, known %t", want, up, known)
		}
	}
	there.Run(t, "ip", "link", "delete", "moves")
	if _, err := d.Namespace(); !errors.Is(err, ErrGone) {
		t.Errorf("Namespace after the link was deleted: %v, want %v", err, ErrGone)
	}
	if up, known := d.Up(); up || known {
		t.Errorf("Up after the link was deleted = %t, known %t", up, known)
	}
}

// A device moved into a namespace that ends is deleted with it: nothing of ours may keep the
// namespace alive.
func TestDevice_goesWithTheNamespaceItIsIn(t *testing.T) {
	t.Parallel()
	here := testnet.New(t)
	name := here.Name() + "-gone"
	run(t, "ip", "netns", "add", name)
	var d *Device
	here.Do(func() {
		var err error
		if d, err = Open(Options{Name: "moves", Kind: TUN, Offload: true}); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = d.Close() }()
	run(t, "ip", "-n", here.Name(), "link", "set", "moves", "netns", name)
	file, err := d.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	run(t, "ip", "netns", "delete", name)
	poll := []unix.PollFd{{Fd: int32(d.queues[0].ref.FD()), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, 10_000); err != nil {
		t.Fatal(err)
	}
	if _, err := d.queues[0].Read(make([]byte, MaxRead), false); !errors.Is(err, ErrGone) {
		t.Errorf("Read after the namespace was deleted: %v, want %v", err, ErrGone)
	}
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}
