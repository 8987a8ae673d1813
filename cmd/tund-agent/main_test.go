package main

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

func write(t *testing.T, text string) (path, state string) {
	t.Helper()
	dir := t.TempDir()
	path, state = filepath.Join(dir, "office.toml"), filepath.Join(dir, "state")
	text = "state_dir = \"" + state + "\"\n" + text
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, state
}

const good = `
network = "acme"
trust = ["PublicKeyOfTheSignerOfAcme00000000000000000="]
site = "GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8="
dir = "/srv/registry"
`

func TestRun_exitCodes(t *testing.T) {
	t.Parallel()
	path, _ := write(t, good)
	bad, _ := write(t, good+"nonsense = 1\n")
	unclaimed, _ := write(t, good)
	lacking, _ := write(t, strings.Replace(good, `dir = "/srv/registry"`, "[etcd]\nendpoints = [\"https://192.0.2.1:2379\"]\nca = \"/nowhere/ca.pem\"", 1))
	for _, test := range []struct {
		args        []string
		code        int
		out, errors string
	}{
		{nil, exitUsage, "", "give one with -c FILE"},
		{[]string{"--nonsense"}, exitUsage, "", "usage: tund-agent"},
		{[]string{"-c", path, "x"}, exitUsage, "", `unexpected argument "x"`},
		{[]string{"-c", path, "--log-level", "loud"}, exitUsage, "", "want debug, info, warn or error"},
		{[]string{"-c", path, "--log-level", "fatal"}, exitUsage, "", "want debug, info, warn or error"},
		{[]string{"--help"}, 0, "usage: tund-agent", ""},
		{[]string{"--version"}, 0, "tund-agent ", ""},
		{[]string{"-c", path, "--check"}, 0, "ok", ""},
		{[]string{"-c", lacking, "--check"}, exitConfig, "", "open /nowhere/ca.pem: no such file"},
		{[]string{"-c", bad, "-t"}, exitConfig, "", "nonsense: unknown key"},
		{[]string{"-c", path + "x"}, exitConfig, "", "no such file"},
		{[]string{"-c", path, "--status"}, exitFailure, "", "has not run yet"},
		{[]string{"-c", path, "--request"}, 0, `"network":"acme","site":"GatewayOfBerlin`, ""},
		{[]string{"request", "-c", path}, 0, `"network":"acme","site":"GatewayOfBerlin`, ""},
		{[]string{"status", "-c", path}, exitFailure, "", "has not run yet"},
		{[]string{"check", "-c", path}, 0, "ok", ""},
		{[]string{"-c", path, "check"}, 0, "ok", ""},
		{[]string{"check", "status", "-c", path}, exitUsage, "", "check and status are two things"},
		{[]string{"check", "-c", path, "office"}, exitUsage, "", `unexpected argument "office"`},
		{[]string{"check", "--status", "-c", path}, exitUsage, "", "check and status are two things"},
		{[]string{"status", "no-such-instance"}, exitConfig, "", "/etc/tund/agent/no-such-instance.toml: no such file"},
		{[]string{"status", "../x"}, exitUsage, "", "../x"},
		{[]string{"leave", "-c", unclaimed}, exitFailure, "", "agent.key: no such file"},
	} {
		var out, errs bytes.Buffer
		code := run(test.args, &out, &errs)
		if code != test.code || !strings.Contains(out.String(), test.out) || !strings.Contains(errs.String(), test.errors) {
			t.Errorf("%q: %d %q %q", test.args, code, out.String(), errs.String())
		}
	}
}

// A service that starts while somebody prints the request: both have one key.
func TestLoadKey_isMadeOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := filepath.Join(t.TempDir(), "state")
		made := make([]ed25519.PrivateKey, 8)
		var all sync.WaitGroup
		for i := range made {
			all.Go(func() {
				key, err := loadKey(dir)
				if err != nil {
					t.Error(err)
				}
				made[i] = key
			})
		}
		all.Wait()
		for _, key := range made {
			if !key.Equal(made[0]) {
				t.Fatal("two keys were made at a time")
			}
		}
		if info, err := os.Stat(filepath.Join(dir, keyName)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyName), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(dir); err == nil || !strings.Contains(err.Error(), "is not a key") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestManual_listsEveryFlag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tund-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-c", "--config", "--request", "--status", "-t", "--check", "--log-level", "--version",
		verbStatus, verbRequest, verbLeave, verbCheck} {
		if !strings.Contains(usage, flag) || !strings.Contains(string(text), "`"+flag+"`") {
			t.Errorf("%s is not documented", flag)
		}
	}
}

// full is a standard output on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestRun_whatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	path, _ := write(t, good)
	for _, args := range [][]string{{"--version"}, {"--help"}, {"-c", path, "--check"}, {"-c", path, "--request"}} {
		var errs bytes.Buffer
		if code := run(args, full{}, &errs); code != exitFailure || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("tund-agent %s: %d %q", strings.Join(args, " "), code, &errs)
		}
	}
}

// Root may ask for the request before the service has run, whose user has to get to its own
// directory then.
func TestRequest_leavesTheWayOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tund-agent", "office")
	if _, err := loadKey(dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o700, filepath.Join(dir, keyName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

// A site leaves: what its agent has published says so, unless the agent still runs.
func TestLeave(t *testing.T) {
	t.Parallel()
	registry := t.TempDir()
	signer := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	path, state := write(t, strings.NewReplacer("/srv/registry", registry,
		"PublicKeyOfTheSignerOfAcme00000000000000000=", record.Key(signer.Public().(ed25519.PublicKey)).String()).Replace(good))
	key, err := loadKey(state)
	if err != nil {
		t.Fatal(err)
	}
	site, err := record.ParseSite("GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8=")
	if err != nil {
		t.Fatal(err)
	}
	grant, err := record.SignGrant(record.Grant{Network: "acme", Site: site, Agent: record.Key(key.Public().(ed25519.PublicKey)), Name: "office",
		Serial: 1, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	store := dirstore.New(registry, "acme")
	if err := store.Put("grant/"+site.ID(), grant); err != nil {
		t.Fatal(err)
	}
	lock, err := claim(state)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run([]string{"leave", "-c", path}, &out, &errs); code != exitFailure || !strings.Contains(errs.String(), "stop it first") {
		t.Errorf("beside a running agent: %d %q", code, &errs)
	}
	if err := os.WriteFile(filepath.Join(state, "status.json"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"status", "-c", path}, &out, &errs); code != 0 {
		t.Errorf("the status of a running agent: %d %q", code, &errs)
	}
	_ = lock.Close()
	if code := run([]string{"status", "-c", path}, &out, &errs); code != exitFailure || !strings.Contains(errs.String(), "does not run") {
		t.Errorf("the status of an agent that has stopped: %d %q", code, &errs)
	}
	if code := run([]string{"leave", "-c", path}, &out, &errs); code != 0 || !strings.Contains(out.String(), "has left the network acme") {
		t.Fatalf("%d %q %q", code, &out, &errs)
	}
	all, err := store.Listing()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := record.Kept(all.Values["site/"+site.ID()+"/rec"]); err != nil || !r.Gone {
		t.Errorf("the registry has %+v, %v", r, err)
	}
}
