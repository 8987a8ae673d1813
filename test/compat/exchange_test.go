package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// named is an endpoint that wg would look up, which it cannot here.
var named = regexp.MustCompile(`Endpoint = [A-Za-z][^:]*:`)

// tunctl runs tunctl and returns its standard output.
func tunctl(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(testnet.Tunctl(t), args...)
	cmd.Env = append(os.Environ(), "TUND_RUN_DIR="+filepath.Join(testnet.Scratch(t), "run"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tunctl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// TestExport_isTakenByWGAndWGQuick imports files as people have them, exports them again, and has
// wg setconf and wg-quick take what came out.
func TestExport_isTakenByWGAndWGQuick(t *testing.T) {
	t.Parallel()
	testnet.Program(t, "wg-quick")
	files, err := filepath.Glob("../../internal/wgquick/testdata/conf/*.conf")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	ns := testnet.New(t)
	// wg(8) refuses an address whose zone is a link that is not there.
	ns.Run(t, "ip", "link", "add", "eth0", "type", "bridge")
	d := start(t, ns, testnet.Tund(t))
	dir := testnet.Scratch(t)
	stripped, toml, conf := filepath.Join(dir, "stripped"), filepath.Join(dir, "x.toml"), filepath.Join(dir, newName()+".conf")
	for _, path := range files {
		name := filepath.Base(path)
		if name == "key-from-hook.conf" {
			continue // its key is in a file that is not here
		}
		tunctl(t, "import", path, "--force", "-o", toml)
		tunctl(t, "export", "-c", toml, "--force", "-o", conf)
		text := named.ReplaceAllString(ns.Run(t, "wg-quick", "strip", conf), "Endpoint = 192.0.2.9:")
		if err := os.WriteFile(stripped, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ns.Run(t, "wg", "setconf", d.name, stripped)
		if info, err := os.Stat(conf); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

// TestInvite_wgQuickJoinsWithTheFile invites a peer to an instance, and wg-quick brings up a tunnel
// with its file.
func TestInvite_wgQuickJoinsWithTheFile(t *testing.T) {
	t.Parallel()
	testnet.Program(t, "wg-quick")
	near, far := testnet.New(t), testnet.New(t)
	testnet.Veth(t, near, far, []string{outerA + "/24"}, []string{outerB + "/24"})
	near.Run(t, "ip", "route", "add", "default", "via", outerB)
	dir := testnet.Scratch(t)
	run := "TUND_RUN_DIR=" + filepath.Join(dir, "run")
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	config, device := filepath.Join(dir, "hub.toml"), newName()
	text := "# The hub.\n[tunnel]\nprivate_key = \"" + key.Base64() + "\" # ours\nlisten_port = " + portB +
		"\n[tun]\ndevice = \"" + device + "\"\naddress = [\"" + innerB + "/24\"]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := far.Start(t, "env", run, testnet.Tund(t), "-c", config)
	testnet.Await(t, "the hub", limit, func() bool { return strings.Contains(hub.Output(), "ready") })

	q := newQuick(t, near, "")
	picture := filepath.Join(dir, "qr.png")
	said := far.Run(t, "env", run, testnet.Tunctl(t), "peer", "invite", "phone", "--endpoint", outerB, "--force", "-o", q.file, "--png", picture)
	if !strings.Contains(said, "in force now, and after every reload and restart") {
		t.Errorf("invite says %s", said)
	}
	if after, err := os.ReadFile(config); err != nil || !strings.HasPrefix(string(after), text) {
		t.Errorf("the configuration is now\n%s, %v", after, err)
	}
	q.run("up")
	mustPing(t, near, innerB)
	q.down()

	testnet.Program(t, "zbarimg")
	conf, err := os.ReadFile(q.file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := exec.Command("zbarimg", "-q", "--raw", "--oneshot", "-Sbinary", picture).Output()
	if err != nil || string(read) != string(conf) {
		t.Errorf("zbarimg reads %d bytes, want %d: %v", len(read), len(conf), err)
	}
}
