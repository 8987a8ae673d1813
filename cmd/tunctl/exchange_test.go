package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/crypto/keys"
	"tund/internal/control"
)

// write makes a file in the world's directory of configurations and returns its path.
func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.configs(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// configs is the directory of configurations.
func (w *world) configs() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		w.t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
	}
	return string(data)
}

func newKey(t *testing.T) keys.PrivateKey {
	t.Helper()
	k, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hub is a configuration with a peer, and comments.
func hub(own, peer keys.PrivateKey) string {
	return "# The hub.\n[tunnel]\nprivate_key = \"" + own.Base64() + "\" # ours\nlisten_port = 51820\n\n[tun]\naddress = [\"10.9.0.1/24\", \"fd09::1/64\"]\n\n" +
		"# Anna's.\n[[peer]]\nname = \"anna\" # old\npublic_key = \"" + peer.Public().String() + "\"\nallowed_ips = [\"10.9.0.2/32\"]\n"
}

func TestImport_writesAndReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey(t)
	conf := "[Interface]\nPrivateKey = " + key.Base64() + "\nAddress = 10.9.0.1/24\nListenPort = 51820\nPostUp = logger %i\n"
	path := w.write("wg0.conf", conf)
	want := "[tunnel]\nprivate_key = \"" + key.Base64() + "\"\nlisten_port = 51820\n\n[tun]\naddress = [\"10.9.0.1/24\"]\n"
	w.expect(0, want, "/etc/wg0.conf:5: PostUp: tund runs no commands. Run it from the service, with `systemctl edit tund@wg0`:\n"+
		"    [Service]\n    ExecStartPost=+/bin/bash -c \"logger wg0\"\n", "import", path)
	w.stdin = conf
	w.expect(0, want, "standard input:5: PostUp", "import", "-")
	w.expose = true
	w.expect(0, want, "others may read this file", "import", path)
	w.expose = false

	out := filepath.Join(w.configs(), "office.toml")
	w.expect(0, "office.toml: 0 peers", "systemctl edit tund@office", "import", path, "-o", out)
	if got := w.read(out); got != want {
		t.Errorf("got %s", got)
	}
	w.expect(1, "", "office.toml exists already (--force replaces it)", "import", path, "-o", out)
	w.expect(0, "0 peers", "PostUp", "import", path, "-o", out, "--force")
	w.expect(78, "", "no such file or directory", "import", path+"x")

	bad := w.write("bad.conf", strings.Replace(conf, "10.9.0.1/24", "10.9.0/24", 1)+"MTU = 12\nPrivateKey = "+key.Base64()+"x\n")
	code, stdout, stderr := w.run("import", bad)
	if code != 78 || stdout != "" || strings.Contains(stderr, key.Base64()) || !strings.Contains(stderr, "bad.conf:3: Address: \"10.9.0/24\" is not an address") ||
		!strings.Contains(stderr, "bad.conf:7: PrivateKey: ") || !strings.Contains(stderr, "bad.conf:6: MTU: 12 is out of range") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
}

func TestExport_ownAndPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, anna := newKey(t), newKey(t)
	w.write("hub.toml", hub(own, anna))
	w.expect(0, "[Interface]\nPrivateKey = "+own.Base64()+"\nListenPort = 51820\nAddress = 10.9.0.1/24, fd09::1/64\n\n[Peer]\n# Name = anna\n", "", "export")
	w.expect(0, "PublicKey = "+own.Public().String()+"\nEndpoint = vpn.example.org:51820\nAllowedIPs = 10.9.0.0/24, fd09::/64\nPersistentKeepalive = 25\n",
		"only peer anna knows its private key", "-i", "hub", "export", "anna", "--endpoint", "vpn.example.org")
	keyFile := w.write("anna.key", anna.Base64()+"\n")
	w.expect(0, "[Interface]\nPrivateKey = "+anna.Base64()+"\nAddress = 10.9.0.2/32\nDNS = 10.9.0.1, lan\n", "", "export", "an", "--private-key-file", keyFile,
		"--endpoint", "[2001:db8::1]:1", "--dns", "10.9.0.1,lan", "--allowed-ips", "0.0.0.0/0,::/0", "--keepalive", "0")
	w.stdin = own.Base64()
	w.expect(1, "", `the private key is not that of peer "anna"`, "export", "anna", "--private-key-file", "-", "--endpoint", "x")
	w.expect(2, "", "a QR code without the private key of anna is of no use", "export", "anna", "--qr")
	w.expect(2, "", "--dns is for the file of a peer", "export", "--dns", "1.1.1.1")
	w.expect(2, "", `--allowed-ips: "all" is not a network`, "export", "anna", "--allowed-ips", "all")
	w.expect(2, "", "--endpoint: ", "export", "anna", "--endpoint", "a b")
	w.expect(1, "", `no peer "bob" (there is anna)`, "export", "bob")
	w.expect(78, "", "no such file", "-i", "lab", "export")
	w.width = 60
	w.expect(1, "", "columns, and the terminal has 60", "export", "anna", "--private-key-file", keyFile, "--endpoint", "x", "--qr")
	w.write("lab.toml", hub(anna, own))
	w.expect(2, "", "several configurations in $RUN/etc: choose one with -i (hub, lab)", "export")
}

func TestInvite_addsAPeerAndMakesItsFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, anna := newKey(t), newKey(t)
	old := hub(own, anna)
	path := w.write("hub.toml", old)
	f := w.start(control.Instance{Name: "hub", Config: path})
	out := filepath.Join(w.configs(), "phone.conf")
	w.expect(0, "▀", `peer "phone" with 10.9.0.3/32, fd09::2/128 added to $RUN/etc/hub.toml: in force now`,
		"peer", "invite", "phone", "--endpoint", "vpn.example.org", "-o", out, "--qr")
	text, conf, psk := w.read(path), w.read(out), strings.TrimSpace(w.read(filepath.Join(w.configs(), "phone.psk")))
	if !strings.HasPrefix(text, old) || strings.Contains(text, psk) || !strings.Contains(text, `preshared_key_file = "phone.psk"`) {
		t.Errorf("the configuration is now\n%s", text)
	}
	if !strings.Contains(conf, "PresharedKey = "+psk) || !strings.Contains(conf, "Address = 10.9.0.3/32, fd09::2/128") {
		t.Errorf("the file of the peer is\n%s", conf)
	}
	w.expect(1, "", `peer "phone" exists already`, "peer", "invite", "phone", "--endpoint", "x")
	w.expect(2, "", "--endpoint: give the name or address", "peer", "invite", "tab")
	w.expect(78, "", `hub.toml was not changed, because the result would have errors`, "peer", "invite", "a b", "--endpoint", "x")
	w.expect(78, "", "10.9.0.2/32 is also an allowed IP of peer", "peer", "invite", "tab", "--endpoint", "x", "--address", "10.9.0.2")
	w.expect(1, "", "phone.conf exists already", "peer", "invite", "tab", "--endpoint", "x", "-o", out)

	// What the instance refuses is taken back as a whole.
	f.reload = &control.Error{Code: control.CodeConfig, Message: "hub.toml: no"}
	w.expect(78, "", "hub: reload refused, the old configuration stays in force", "peer", "invite", "tab", "--endpoint", "x")
	if w.read(path) != text {
		t.Error("the configuration is not what it was")
	}
	if _, err := os.Stat(filepath.Join(w.configs(), "tab.psk")); err == nil {
		t.Error("a preshared key was left behind")
	}
	f.reload = nil
	w.expect(0, "Address = 10.9.0.77/32\n", "in force now", "peer", "invite", "tab", "--endpoint", "x", "--address", "10.9.0.77", "--preshared-key=false")
}
