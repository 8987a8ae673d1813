package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tund/internal/control"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

func private(n byte) ed25519.PrivateKey {
	seed := [ed25519.SeedSize]byte{n}
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(n byte) record.Key { return record.Key(private(n).Public().(ed25519.PublicKey)) }

func siteOf(i int) record.Site { return record.Site{1, byte(i >> 8), byte(i)} }

// fakeDaemon is a tund that checks what an agent asks for.
type fakeDaemon struct {
	mu         sync.Mutex
	epoch      string
	generation uint64
	peers      map[string]string // names by public key
	down       error
	puts       int
	patches    int
	least      int // the smallest number of peers so far

	dies func(control.SourcePatch) // what becomes of the next change, whose answer is lost
}

func newDaemon() *fakeDaemon { return &fakeDaemon{peers: map[string]string{}} }

// restart forgets everything, as a tund that is started again does.
func (f *fakeDaemon) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch, f.generation, f.peers = "", 0, map[string]string{}
}

func (f *fakeDaemon) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *fakeDaemon) Sources(context.Context) (control.SourceTable, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return control.SourceTable{Sources: []control.Source{{Name: "agent", Epoch: f.epoch, Generation: f.generation, Peers: len(f.peers)}}}, f.down
}

func (f *fakeDaemon) AgentPeers(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.peers)), f.down
}

func (f *fakeDaemon) Put(_ context.Context, p control.SourcePut) (control.SourceAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return control.SourceAnswer{}, f.down
	}
	f.puts++
	f.epoch, f.generation, f.peers = p.Epoch, p.Generation, map[string]string{}
	for _, peer := range p.Peers {
		f.peers[peer["public_key"].(string)] = peer["name"].(string)
	}
	f.least = min(f.least, len(f.peers))
	return control.SourceAnswer{Generation: f.generation}, nil
}

func (f *fakeDaemon) Patch(_ context.Context, p control.SourcePatch) (control.SourceAnswer, error) {
	f.mu.Lock()
	if dies := f.dies; dies != nil && len(p.Peers.Set) > 0 {
		f.dies = nil
		f.mu.Unlock()
		dies(p)
		return control.SourceAnswer{}, errDied
	}
	defer f.mu.Unlock()
	if f.down != nil {
		return control.SourceAnswer{}, f.down
	}
	if p.Epoch != f.epoch || p.IfGeneration != f.generation {
		return control.SourceAnswer{}, &control.Error{Code: control.CodeGeneration, Message: "another generation"}
	}
	f.patches++
	f.generation = p.Generation
	for _, key := range p.Peers.Remove {
		delete(f.peers, key)
	}
	for _, peer := range p.Peers.Set {
		f.peers[peer["public_key"].(string)] = peer["name"].(string)
	}
	f.least = min(f.least, len(f.peers))
	return control.SourceAnswer{Generation: f.generation}, nil
}

// counts returns how often everything was handed in, and the smallest number of peers since names.
func (f *fakeDaemon) counts() (puts, least int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts, f.least
}

// names lists the daemon's peers and begins to watch for fewer.
func (f *fakeDaemon) names() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.least = len(f.peers)
	return strings.Join(slices.Sorted(maps.Values(f.peers)), " ")
}

// fakeStore shows what a test gives it.
type fakeStore struct {
	mu     sync.Mutex
	values map[string][]byte
	news   chan News
}

func (s *fakeStore) Run(ctx context.Context, sink func(News)) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-s.news:
			sink(n)
		}
	}
}

func (s *fakeStore) Put(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	return nil
}

// get returns the document of a key.
func (s *fakeStore) get(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key]
}

// set replaces the document of a key.
func (s *fakeStore) set(key string, value []byte) { _ = s.Put(context.Background(), key, value) }

// replace gives the store other documents and returns those that it had.
func (s *fakeStore) replace(values map[string][]byte) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.values
	s.values = values
	return was
}

// world is a registry with sites, of which site 0 is ours, and its agent.
type world struct {
	t      *testing.T
	store  *fakeStore
	daemon *fakeDaemon
	disk   *memory
	stop   func()

	agent   *Agent       // the one that runs
	signers []record.Key // whom the next agent trusts
}

func inWorld(t *testing.T, sites int, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, daemon: newDaemon(), disk: &memory{files: map[string][]byte{}}, signers: []record.Key{public(1)},
			store: &fakeStore{values: map[string][]byte{}, news: make(chan News)}}
		for i := range sites {
			w.grant(i, 1)
			if i > 0 {
				w.record(i, 1)
			}
		}
		w.start()
		f(w)
		w.stop()
	})
}

func (w *world) start() { w.startWith(w.options(w.disk)) }

// options are those of an agent with a disk.
func (w *world) options(disk Disk) Options {
	return Options{
		View:   view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(0)},
		Daemon: w.daemon, Own: record.Record{Endpoints: []string{"192.0.2.9:51820"}}, Disk: disk,
	}
}

// startWith starts an agent with a disk and a key, and with our store unless it has another one.
func (w *world) startWith(o Options) {
	if o.Store == nil {
		o.Store = w.store
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Disk == nil {
		o.Disk = w.disk
	}
	o.Key, o.Lifetime = private(2), 24*time.Hour
	a, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	w.stop = func() { cancel(); <-done }
}

func (w *world) sign(data []byte, err error) []byte {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) grant(i int, serial uint64) {
	w.t.Helper()
	now := time.Now()
	w.store.set("grant/"+siteOf(i).ID(), w.sign(record.SignGrant(record.Grant{
		Network: "acme", Site: siteOf(i), Agent: public(2), Name: fmt.Sprintf("s%02d", i), Serial: serial,
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i)}), 24)}, NotBefore: now, NotAfter: now.Add(5000 * time.Hour),
	}, private(1))))
}

func (w *world) record(i int, serial uint64) {
	w.t.Helper()
	w.store.set("site/"+siteOf(i).ID()+"/rec", w.sign(record.SignRecord(record.Record{
		Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1, Serial: serial, NotAfter: time.Now().Add(1000 * time.Hour)}, private(2))))
}

// shows makes the store show everything that it has.
func (w *world) shows() {
	w.store.mu.Lock()
	all := maps.Clone(w.store.values)
	w.store.mu.Unlock()
	w.store.news <- News{All: all}
	w.passes(time.Second)
}

func (w *world) passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) expect(when, want string) {
	w.t.Helper()
	if got := w.daemon.names(); got != want {
		w.t.Errorf("%s: the daemon has %q, want %q", when, got, want)
	}
}

func TestAgent_followsTheStore(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		w.passes(time.Minute)
		w.expect("before the store has shown anything", "")
		if puts, _ := w.daemon.counts(); puts != 0 {
			t.Error("the daemon was told something before the store has shown anything")
		}
		w.shows()
		w.expect("at first", "s01 s02")
		before, _ := w.daemon.counts()
		w.grant(3, 1)
		w.record(3, 1)
		for _, key := range []string{"grant/" + siteOf(3).ID(), "site/" + siteOf(3).ID() + "/rec"} {
			w.store.news <- News{Key: key, Value: w.store.get(key)}
		}
		w.passes(100 * time.Millisecond)
		w.expect("a site that joins, within 100 ms", "s01 s02 s03")
		if puts, _ := w.daemon.counts(); puts != before {
			t.Error("a change of one site leads to a PUT of all")
		}
		w.store.news <- News{Key: "site/" + siteOf(3).ID() + "/rec"}
		w.store.news <- News{All: map[string][]byte{}}
		w.store.news <- News{Err: errors.New("no route to host")}
		w.passes(time.Hour)
		w.expect("after a deletion, an empty list and an outage", "s01 s02 s03")
		if n := w.agent.Status().SitesAbsent; n != 3 {
			t.Errorf("the status has %d records that the registry lacks, want 3", n)
		}
		crl := w.sign(record.SignRevocations(record.Revocations{Network: "acme", Sequence: 1, Revoked: map[record.Site]uint64{siteOf(2): 1}}, private(1)))
		w.store.news <- News{Key: "crl", Value: crl}
		w.passes(100 * time.Millisecond)
		w.expect("revoked, within 100 ms", "s01 s03")
	})
}

func TestAgent_restartsOfEitherSide(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		all := w.daemon.names()
		w.daemon.restart()
		w.passes(beat + time.Second)
		w.expect("after a restart of tund", all)
		w.passes(time.Minute)
		w.stop()
		w.start() // and the store does not answer
		w.passes(time.Minute)
		w.expect("after a restart of the agent", all)
		w.daemon.restart()
		w.stop()
		w.start()
		w.passes(time.Minute)
		w.expect("after a restart of both, without a store", all)
		if _, least := w.daemon.counts(); least != 29 {
			t.Errorf("%d peers at some moment", least)
		}
		w.daemon.fail(errors.New("connection refused"))
		w.grant(40, 1)
		w.record(40, 1)
		w.shows()
		w.passes(time.Hour)
		w.daemon.fail(nil)
		w.passes(lastRetry + time.Second)
		w.expect("once tund answers again", all+" s40")
		for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.ECONNREFUSED} {
			w.daemon.fail(&control.DialError{Err: errno})
			w.daemon.restart()
			w.passes(time.Hour)
			w.daemon.fail(nil)
			w.passes(beat + time.Second)
			w.expect("five seconds after a tund was started that was stopped for an hour", all+" s40")
		}
	})
}

// An agent that has lost its state does not take an empty store for the truth.
func TestAgent_withoutMemoryDoubtsAnEmptyStore(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		all := w.daemon.names()
		w.stop()
		clear(w.disk.files)
		full := w.store.replace(map[string][]byte{})
		w.start()
		w.shows()
		w.passes(50 * time.Minute)
		w.expect("with an empty store and no state", all)
		w.store.replace(full)
		w.shows()
		w.passes(lastRetry)
		w.expect("once the store is full again", all)
		if _, least := w.daemon.counts(); least != 29 {
			t.Errorf("%d peers at some moment", least)
		}
	})
}
