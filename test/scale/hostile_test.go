package scale

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"tund/internal/registry/agent"
	"tund/internal/registry/record"
	"tund/internal/testnet"
)

const (
	// agentMemory is what an agent may take while somebody writes without end, in MiB: eight for an
	// answer of etcd and what becomes of it, as much again until the collector runs, and changes
	// that wait.
	agentMemory = 128
	// hostileTime is for how long the registry is in an enemy's hands; TUND_TEST_SCALE_HOSTILE says
	// otherwise, such as 10m.
	hostileTime = 30 * time.Second
	// actPause is the time between two of the things that he does.
	actPause = 5 * time.Millisecond
)

// adversary has the whole registry in his hands: he can write, delete and end what he likes, and
// has every document that was ever published. He has no key of a signer, and that of one site.
type adversary struct {
	f      *fleet
	seed   uint64
	random *rand.Rand
	seen   map[string][][]byte // valid documents by key, the oldest first
	keys   []string
	other  *network // the same sites and keys, under another signer
	victim int      // the site whose key he has
	did    map[string]int
}

// TestHostile lets an adversary do what comes to his mind, while sites go on to change: no agent
// may add, move or remove a peer for that, and none may take up more and more memory.
func TestHostile(t *testing.T) {
	f := newFleet(t, min(agents(t), 20), "--quota-backend-bytes", "1073741824")
	f.startAll()
	f.agree("start")
	process, dir := f.agentProcess(f.reals[0])
	end := f.traffic(f.reals[0], f.reals[1])
	defer func() { end(t) }()
	before := f.removed()
	a := newAdversary(f)
	how := hostileTime
	if text := os.Getenv("TUND_TEST_SCALE_HOSTILE"); text != "" {
		var err error
		if how, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	most, least := 0.0, resident(t, process.Pid)
	pace := time.NewTicker(actPause)
	defer pace.Stop()
	for began := time.Now(); time.Since(began) < how; <-pace.C {
		a.act()
		if a.random.IntN(20) == 0 {
			a.honest(f.change, a.random.IntN(movers-2))
		}
		most = max(most, resident(t, process.Pid))
	}
	t.Logf("seed %d, for %v: %v", a.seed, how, a.did)
	t.Logf("an agent of %d sites took %.0f MiB at first, and at most %.0f MiB", len(f.net.sites), least, most)
	if most > agentMemory {
		t.Errorf("an agent takes %.0f MiB", most)
	}
	f.unchanged("an adversary", before)
	text, err := os.ReadFile(filepath.Join(dir, agent.StatusName))
	var status agent.Status
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err != nil || len(status.Refused) == 0 {
		t.Errorf("the status of the agent: %v\n%s", err, text)
	}
	t.Logf("it has refused %v", status.Refused)
	a.leaves()
	f.documents(false)
	f.change(1)
	f.agree("once he is gone")
	f.unchanged("an adversary who is gone", before)
}

// agentProcess runs the program in place of the agent of a real site that is a part of the test. It
// keeps its files in dir.
func (f *fleet) agentProcess(r *real) (process *os.Process, dir string) {
	t := f.t
	t.Helper()
	r.stop()
	site, name := &f.net.sites[r.site], f.net.name(r.site)
	dir = testnet.Scratch(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("agent.key", base64.StdEncoding.EncodeToString(site.key.Seed())+"\n")
	file := write("agent.toml", fmt.Sprintf("instance = %q\nstate_dir = %q\nnetwork = \"acme\"\ntrust = [%q]\nsite = %q\n"+
		"[etcd]\nendpoints = [\"%s\"]\nca = %q\ncert = %q\nkey = %q\n[publish]\nendpoints = [%q]\nprefixes = [%q]\n",
		name, dir, public(f.net.signer), site.id, strings.Join(f.c.URLs(), `", "`), f.c.ca.path("ca.pem"), f.c.ca.path(name+".pem"),
		f.c.ca.path(name+".key"), site.real.String(), site.prefix))
	cmd := exec.Command(filepath.Join(filepath.Dir(testnet.Tund(t)), "tund-agent"), "-c", file)
	cmd.Env = append(os.Environ(), "TUND_RUN_DIR="+r.RunDir())
	log, err := os.Create(filepath.Join(dir, "log"))
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Errorf("tund-agent: %v\n%s", err, text)
		}
		_ = log.Close()
	})
	testnet.Await(t, "the agent has handed in its peers", limit(), func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "state.jsonl"))
		return err == nil && len(text) > 0
	})
	return cmd.Process, dir
}

func newAdversary(f *fleet) *adversary {
	seed := uint64(time.Now().UnixNano())
	a := &adversary{f: f, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), seen: map[string][][]byte{}, did: map[string]int{},
		victim: f.mover(movers - 1), other: newNetwork(f.t, len(f.net.sites))}
	a.other.signer = f.net.sites[a.victim].key
	a.sees("crl", f.net.revoke())
	for range 3 { // lists that are older than what the agents have
		a.sees("crl", f.net.revoke())
	}
	f.c.put("crl", a.newest("crl"))
	for i := range f.net.sites {
		a.sees(f.net.grantKey(i), f.net.grant(i))
		for version := 1; version <= f.net.want(i); version++ {
			a.sees(f.net.recordKey(i), f.net.record(i, version))
		}
	}
	return a
}

func (a *adversary) sees(key string, document []byte) {
	if len(a.seen[key]) == 0 {
		a.keys = append(a.keys, key)
	}
	a.seen[key] = append(a.seen[key], document)
}

func (a *adversary) newest(key string) []byte { return a.seen[key][len(a.seen[key])-1] }

// honest has a mover change, which the adversary sees.
func (a *adversary) honest(change func(int), n int) {
	change(n)
	i := a.f.mover(n)
	a.sees(a.f.net.recordKey(i), a.f.net.record(i, a.f.net.want(i)))
	a.did["honest change"]++
}

func pick[T any](a *adversary, list []T) T { return list[a.random.IntN(len(list))] }

// put writes without regard to what becomes of it.
func (a *adversary) put(key string, value []byte) {
	a.try(func(ctx context.Context) { _, _ = a.f.c.admin.Put(ctx, root+key, string(value)) })
}

func (a *adversary) try(f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	f(ctx)
}

// act does one thing.
func (a *adversary) act() {
	all := map[string]func(){
		"mutated": func() { key := pick(a, a.keys); a.put(key, a.mutated(pick(a, a.seen[key]))) },
		"replayed": func() {
			key := pick(a, a.keys)
			a.put(key, pick(a, a.seen[key]))
		},
		"swapped":        func() { a.put(pick(a, a.keys), pick(a, a.seen[pick(a, a.keys)])) },
		"half":           func() { key := pick(a, a.keys); d := a.newest(key); a.put(key, d[:a.random.IntN(len(d))]) },
		"huge":           func() { a.put(pick(a, a.keys), make([]byte, 1<<a.random.IntN(20))) },
		"another signer": a.anotherSigner,
		"beyond":         a.beyond,
		"many keys":      a.manyKeys,
		"deleted":        func() { a.try(func(ctx context.Context) { _, _ = a.f.c.admin.Delete(ctx, root+pick(a, a.keys)) }) },
		"all deleted":    func() { a.deleteBelow("") },
		"surplus gone":   func() { a.deleteBelow("site/" + a.f.net.sites[a.victim].id.ID() + "/x") },
		"all replayed":   a.allReplayed,
		"compacted":      a.compacted,
		"leases ended":   a.endLeases,
		"false presence": func() { a.put("site/"+pick(a, a.f.net.sites).id.ID()+"/up", []byte(`{"since":"never"}`)) },
	}
	seldom := map[string]int{"many keys": 40, "all deleted": 20, "all replayed": 10, "compacted": 20, "leases ended": 10}
	name := pick(a, slices.Sorted(maps.Keys(all)))
	if n := seldom[name]; n > 0 && a.random.IntN(n) > 0 {
		return
	}
	a.did[name]++
	all[name]()
}

// mutated changes a document a little.
func (a *adversary) mutated(document []byte) []byte {
	d := slices.Clone(document)
	for range 1 + a.random.IntN(4) {
		i := a.random.IntN(len(d))
		switch a.random.IntN(4) {
		case 0:
			d[i] ^= 1 << a.random.IntN(8)
		case 1:
			d = slices.Insert(d, i, d[:i]...)
		case 2:
			d = slices.Delete(d, i, min(len(d)-1, i+a.random.IntN(20)))
		case 3:
			d[i] = pick(a, []byte(`"{}[]:,0123456789\`))
		}
	}
	return d
}

// anotherSigner writes what would be valid if he were a signer.
func (a *adversary) anotherSigner() {
	i := a.random.IntN(len(a.f.net.sites))
	switch a.random.IntN(3) {
	case 0:
		a.put(a.other.grantKey(i), a.other.grant(i))
	case 1:
		a.put("crl", a.other.revoke(i))
	case 2:
		a.put(a.f.net.grantKey(i), a.other.grant(i))
	}
}

// beyond writes records that his site may not sign: of prefixes that were not granted to it, or of
// another site, network or grant.
func (a *adversary) beyond() {
	s := a.f.net.sites[a.victim]
	r := a.f.net.own(a.victim, 9999)
	r.Network, r.Site, r.Grant, r.Epoch, r.Serial = "acme", s.id, 1, 9, a.random.Uint64()
	r.NotAfter = time.Now().Add(time.Hour).Truncate(time.Second)
	key := a.f.net.recordKey(a.victim)
	switch a.random.IntN(5) {
	case 0:
		r.Prefixes = append(r.Prefixes, pick(a, a.f.net.sites).prefix, netip.MustParsePrefix("0.0.0.0/0"))
	case 1:
		i := a.f.mover(a.random.IntN(movers - 1))
		r.Site, key = a.f.net.sites[i].id, a.f.net.recordKey(i)
	case 2:
		r.Network = "other"
	case 3:
		r.Grant = 2
	case 4:
		r.NotAfter = time.Now().Add(-time.Hour)
	}
	document, err := record.SignRecord(r, s.key)
	if err != nil || r.Site == s.id && len(r.Prefixes) == 1 && r.Network == "acme" && r.Grant == 1 && r.NotAfter.After(time.Now()) {
		return
	}
	a.put(key, document)
}

// manyKeys writes thousands of keys at once, some of which look as if they belonged there.
func (a *adversary) manyKeys() {
	id := a.f.net.sites[a.victim].id.ID()
	shape := pick(a, []string{"site/" + id + "/x%d", "grant/x%d", "l2/7/" + id + "/%02x", "site/%d/rec", "%d", "site/" + id + "/rec/%d"})
	value := make([]byte, a.random.IntN(2000))
	for chunk := range 20 {
		var puts []clientv3.Op
		for n := range 100 {
			puts = append(puts, clientv3.OpPut(root+fmt.Sprintf(shape, 100*chunk+n), string(value)))
		}
		a.try(func(ctx context.Context) { _, _ = a.f.c.admin.Txn(ctx).Then(puts...).Commit() })
	}
}

func (a *adversary) deleteBelow(prefix string) {
	a.try(func(ctx context.Context) { _, _ = a.f.c.admin.Delete(ctx, root+prefix, clientv3.WithPrefix()) })
}

// allReplayed shows the registry as it was at some time, or as it might have been.
func (a *adversary) allReplayed() {
	all := map[string][]byte{}
	for _, key := range a.keys {
		if a.random.IntN(10) > 0 {
			all[key] = pick(a, a.seen[key])
		}
	}
	a.f.c.putAll(all)
}

func (a *adversary) compacted() {
	a.try(func(ctx context.Context) {
		now, err := a.f.c.admin.Get(ctx, root+"crl")
		if err == nil {
			_, _ = a.f.c.admin.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		}
	})
}

func (a *adversary) endLeases() {
	a.try(func(ctx context.Context) {
		leases, err := a.f.c.admin.Leases(ctx)
		if err != nil {
			return
		}
		for _, l := range leases.Leases {
			_, _ = a.f.c.admin.Revoke(ctx, l.ID)
		}
	})
}

// leaves removes all that he has written.
func (a *adversary) leaves() {
	a.f.c.do("remove all", func(ctx context.Context) error {
		_, err := a.f.c.admin.Delete(ctx, root, clientv3.WithPrefix())
		return err
	})
}
