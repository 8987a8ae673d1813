package scale

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unique"

	"go.uber.org/zap"

	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/registry/agent"
	"tund/internal/registry/etcdstore"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
	"tund/internal/testnet"
)

// movers is how many sites have no agent here: the test writes their records, and changes them.
const movers = 20

// fleet is the agents of a network and their daemons. The first sites have agents and daemons that
// are a part of the test, then come real ones, and the last are movers.
type fleet struct {
	t       *testing.T
	c       *cluster
	net     *network
	runDir  string
	agents  []*member
	movers  int
	reals   []*real
	laps    *laps
	gates   []*gate // the way to the cluster of one agent in three
	faults  atomic.Int64
	perhaps sync.Mutex // guards reports
	ended   time.Time  // when everything began to be taken down; zero: not yet
}

// member is a site with an agent.
type member struct {
	daemon *daemon
	disk   *disk
	stop   func()
}

// disk is the memory of an agent across restarts (agent.Disk). Agents write mostly the same lines,
// of which there is one in memory.
type disk struct {
	mu    sync.Mutex
	files map[string][]unique.Handle[string] // lines
}

func newDisk() *disk { return &disk{files: map[string][]unique.Handle[string]{}} }

func lines(data []byte) (list []unique.Handle[string]) {
	for line := range bytes.Lines(data) {
		list = append(list, unique.Make(string(line)))
	}
	return list
}

func (d *disk) Open(name string) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file, there := d.files[name]
	if !there {
		return nil, nil
	}
	var data bytes.Buffer
	for _, line := range file {
		data.WriteString(line.Value())
	}
	return io.NopCloser(&data), nil
}

func (d *disk) Save(name string, write func(io.Writer) error) error {
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = lines(data.Bytes())
	return nil
}

func (d *disk) Append(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = append(d.files[name], lines(data)...)
	return nil
}

// newFleet makes a cluster, a network of n sites with agents, the real ones and the movers, and the
// documents of all in the registry. No agent runs yet.
func newFleet(t *testing.T, n int, options ...string) (f *fleet) {
	t.Helper()
	return newFleetOf(t, n, movers, options...)
}

// newFleetOf is newFleet with another number of movers.
func newFleetOf(t *testing.T, n, movers int, options ...string) (f *fleet) {
	t.Helper()
	began := time.Now()
	t.Cleanup(debug.FreeOSMemory) // the next one has as many
	t.Cleanup(func() {
		if f != nil && !f.ended.IsZero() {
			t.Logf("taking down took %v", time.Since(f.ended).Round(100*time.Millisecond))
		}
	})
	f = &fleet{t: t, c: newCluster(t, options...), net: newNetwork(t, n+reals+movers), runDir: testnet.Scratch(t), movers: movers,
		laps: &laps{daemons: n, open: map[[2]int]*lap{}}}
	for _, client := range f.c.Addresses() {
		f.gates = append(f.gates, newGate(t, client))
	}
	log := events.New(time.Now())
	for i := range n {
		m := &member{disk: newDisk()}
		m.daemon = &daemon{net: f.net, laps: f.laps, self: i, log: log, fault: f.fault, have: make([]int, len(f.net.sites))}
		f.agents = append(f.agents, m)
		m.daemon.serve(t, f.runDir, f.net.name(i))
	}
	t.Cleanup(func() { parallel(n, func(i int) { f.agents[i].daemon.close(t) }) })
	for i := range n + reals {
		f.c.ca.issue(f.net.name(i), time.Now().Add(24*time.Hour))
	}
	f.newReals()
	t.Cleanup(f.stopAll)
	t.Cleanup(func() { f.ended = time.Now() })
	f.users()
	f.documents(true)
	t.Logf("%d sites: their users and documents are there after %v, and etcd took %v of processor time for them",
		len(f.net.sites), time.Since(began).Round(100*time.Millisecond), f.c.processorTime())
	return f
}

// of makes a test the one that fails.
func (f *fleet) of(t *testing.T) { f.t, f.c.t, f.c.ca.t, f.net.t = t, t, t, t }

// users lets each site read everything and write its own record. With each change of a user, or of
// what a role permits, etcd works out what every user may do: all roles are made before there are
// users.
func (f *fleet) users() {
	f.t.Helper()
	sites := len(f.agents) + reals
	parallel(sites, func(i int) { f.c.addRole(f.role(i), f.net.sites[i].id.ID()) })
	parallel(sites, func(i int) { f.c.addUser(f.net.name(i), f.role(i)) })
}

func (f *fleet) role(i int) string { return "site-" + f.net.name(i) }

// documents writes the documents of signers and movers into the registry, as they are now, and
// those of the agents, which they otherwise write themselves.
func (f *fleet) documents(agents bool) {
	f.t.Helper()
	all := map[string][]byte{"crl": f.net.revoke()}
	for i := range f.net.sites {
		all[f.net.grantKey(i)] = f.net.grant(i)
		version := f.net.want(i)
		if version == 0 && !f.net.sites[i].gone {
			version, _ = f.net.next(i)
		}
		if version > 0 && (agents || i >= f.mover(0)) {
			all[f.net.recordKey(i)] = f.net.record(i, version)
		}
	}
	f.c.putAll(all)
}

// parallel runs f for 0 to n-1, some at a time.
func parallel(n int, work func(int)) {
	var all sync.WaitGroup
	next := atomic.Int64{}
	for range 16 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				work(i)
			}
		})
	}
	all.Wait()
}

// fault notes that a daemon was asked for what no agent may ever ask.
func (f *fleet) fault(format string, args ...any) {
	f.perhaps.Lock()
	defer f.perhaps.Unlock()
	if f.faults.Add(1) <= 10 {
		f.t.Errorf(format, args...)
	}
}

// behind returns the addresses of the cluster for an agent: one in three goes through the gates.
func (f *fleet) behind(i int) []string {
	if i%3 != 1 {
		return f.c.URLs()
	}
	var urls []string
	for _, g := range f.gates {
		urls = append(urls, "https://"+g.addr())
	}
	return urls
}

func (f *fleet) startAgent(i int) {
	f.t.Helper()
	f.start(f.agents[i], i, f.runDir)
}

// start starts the agent of a site, whose daemon is below runDir.
func (f *fleet) start(m *member, i int, runDir string) {
	f.t.Helper()
	name := f.net.name(i)
	store, err := etcdstore.Open(etcdstore.Options{Endpoints: f.behind(i), CA: f.c.ca.path("ca.pem"),
		Cert: f.c.ca.path(name + ".pem"), Key: f.c.ca.path(name + ".key"), Network: "acme"})
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := agent.New(agent.Options{
		View: view.Options{Trust: record.Trust{Network: "acme", Signers: []record.Key{public(f.net.signer)}, Threshold: 1},
			Self: f.net.sites[i].id},
		Store: store, Daemon: control.NewAgentClient(runDir, name), Disk: m.disk, Log: zap.NewNop(),
		Key: f.net.sites[i].key, Own: f.net.own(i, 1), Lifetime: lifetime,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	m.stop = func() { cancel(); <-done; _ = store.Close(); m.stop = nil }
}

func (f *fleet) startAll() {
	f.t.Helper()
	for i := range f.agents {
		f.startAgent(i)
	}
	for _, r := range f.reals {
		f.start(&r.member, r.site, r.RunDir())
	}
}

func (f *fleet) stopAll() {
	all := slices.Clone(f.agents)
	for _, r := range f.reals {
		all = append(all, &r.member)
	}
	parallel(len(all), func(i int) {
		if stop := all[i].stop; stop != nil {
			stop()
		}
	})
}

// mover returns the number of a site whose records the test writes.
func (f *fleet) mover(n int) int { return len(f.agents) + reals + n%f.movers }

// change writes the next version of the record of a mover.
func (f *fleet) change(n int) {
	f.t.Helper()
	i := f.mover(n)
	version, document := f.net.next(i)
	f.laps.began(i, version)
	f.c.put(f.net.recordKey(i), document)
}

// changes writes n changes, a number of them in a second.
func (f *fleet) changes(n, perSecond int) {
	f.t.Helper()
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for i := range n {
		f.change(i)
		<-ticker.C
	}
}

// agree waits until all daemons have what follows from what was signed, and returns how long that
// took.
func (f *fleet) agree(when string) time.Duration {
	f.t.Helper()
	began := time.Now()
	left := f.agents
	for {
		want := f.net.versions()
		var reason string
		left = slices.DeleteFunc(slices.Clone(left), func(m *member) bool {
			why := m.daemon.differs(want)
			if why != "" {
				reason = why
			}
			return why == ""
		})
		if len(left) == 0 {
			if left = f.agents; f.all(want) {
				took := time.Since(began)
				for _, r := range f.reals {
					testnet.Await(f.t, when+": "+r.Name+" has its peers", limit(), func() bool { return r.differs(f, want) == "" })
				}
				return took
			}
		}
		if time.Since(began) > limit() {
			f.t.Fatalf("%s: %d of %d daemons do not have what was signed: %s", when, len(left), len(f.agents), reason)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// all reports whether every daemon has what is wanted, at one moment.
func (f *fleet) all(want []int) bool {
	return !slices.ContainsFunc(f.agents, func(m *member) bool { return m.daemon.differs(want) != "" })
}

// removed returns how many peers were removed at all daemons together.
func (f *fleet) removed() (total int) {
	for _, m := range f.agents {
		_, removed, _ := m.daemon.counts()
		total += removed
	}
	return total
}

// unchanged fails the test if peers were removed since there were so many removals.
func (f *fleet) unchanged(what string, before int) {
	f.t.Helper()
	if after := f.removed(); after != before {
		f.t.Errorf("%s: %d peers were removed", what, after-before)
	}
}

// figures prints the middle and the end of a list of times.
func figures(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	return fmt.Sprintf("p50 %v, p99 %v", quantile(list, 0.5).Round(time.Millisecond), quantile(list, 0.99).Round(time.Millisecond))
}

// quantile of a sorted list.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[min(int(q*float64(len(list))), len(list)-1)]
}
