package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"tund/internal/registry/agent"
	"tund/internal/testnet"
	"tund/internal/testnet/etcd"
)

// limit bounds whatever a cluster on a busy machine is to do.
const limit = 30 * time.Second

// cluster is three members of etcd on loopback.
type cluster struct {
	*etcd.Cluster
	t *testing.T
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{etcd.New(t, 3, etcd.Options{Dir: t.TempDir()}), t}
	c.StartAll(t)
	return c
}

func (c *cluster) open() *Store {
	c.t.Helper()
	s, err := Open(Options{Endpoints: c.URLs(), Network: "acme"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() })
	return s
}

// do repeats f until it succeeds.
func (c *cluster) do(what string, f func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cluster) put(s *Store, key, value string) {
	c.t.Helper()
	c.do("put", func(ctx context.Context) error { return s.Put(ctx, key, []byte(value)) })
}

// mirror is what somebody who follows a store knows of it.
type mirror struct {
	mu     sync.Mutex
	values map[string]string
	lists  int
	errs   int

	surplus int // of the last list
}

func follow(t *testing.T, s *Store) *mirror {
	m := &mirror{values: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx, m.take); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func (m *mirror) take(n agent.News) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case n.Err != nil:
		m.errs++
	case n.All != nil:
		m.lists++
		m.surplus = n.Surplus
		m.values = map[string]string{}
		for key, value := range n.All {
			m.values[key] = string(value)
		}
	case n.Value == nil:
		delete(m.values, n.Key)
	default:
		m.values[n.Key] = string(n.Value)
	}
}

func (m *mirror) has(t *testing.T, when, key, want string) {
	t.Helper()
	testnet.Await(t, when, limit, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		value, there := m.values[key]
		return value == want && there == (want != "")
	})
}

func (m *mirror) count() (lists, errs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists, m.errs
}

// A cluster of three: changes arrive, in pages and one by one; the leader may go; when all go, the
// follower is told so and of nothing else, and finds what was changed and compacted meanwhile.
func TestStore_followsACluster(t *testing.T) {
	t.Parallel()
	testnet.Require(t)
	c := newCluster(t)
	writer := c.open()
	for i := range pageSize + 20 {
		c.put(writer, fmt.Sprintf("grant/%04d", i), "x")
	}
	c.do("put elsewhere", func(ctx context.Context) error {
		_, err := writer.client.Put(ctx, "/tund/v1/acme2/crl", "another network")
		return err
	})
	// A site that fills its own part of the registry keeps nobody from the rest.
	c.put(writer, "site/a/rec", "after what is no document")
	c.put(writer, "site/b/rec", "of another site")
	c.do("fill a part", func(ctx context.Context) error {
		for i := 0; i < 2*pageSize; i += 100 {
			var writes []clientv3.Op
			for n := range 100 {
				writes = append(writes, clientv3.OpPut(fmt.Sprintf("/tund/v1/acme/site/a/%04d", i+n), "x"))
			}
			if _, err := writer.client.Txn(ctx).Then(writes...).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	reader := c.open()
	reader.progressEvery, reader.silence, reader.callTimeout = 200*time.Millisecond, time.Second, time.Second
	m := follow(t, reader)
	calm := follow(t, c.open()) // which a busy machine does not make read everything again
	calm.has(t, "the second page, with the usual times", fmt.Sprintf("grant/%04d", pageSize+19), "x")
	m.has(t, "the second page", fmt.Sprintf("grant/%04d", pageSize+19), "x")
	m.mu.Lock()
	if len(m.values) != pageSize+21 || m.values["site/b/rec"] == "" || m.surplus == 0 || m.surplus > pageSize {
		t.Errorf("%d documents, want %d; %d values were passed over one by one", len(m.values), pageSize+21, m.surplus)
	}
	m.mu.Unlock()
	lists, _ := calm.count()
	start := time.Now()
	c.put(writer, "crl", "1")
	m.has(t, "a change", "crl", "1")
	t.Logf("a change arrives after %v", time.Since(start))
	c.do("delete", func(ctx context.Context) error {
		_, err := writer.client.Delete(ctx, "/tund/v1/acme/grant/0000")
		return err
	})
	m.has(t, "a deletion", "grant/0000", "")
	calm.has(t, "a deletion, with the usual times", "grant/0000", "")
	if again, _ := calm.count(); again != lists {
		t.Error("changes lead to reading everything again")
	}

	leader := -1
	c.do("find the leader", func(ctx context.Context) error {
		for i, url := range c.URLs() {
			status, err := writer.client.Status(ctx, url)
			if err != nil {
				return err
			}
			if status.Header.MemberId == status.Leader {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("no leader")
	})
	c.Kill(leader)
	start = time.Now()
	c.put(writer, "crl", "2")
	t.Logf("a write after the leader was killed takes %v", time.Since(start))
	m.has(t, "a change without the old leader", "crl", "2")
	c.Start(t, leader)

	// A watch whose revisions are gone ends with an error, so that everything is read again.
	var at moment
	c.do("compact", func(ctx context.Context) error {
		now, err := writer.client.Get(ctx, "/tund/v1/acme/crl")
		if err != nil {
			return err
		}
		at = moment{now.Header.ClusterId, now.Header.Revision}
		_, err = writer.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		return err
	})
	if err := reader.watch(t.Context(), moment{at.cluster, 1}, time.Hour, func(agent.News) {}); err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("a watch from a compacted revision: %v", err)
	}
	// So does one at a cluster that has gone back to a backup, or that is another one.
	for _, was := range []moment{{at.cluster, at.revision + 1000}, {at.cluster + 1, at.revision}} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if err := reader.watch(ctx, was, time.Hour, func(agent.News) {}); !errors.Is(err, errOther) {
			t.Errorf("a watch after %+v, at %+v: %v", was, at, err)
		}
		cancel()
	}

	// A watch ends as soon as it is told to, or an agent could not be stopped.
	patient := c.open()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = patient.watch(ctx, at, time.Hour, func(agent.News) {}); close(ended) }()
		time.Sleep(20 * time.Millisecond) // the watches have begun
		cancel()
		select {
		case <-ended:
		case <-time.After(patient.silence / 2):
			t.Fatal("a watch that is told to end goes on")
		}
	}

	// What hangs on a lease comes back after the lease was lost, and VLANs of no interest are not
	// read.
	site, err := Open(Options{Endpoints: c.URLs(), Network: "acme", Hosts: true, VLANs: []uint16{7}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = site.Close() })
	of7 := follow(t, site)
	c.put(writer, "l2/9/x/00", "of VLAN 9")
	site.Hold("site/x/up", []byte("here"))
	site.Hold("l2/7/x/00", []byte("of VLAN 7"))
	of7.has(t, "a document on a lease", "l2/7/x/00", "of VLAN 7")
	m.has(t, "a lease", "site/x/up", "here")
	var lost clientv3.LeaseID
	c.do("end the lease", func(ctx context.Context) error {
		leases, err := writer.client.Leases(ctx)
		if err != nil {
			return err
		}
		for _, l := range leases.Leases {
			lost = l.ID
			_, err = writer.client.Revoke(ctx, l.ID)
		}
		return err
	})
	c.do("another lease", func(ctx context.Context) error {
		leases, err := writer.client.Leases(ctx)
		if err == nil && (len(leases.Leases) != 1 || leases.Leases[0].ID == lost) {
			err = fmt.Errorf("leases %v", leases.Leases)
		}
		return err
	})
	for _, key := range []string{"site/x/up", "l2/7/x/00"} {
		testnet.Await(t, key+" is written again", limit, func() bool {
			got, err := writer.client.Get(t.Context(), "/tund/v1/acme/"+key)
			return err == nil && len(got.Kvs) == 1 && got.Kvs[0].Lease != 0 && got.Kvs[0].Lease != int64(lost)
		})
	}
	c.runsTwice(writer)
	of7.mu.Lock()
	if _, there := of7.values["l2/9/x/00"]; there || of7.values["crl"] != "2" {
		t.Error("a site with VLAN 7 reads the hosts of VLAN 9, or too little")
	}
	of7.mu.Unlock()
	m.mu.Lock()
	for key := range m.values {
		if strings.HasPrefix(key, "l2/") {
			t.Error("a site without frames reads about hosts")
		}
	}
	m.mu.Unlock()

	c.KillAll()
	testnet.Await(t, "an outage is told", limit, func() bool { _, errs := m.count(); return errs > 0 })
	m.mu.Lock()
	delete(m.values, "site/x/up") // which is there, or is not yet again
	if m.values["crl"] != "2" || len(m.values) != pageSize+21 {
		t.Errorf("the outage changes what is known: %d documents", len(m.values))
	}
	m.mu.Unlock()
	c.StartAll(t)
	c.put(writer, "crl", "3")
	m.has(t, "a change after the outage", "crl", "3")
}

// runsTwice: a store that is run again, as an agent does when the clock was set, keeps on a lease
// what it was given before.
func (c *cluster) runsTwice(other *Store) {
	c.t.Helper()
	s, err := Open(Options{Endpoints: c.URLs(), Network: "twice"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() })
	s.Hold("site/x/up", []byte("here"))
	lease := int64(0)
	for range 2 {
		ctx, cancel := context.WithCancel(c.t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx, func(agent.News) {}); close(ended) }()
		testnet.Await(c.t, "the document is on another lease", limit, func() bool {
			got, err := other.client.Get(ctx, "/tund/v1/twice/site/x/up")
			if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == lease {
				return false
			}
			lease = got.Kvs[0].Lease
			return true
		})
		cancel()
		<-ended
	}
}

// Neither tund nor tunctl is linked with the client of etcd.
func TestLinkage(t *testing.T) {
	t.Parallel()
	for program, linked := range map[string]bool{"tund": false, "tunctl": false, "tund-agent": true} {
		out, err := exec.Command("go", "list", "-deps", "tund/cmd/"+program).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, module := range []string{"go.etcd.io/", "google.golang.org/grpc"} {
			if strings.Contains(string(out), module) != linked {
				t.Errorf("%s and %s: linked is %v, want %v", program, module, !linked, linked)
			}
		}
	}
}
