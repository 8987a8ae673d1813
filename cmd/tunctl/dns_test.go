package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/control"
)

// resolvectl is told what the instance wants; what it refuses is said.
func TestDNS_apply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dns  []string
		want string
	}{
		{[]string{"10.9.0.1", "corp.example"}, "resolvectl dns office 10.9.0.1; resolvectl domain office corp.example; resolvectl default-route office no"},
		{[]string{}, "resolvectl revert office"},
	} {
		w := newWorld(t)
		w.start(control.Instance{Name: "office", Devices: []control.Device{{Name: "office", Kind: "tun", DNS: c.dns}}})
		w.device("office", "tun_flags", "0x5001\n") // IFF_TUN, IFF_NO_PI, IFF_VNET_HDR
		var calls []string
		w.programs = func(_ context.Context, program string, args ...string) error {
			calls = append(calls, program+" "+strings.Join(args, " "))
			return nil
		}
		if code, _, stderr := w.run("dns", "apply"); code != 0 {
			t.Errorf("%d: %s", code, stderr)
		}
		if got := strings.Join(calls, "; "); got != c.want {
			t.Errorf("%q: %s, want %s", c.dns, got, c.want)
		}
		w.programs = func(context.Context, string, ...string) error { return errors.New("resolved is asleep") }
		if code, _, stderr := w.run("dns", "apply"); code != 1 || !strings.Contains(stderr, "resolved is asleep") {
			t.Errorf("%d: %s", code, stderr)
		}
	}
}

// Every instance is asked, as by the other verbs that only show something; a change is for one.
func TestDNS_ofSeveralInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(control.Instance{Name: "home", Devices: []control.Device{{Name: "lan", Kind: "tap"}}})
	w.start(control.Instance{Name: "office", Devices: []control.Device{{Name: "tun7", Kind: "tun", DNS: []string{"10.9.0.1"}}}})
	w.expect(0, "home: no DNS servers\noffice: tun7: 10.9.0.1\n", "", "dns")
	w.expect(0, "office: tun7: 10.9.0.1\n", "", "-i", "office", "dns")
	w.expect(2, "", "choose one with -i (home, office)", "dns", "apply")
	w.expect(1, "", "home: has no [tun] device", "-i", "home", "dns", "apply")
}

// An instance that was taken over can have nothing but names and addresses said to resolvectl.
func TestDNS_applyTrustsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, d := range []control.Device{
		{Name: "--interface=eth0", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "-ieth0", Kind: "tun"},
		{Name: "2", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "../office", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "eth0", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "eth0", Kind: "tun"},
		{Name: "lan", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "gone", Kind: "tun", DNS: []string{"10.9.0.1"}},
		{Name: "office", Kind: "tun", DNS: []string{"10.9.0.1", "--interface=eth0"}},
		{Name: "office", Kind: "tun", DNS: []string{"10.9.0.1", "-p", "corp.example"}},
		{Name: "office", Kind: "tun", DNS: []string{"fe80::1%eth0"}},
		{Name: "office", Kind: "tun", DNS: []string{"10.9.0.1", ""}},
	} {
		w := newWorld(t)
		w.start(control.Instance{Name: "office", Devices: []control.Device{d}})
		w.device("office", "tun_flags", "0x1001\n")
		w.device("eth0", "flags", "0x1003\n")
		w.device("lan", "tun_flags", "0x1002\n") // IFF_TAP
		w.programs = func(_ context.Context, program string, args ...string) error {
			t.Errorf("%+v: %s %q", d, program, args)
			return nil
		}
		if code, _, stderr := w.run("dns", "apply"); code != 1 || !strings.Contains(stderr, "dns apply: ") {
			t.Errorf("%+v: %d: %s", d, code, stderr)
		}
	}
}

// device makes a file that describes a device of the host.
func (w *world) device(name, file, text string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "net", name)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}
