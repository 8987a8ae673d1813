package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	w.expect(1, "", `exists already (trust = ["`+trust+`"])`, "net", "init", "acme", "-d", dir)
	w.expect(2, "", "network", "net", "init", "a/b", "-d", dir)

	agent := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	request := func(file, name string, site byte, agent ed25519.PrivateKey) {
		text, _ := json.Marshal(sites.Request{Network: "acme", Site: record.Site{site}, Agent: record.Key(agent.Public().(ed25519.PublicKey)), Name: name})
		if err := os.WriteFile(in(file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"oslo", "rome", "rival"} {
		request(name, name, byte(i+1), agent)
	}
	store := []string{"--store", in("reg")}
	grant := func(name string, more ...string) []string {
		return slices.Concat([]string{"net", "grant", in(name), "--signer", in("acme.signer")}, store, more)
	}
	path := in("reg/acme/grant/" + record.Site{1}.ID() + ".json")
	// Grants are counted by the clock, and one more for the second of a site in one second.
	first := uint64(screentest.Noon().Unix())
	granted := func(n uint64, name string) string { return fmt.Sprintf("grant %d of %s", first+n, name) }
	w.expect(2, "", "--store DIR or --output FILE", "net", "grant", in("oslo"), "--signer", in("acme.signer"))
	w.expect(0, path+": "+granted(0, "oslo"), "", grant("oslo", "--prefix", "10.30.0.0/16,fd00:30::/48", "--vlan", "0,7")...)
	w.expect(0, granted(0, "rome"), "", grant("rome", "--prefix", "10.31.0.0/16")...)
	w.expect(1, "", "10.30.0.0/16 is granted to oslo already", grant("rival", "--prefix", "10.30.4.0/24")...)
	for flag, values := range map[string][]string{
		"--prefix": {"nowhere", "10.30.4.1/24"}, "--vlan": {"4095", "x"}, "--days": {"0", "1000000000"}, "--priority": {"-1", "65536"}, "--max-macs": {"-1"},
	} {
		for _, value := range values {
			w.expect(2, "", flag, grant("rival", flag+"="+value)...)
		}
	}
	w.expect(0, granted(1, "oslo"), "", grant("oslo", "--prefix", "10.30.0.0/16")...)
	verify := []string{"--network", "acme", "--trust", trust}
	w.expect(0, granted(1, "oslo"), "", append([]string{"net", "verify", path}, verify...)...)
	w.expect(1, "", "not signed by enough trusted signers: 1 of 2", append([]string{"net", "verify", path, "--threshold", "2"}, verify...)...)
	w.expect(0, granted(1, "oslo"), "", append([]string{"net", "import", path, "--store", in("other")}, verify...)...)
	w.expect(0, path+": "+granted(1, "oslo"), "", "net", "sign", path, "--signer", in("acme.signer"))

	// With a file for the grant the registry is read, and not written.
	before, _ := os.ReadFile(path)
	w.expect(0, in("new")+": "+granted(2, "oslo"), "", grant("oslo", "--output", in("new"))...)
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("a grant for a file is put into the registry")
	}
	importing := func(file string) []string {
		return append([]string{"net", "import", file, "--store", in("reg")}, verify...)
	}
	if err := os.WriteFile(in("old"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect(0, granted(2, "oslo"), "", importing(in("new"))...)
	w.expect(1, "", "the registry has a newer one", importing(in("old"))...)
	w.expect(0, granted(0, "rival"), "", "net", "grant", in("rival"), "--signer", in("acme.signer"), "--output", in("doc"), "--prefix", "10.31.7.0/24")
	w.expect(1, "", "10.31.0.0/16 is granted to rome already", importing(in("doc"))...)

	signed := func(data []byte, err error) string {
		t.Helper()
		if err == nil {
			err = os.WriteFile(in("doc"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return in("doc")
	}
	later := screentest.Noon().Add(time.Hour)
	doc := signed(record.SignRecord(record.Record{Network: "acme", Site: record.Site{1}, Grant: first + 2, Epoch: 1, Serial: 1, NotAfter: later}, agent))
	w.expect(0, "record 1 of epoch 1 of oslo", "", append(append([]string{"net", "verify", doc}, store...), verify...)...)
	w.expect(1, "", "the grant of its site", append([]string{"net", "verify", doc}, verify...)...)
	w.expect(1, "", "which the site itself signs", "net", "sign", doc, "--signer", in("acme.signer"))
	doc = signed(record.SignStations(record.Stations{Network: "acme", Site: record.Site{1}, Grant: first + 2, Epoch: 1, Serial: 1, NotAfter: later,
		Stations: []record.Station{{MAC: "02:00:00:00:00:01"}}}, agent))
	w.expect(0, "1 hosts of oslo in VLAN 0", "", append(append([]string{"net", "verify", doc}, store...), verify...)...)

	revoke := append([]string{"net", "revoke", "--signer", in("acme.signer"), "--network", "acme"}, store...)
	w.expect(1, "", `has no grant of a site "nobody"`, append(revoke, "nobody")...)
	w.expect(2, "", "--days", append(revoke, "--days=0")...)
	w.expect(0, in("list")+": ", "", append(revoke, "rome", "--output", in("list"))...)
	w.expect(0, "1 sites", "", append(revoke, "oslo")...)
	w.expect(0, "1 sites", "", revoke...)
	// The number is that of the clock, and one more for the second list in one second.
	crl := in("reg/acme/crl.json")
	w.expect(0, fmt.Sprintf("revocations %d: 1 sites", first+1), "", append([]string{"net", "verify", crl}, verify...)...)

	// What another signer alone has signed is in the way, and the error says what to do.
	if err := os.Mkdir(in("second"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.expect(0, "trust", "", "net", "init", "acme", "-d", in("second"))
	w.expect(1, "", crl+": revocations: not signed by enough trusted signers: 0 of 1: if another signer has made it, sign it as well",
		"net", "revoke", "--signer", in("second/acme.signer"), "--network", "acme", "--store", in("reg"), "rome")

	// A site that was revoked is in nobody's way: it comes back with a new key, its name and its
	// networks. With its old key it gets a grant that the list does not revoke.
	request("oslo again", "oslo", 11, agent)
	w.expect(0, granted(0, "oslo"), "", grant("oslo again", "--prefix", "10.30.0.0/16")...)
	request("renamed", "oslo-old", 1, agent)
	w.expect(0, granted(3, "oslo-old"), "", grant("renamed", "--prefix", "10.40.0.0/16")...)
	// A site cannot have the name of another one, nor a key that is its name, nor ask for the grant
	// of another one.
	request("imitator", "oslo", 12, agent)
	w.expect(1, "", "oslo is the name of another site already", grant("imitator", "--prefix", "10.50.0.0/16")...)
	request("imitator", record.Site{2}.String(), 12, agent)
	w.expect(1, "", "the name of the site is a public key", grant("imitator", "--prefix", "10.50.0.0/16")...)
	other := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), 1))
	request("imitator", "rome", 2, other)
	w.expect(1, "", "--new-agent", grant("imitator", "--prefix", "10.31.0.0/16")...)
	w.expect(0, granted(1, "rome"), "", grant("imitator", "--prefix", "10.31.0.0/16", "--new-agent")...)
	// Of the two sites that were called oslo, the one that counts is revoked, and a site by its key
	// although nobody has its grant.
	w.expect(0, "2 sites", "", append(revoke, "oslo")...)
	w.expect(0, "3 sites", "", append(revoke, record.Site{99}.String())...)
	data, err := os.ReadFile(crl)
	key, _ := record.ParseKey(trust)
	list, err2 := record.Trust{Network: "acme", Signers: []record.Key{key}, Threshold: 1}.Revocations(data)
	if err := errors.Join(err, err2); err != nil || list.Revoked[record.Site{11}] < first || list.Revoked[record.Site{1}] != first+2 || list.Revoked[record.Site{99}] < first {
		t.Errorf("revoked are %v, %v", list.Revoked, err)
	}
}
