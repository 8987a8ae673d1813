package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/sites"
	"tund/internal/registry/record"
	"tund/internal/screen/screentest"
)

func TestNet_fromAKeyToARevocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	code, out, errs := w.run("net", "init", "acme", "-d", dir)
	m := regexp.MustCompile(`^network = "acme"\ntrust = \["(.{44})"\]\n$`).FindStringSubmatch(out)
	if code != 0 || m == nil {
		t.Fatalf("init: %d %q %q", code, out, errs)
	}
	trust := m[1]
	if info, err := os.Stat(in("acme.signer")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v: %v", info.Mode(), err)
	}
	w.expect(1, "", "exists already", "net", "init", "acme", "-d", dir)
	w.expect(2, "", "network", "net", "init", "a/b", "-d", dir)

	agent := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for i, name := range []string{"oslo", "rome", "rival"} {
		text, _ := json.Marshal(sites.Request{Network: "acme", Site: record.Site{byte(i + 1)}, Agent: record.Key(agent.Public().(ed25519.PublicKey)), Name: name})
		if err := os.WriteFile(in(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	grant := func(name string, more ...string) []string {
		return append([]string{"net", "grant", in(name), "--signer", in("acme.signer")}, more...)
	}
	store := []string{"--store", in("reg")}
	w.expect(2, "", "--store DIR or --output FILE", grant("oslo")...)
	w.expect(0, "", "", grant("oslo", append(store, "--prefix", "10.30.0.0/16,fd00:30::/48", "--vlan", "0,7")...)...)
	w.expect(0, "", "", grant("rome", append(store, "--prefix", "10.31.0.0/16")...)...)
	w.expect(1, "", "10.30.0.0/16 is granted to oslo already", grant("rival", append(store, "--prefix", "10.30.4.0/24")...)...)
	w.expect(2, "", "--prefix", grant("rival", append(store, "--prefix", "nowhere")...)...)
	// The second one has a serial of its own.
	w.expect(0, "", "", grant("oslo", append(store, "--prefix", "10.30.0.0/16")...)...)
	path := in("reg/acme/grant/" + record.Site{1}.ID() + ".json")
	verify := []string{"--network", "acme", "--trust", trust}
	w.expect(0, "grant 2 of oslo", "", append([]string{"net", "verify", path}, verify...)...)
	w.expect(1, "", "not signed by enough trusted signers: 1 of 2", append([]string{"net", "verify", path, "--threshold", "2"}, verify...)...)
	w.expect(0, "grant 2 of oslo", "", append([]string{"net", "import", path, "--store", in("other")}, verify...)...)
	w.expect(0, "", "", "net", "sign", path, "--signer", in("acme.signer"))

	data, err := record.SignRecord(record.Record{
		Network: "acme", Site: record.Site{1}, Grant: 2, Epoch: 1, Serial: 1, NotAfter: screentest.Noon().Add(time.Hour)}, agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("rec"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect(0, "record 1 of epoch 1 of oslo", "", append(append([]string{"net", "verify", in("rec")}, store...), verify...)...)
	w.expect(1, "", "the grant of its site", append([]string{"net", "verify", in("rec")}, verify...)...)

	revoke := append([]string{"net", "revoke", "--signer", in("acme.signer"), "--network", "acme"}, store...)
	w.expect(1, "", `has no grant of a site "nobody"`, append(revoke, "nobody")...)
	w.expect(0, "", "", append(revoke, "oslo")...)
	w.expect(0, "", "", revoke...)
	// The number is that of the clock, and one more for the second list in one second.
	w.expect(0, fmt.Sprintf("revocations %d: 1 sites", screentest.Noon().Unix()+1), "", append([]string{"net", "verify", in("reg/acme/crl.json")}, verify...)...)
}
