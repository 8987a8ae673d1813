package compat

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/testnet"
	"tund/test/instance"
)

// configured is a tund with a configuration file, and the device it makes.
type configured struct {
	device
	daemon instance.Instance
}

// newConfigured starts `tund -c` with what config says besides the key, by the command wrap if
// there is one.
func newConfigured(t testing.TB, ns *testnet.NS, config string, wrap ...string) *configured {
	t.Helper()
	name := newName()
	i := &configured{daemon: instance.New(t, ns, name)}
	i.device = device{t: t, name: name, ns: ns, inner: ns, key: i.daemon.Key}
	i.daemon.Wrap = wrap
	i.daemon.WriteConfig("[tunnel]\nprivate_key_file = \"own.key\"\n" + config)
	process := i.daemon.Launch()
	i.daemon.Ready()
	t.Cleanup(func() {
		if err := process.Stop(syscall.SIGTERM, limit); err != nil {
			t.Errorf("%v: %s", err, process.Output())
		}
	})
	return i
}

// runtime returns the message of the warning about changes at run time; "" is none.
func (i *configured) runtime() string {
	i.t.Helper()
	var texts []string
	for _, w := range i.daemon.Status().Warnings {
		if w.Kind == "runtime" {
			texts = append(texts, w.Message)
		}
	}
	return strings.Join(texts, "\n")
}

// saidOf is what runtime returns when a peer was added, unless that is "", and the rest was
// changed.
func saidOf(added, changed string) string {
	var texts []string
	if added != "" {
		texts = append(texts, "added at run time, and gone with the next restart: peer "+added)
	}
	if changed != "" {
		texts = append(texts, "changed at run time, and gone with the next reload: "+changed)
	}
	return strings.Join(texts, "\n")
}

func TestInstance_whatWGChangesIsShownAndRevertedByAReload(t *testing.T) {
	t.Parallel()
	k := publicKeys(t, 3)
	i := newConfigured(t, testnet.New(t), fmt.Sprintf(`listen_port = 51900
[tun]
address = ["10.9.0.1/24"]
[[peer]]
name = "berlin"
public_key = %q
allowed_ips = ["10.20.0.0/16"]
keepalive = 25
[[peer]]
name = "paris"
public_key = %q
allowed_ips = ["10.30.0.0/16", "fd30::/64"]
`, k[0], k[1]))
	before := i.wg("showconf")
	if !strings.Contains(before, "PrivateKey = "+i.key.Base64()) || !strings.Contains(before, "ListenPort = 51900") {
		t.Fatalf("wg showconf of an instance with a file: %s", before)
	}
	if got := i.runtime(); got != "" {
		t.Fatalf("changed at run time before anything was: %q", got)
	}
	other, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	psk := i.file("psk", mustWG(t, &i.device, "genpsk"))
	steps := []struct {
		args  []string
		want  []string // all that is said to be changed after this step and those before
		added string   // and to be added
	}{
		{[]string{"listen-port", "51901"}, []string{"listen port 51901"}, ""},
		{[]string{"fwmark", "0x99"}, []string{"listen port 51901", "fwmark 0x99"}, ""},
		{[]string{"listen-port", "51900", "fwmark", "0"}, nil, ""}, // as in the file again
		{[]string{"peer", k[0], "persistent-keepalive", "5", "preshared-key", psk}, []string{"peer berlin (preshared key, keepalive)"}, ""},
		{[]string{"peer", k[1], "allowed-ips", "10.30.0.0/16"}, []string{"peer berlin (preshared key, keepalive)", "peer paris (allowed IPs)"}, ""},
		{[]string{"peer", k[1], "allowed-ips", "fd30::/64,10.30.0.0/16"}, []string{"peer berlin (preshared key, keepalive)"}, ""},
		{[]string{"peer", k[1], "remove", "peer", k[2], "allowed-ips", "10.40.0.0/16"},
			[]string{"peer berlin (preshared key, keepalive)", "peer paris removed"}, k[2][:8]},
		{[]string{"private-key", i.file("key", other.Base64())},
			[]string{"private key", "peer berlin (preshared key, keepalive)", "peer paris removed"}, k[2][:8]},
	}
	for _, s := range steps {
		i.set(s.args...)
		if got, want := i.runtime(), saidOf(s.added, strings.Join(s.want, ", ")); got != want {
			t.Errorf("after wg set %v: %q, want %q", s.args, got, want)
		}
		if strings.Contains(i.runtime(), other.Base64()) {
			t.Error("a key is shown")
		}
	}
	if err := i.daemon.Reload(); err != nil {
		t.Fatal(err)
	}
	if got, want := i.runtime(), saidOf(k[2][:8], ""); got != want {
		t.Errorf("after a reload: %q, want %q", got, want)
	}
	i.set("peer", k[2], "remove") // it is not the file's to take
	if after := i.wg("showconf"); after != before {
		t.Errorf("before:\n%s\nafter a reload:\n%s", before, after)
	}
	// A peer that was removed and comes back has its name again.
	i.apply("setconf", "[Interface]\nListenPort = 51900\nPrivateKey = "+i.key.Base64()+"\n[Peer]\nPublicKey = "+k[1]+"\n")
	if s := i.daemon.Status(); len(s.Peers) != 1 || s.Peers[0].Name != "paris" {
		t.Errorf("peers after wg setconf: %+v", s.Peers)
	}
}

// An instance does not depend on the socket: where it cannot be, wg sees nothing, and that is all.
func TestInstance_goesOnWithoutTheSocket(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	config := "[tun]\naddress = [\"10.9.0.1/24\"]\n"
	t.Run("it cannot be made", func(t *testing.T) {
		t.Parallel()
		// The directory is read-only in the mount namespace of this one process.
		i := newConfigured(t, ns, config, "unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro none "+sockets+" && exec \"$@\"", "sh")
		if !strings.Contains(i.daemon.Process.Output(), "no WireGuard socket") {
			t.Errorf("nothing is said: %s", i.daemon.Process.Output())
		}
		if s := i.daemon.Status(); !s.Devices[0].Up {
			t.Errorf("device %+v", s.Devices[0])
		}
	})
	t.Run("it is removed", func(t *testing.T) {
		t.Parallel()
		i := newConfigured(t, testnet.New(t), config)
		if err := os.Remove(i.socket()); err != nil {
			t.Fatal(err)
		}
		testnet.Await(t, "a word about it", limit, func() bool { return strings.Contains(i.daemon.Process.Output(), "the WireGuard socket was removed") })
		if s := i.daemon.Status(); !s.Devices[0].Up {
			t.Errorf("device %+v", s.Devices[0])
		}
	})
}

func TestInstance_removesItsSocketAtTheEnd(t *testing.T) {
	t.Parallel()
	i := newConfigured(t, testnet.New(t), "[tun]\naddress = [\"10.9.0.1/24\"]\n")
	if info, err := os.Lstat(i.socket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v (%v), want mode 0600", info, err)
	}
	if err := i.daemon.Process.Stop(syscall.SIGTERM, limit); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(i.socket()); err == nil {
		t.Error("the socket is still there")
	}
}

// Peers changed over the control socket have routes, are shown as changed at run time, leave alone
// what wg has set at others, and go with a reload.
func TestInstance_whatTunctlChangesIsShownAndRevertedByAReload(t *testing.T) {
	t.Parallel()
	k := publicKeys(t, 3)
	i := newConfigured(t, testnet.New(t), fmt.Sprintf(`listen_port = 51900
[tun]
address = ["10.9.0.1/24"]
guard = "off"
[[peer]]
name = "berlin"
public_key = %q
allowed_ips = ["10.20.0.0/16"]
[[peer]]
name = "paris"
public_key = %q
allowed_ips = ["10.30.0.0/16"]
`, k[0], k[1]))
	before := i.wg("showconf")
	i.set("peer", k[0], "persistent-keepalive", "5")
	ctx := context.Background()
	routes := func(want ...string) {
		t.Helper()
		out := i.ns.Run(t, "ip", "route", "show", "proto", "117")
		if got := strings.Fields(out); strings.Count(out, "\n") != len(want) || !containsEach(got, want) {
			t.Errorf("routes %q, want %v", out, want)
		}
	}
	for _, s := range []struct {
		change control.PeerChange
		added  string
		said   string
		routes []string
	}{
		{control.PeerChange{Op: "set", Peer: "paris", Values: map[string]any{"allowed_ips": []string{"10.31.0.0/16"}}},
			"", "peer berlin (keepalive), peer paris (allowed IPs)", []string{"10.20.0.0/16", "10.31.0.0/16"}},
		{control.PeerChange{Op: "add", Values: map[string]any{"name": "oslo", "public_key": k[2], "allowed_ips": []string{"10.40.0.0/16"}}},
			"oslo", "peer berlin (keepalive), peer paris (allowed IPs)", []string{"10.20.0.0/16", "10.31.0.0/16", "10.40.0.0/16"}},
		{control.PeerChange{Op: "remove", Peer: "paris"},
			"oslo", "peer berlin (keepalive), peer paris removed", []string{"10.20.0.0/16", "10.40.0.0/16"}},
	} {
		if err := i.daemon.Client().ChangePeer(ctx, s.change); err != nil {
			t.Fatal(err)
		}
		if got, want := i.runtime(), saidOf(s.added, s.said); got != want {
			t.Errorf("after %v: %q, want %q", s.change, got, want)
		}
		routes(s.routes...)
		t.Run("routes", func(t *testing.T) {
			table, err := i.daemon.Client().Routes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, o := range table.Instances[0].Objects {
				if o.State != "present" {
					t.Errorf("%+v", o)
				}
				if o.Kind == "route" {
					want++
				}
			}
			if want != len(s.routes) {
				t.Errorf("%d routes in %+v", want, table)
			}
		})
	}
	for _, bad := range []control.PeerChange{
		{Op: "set", Peer: "nobody"},
		{Op: "set", Peer: "berlin", Values: map[string]any{"public_key": k[1]}},
		{Op: "add", Values: map[string]any{"name": "x", "public_key": k[1], "allowed_ips": []string{"10.20.0.0/16"}}},
	} {
		if err := i.daemon.Client().ChangePeer(ctx, bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	if err := i.daemon.Reload(); err != nil {
		t.Fatal(err)
	}
	if got, want := i.runtime(), saidOf("oslo", ""); got != want {
		t.Errorf("after a reload: %q, want %q", got, want)
	}
	if err := i.daemon.Client().ChangePeer(ctx, control.PeerChange{Op: "remove", Peer: "oslo"}); err != nil {
		t.Fatal(err) // it is not the file's to take
	}
	if after := i.wg("showconf"); after != before {
		t.Errorf("before:\n%s\nafter a reload:\n%s", before, after)
	}
	routes("10.20.0.0/16", "10.30.0.0/16")
}

func containsEach(words, want []string) bool {
	for _, w := range want {
		if !slices.Contains(words, w) {
			return false
		}
	}
	return true
}
