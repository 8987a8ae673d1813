package scale

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/registry/agent"
	"tund/internal/registry/etcdstore"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
	"tund/internal/testnet"
)

// lanRoot is above all keys of a network whose sites carry frames.
const lanRoot = "/tund/v1/lan/"

// lan is sites that carry frames, with agents, in the same cluster.
type lan struct {
	t     *testing.T
	f     *fleet
	c     *cluster // the same one, as this test uses it
	gates []*gate  // the way of all but the first site to the cluster
	sites []*lanSite
}

// lanSite is a tund with a switch as its agent sees it: a host that is assigned to another site is
// no longer on its LAN.
type lanSite struct {
	*control.Server
	id    record.Site
	agent *agent.Agent
	log   *events.Log

	mu         sync.Mutex // guards what follows
	epoch      string
	generation uint64
	peers      map[string]bool
	hosts      map[control.HostID]control.HostEntry
	addrs      map[control.NeighborID]control.NeighborEntry
	local      map[control.HostID]string // on its LAN: the host's address
	removed    int                       // peers
}

func newLAN(t *testing.T, f *fleet, n int) *lan {
	t.Helper()
	c := *f.c
	c.t = t
	l := &lan{t: t, f: f, c: &c}
	for _, client := range c.Addresses() {
		l.gates = append(l.gates, newGate(t, client))
	}
	for i := range n {
		l.sites = append(l.sites, l.site(i))
	}
	return l
}

// put writes a document.
func (l *lan) put(key string, value []byte) {
	l.t.Helper()
	l.c.do("put "+key, func(ctx context.Context) error {
		_, err := l.c.admin.Put(ctx, lanRoot+key, string(value))
		return err
	})
}

// site grants a site and starts it.
func (l *lan) site(i int) *lanSite {
	t, f := l.t, l.f
	t.Helper()
	key := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), byte(i)))
	s := &lanSite{id: record.Site{9, byte(i)}, log: events.New(time.Now()), peers: map[string]bool{}, hosts: map[control.HostID]control.HostEntry{},
		addrs: map[control.NeighborID]control.NeighborEntry{}, local: map[control.HostID]string{}}
	name := fmt.Sprint("lan", i)
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i)}), 24)
	l.put("grant/"+s.id.ID(), f.net.must(record.SignGrant(record.Grant{
		Network: "lan", Site: s.id, Agent: public(key), Name: name, Serial: 1, Prefixes: []netip.Prefix{prefix},
		NotBefore: f.net.began.Add(-time.Hour).Truncate(time.Second), NotAfter: f.net.began.Add(lifetime).Truncate(time.Second),
	}, f.net.signer)))
	var err error
	s.Server, err = control.Listen(control.Options{RunDir: f.runDir, Instance: name})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := s.ListenAgent(os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- socket.Serve(s) }()
	t.Cleanup(func() { _, _ = socket.Close(), s.Close(); <-served })

	members := f.c.URLs()
	if i > 0 {
		members = nil
		for _, g := range l.gates {
			members = append(members, "https://"+g.addr())
		}
	}
	store, err := etcdstore.Open(etcdstore.Options{Endpoints: members, CA: f.c.ca.path("ca.pem"),
		Cert: f.c.ca.path("root.pem"), Key: f.c.ca.path("root.key"), Network: "lan", Hosts: true})
	if err != nil {
		t.Fatal(err)
	}
	s.agent, err = agent.New(agent.Options{
		View: view.Options{Trust: record.Trust{Network: "lan", Signers: []record.Key{public(f.net.signer)}, Threshold: 1},
			Self: s.id, Ethernet: true, Leases: true},
		Store: store, Daemon: control.NewAgentClient(f.runDir, name), Disk: newDisk(), Log: zap.NewNop(),
		Key: key, Own: record.Record{Prefixes: []netip.Prefix{prefix}, Capabilities: []string{record.CapEthernet}}, Lifetime: lifetime,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.agent.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; _ = store.Close() })
	return s
}

// hears makes a host appear on the LAN of a site, unless it is sticky elsewhere.
func (s *lanSite) hears(mac, ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := control.HostID{MAC: mac}
	if s.hosts[id].Sticky {
		return
	}
	s.local[id] = ip
	s.log.Add(events.Event{Kind: events.MACLearned, MAC: mac})
}

// at says where a site has a host: "here", or the peer's key.
func (s *lanSite) at(mac string) (where string, sticky bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := control.HostID{MAC: mac}
	if _, here := s.local[id]; here {
		return s.id.String(), s.hosts[id].Sticky
	}
	return s.hosts[id].Peer, s.hosts[id].Sticky
}

func (s *lanSite) counts() (peers, hosts, addrs, removed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers), len(s.hosts), len(s.addrs), s.removed
}

// Sources, Peers, Events, Clear, Handshake, FDB and Begin are of control.AgentBackend.
func (s *lanSite) Sources() []control.Source { return nil }
func (s *lanSite) Peers() []control.PeerRow  { return nil }
func (s *lanSite) Events() *events.Log       { return s.log }
func (s *lanSite) Clear() (int, error)       { return 0, nil }
func (s *lanSite) Handshake(string) error    { return nil }

func (s *lanSite) FDB() (i control.FDBInstance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ip := range s.local {
		i.FDB = append(i.FDB, control.FDBEntry{MAC: id.MAC, VLAN: id.VLAN, Kind: "local", IPs: []string{ip}})
	}
	return i
}

func (s *lanSite) Begin(whole bool) (control.SourceChange, error) {
	return &lanChange{site: s, whole: whole}, nil
}

// lanChange is a change of what a site has.
type lanChange struct {
	site  *lanSite
	whole bool
	apply []func() // with mu held
}

func (c *lanChange) later(f func()) { c.apply = append(c.apply, f) }

func (c *lanChange) Peer(values map[string]any) {
	key, _ := values["public_key"].(string)
	c.later(func() { c.site.peers[key] = true })
}

func (c *lanChange) Remove(key string) {
	c.later(func() { delete(c.site.peers, key); c.site.removed++ })
}

func (c *lanChange) Host(h control.HostEntry) {
	c.later(func() {
		if was, there := c.site.hosts[h.HostID]; !there || was.Peer != h.Peer || h.Seq > was.Seq {
			delete(c.site.local, h.HostID)
		}
		c.site.hosts[h.HostID] = h
	})
}

func (c *lanChange) RemoveHost(h control.HostID) { c.later(func() { delete(c.site.hosts, h) }) }
func (c *lanChange) Neighbor(n control.NeighborEntry) {
	c.later(func() { c.site.addrs[n.NeighborID] = n })
}
func (c *lanChange) RemoveNeighbor(n control.NeighborID) {
	c.later(func() { delete(c.site.addrs, n) })
}

func (c *lanChange) Commit(h control.SourceHead) (control.SourceAnswer, error) {
	s := c.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.whole && (h.Epoch != s.epoch || h.IfGeneration != s.generation) {
		return control.SourceAnswer{}, &control.Error{Code: control.CodeGeneration, Message: "another generation is in force"}
	}
	for _, f := range c.apply {
		f()
	}
	s.epoch, s.generation = h.Epoch, h.Generation
	return control.SourceAnswer{Generation: h.Generation, Start: "1"}, nil
}

// leases returns the leases on which keys below a prefix hang, by key.
func (c *cluster) leases(prefix string) map[string]clientv3.LeaseID {
	c.t.Helper()
	leases := map[string]clientv3.LeaseID{}
	c.do("leases", func(ctx context.Context) error {
		answer, err := c.admin.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err == nil {
			for _, kv := range answer.Kvs {
				if kv.Lease != 0 && strings.HasSuffix(string(kv.Key), "/up") {
					leases[string(kv.Key)] = clientv3.LeaseID(kv.Lease)
				}
			}
		}
		return err
	})
	return leases
}

// expire ends leases, as if nobody had renewed them.
func (c *cluster) expire(leases map[string]clientv3.LeaseID) {
	c.t.Helper()
	keys := slices.Collect(maps.Keys(leases))
	parallel(len(keys), func(i int) {
		c.do("end the lease of "+keys[i], func(ctx context.Context) error {
			_, err := c.admin.Revoke(ctx, leases[keys[i]])
			if errors.Is(err, rpctypes.ErrLeaseNotFound) {
				err = nil // an attempt before this one has ended it
			}
			return err
		})
	})
}

// leasesExpire: of all sites at once. That removes nobody, and the sites are back within seconds.
func (f *fleet) leasesExpire(t *testing.T) {
	before := f.removed()
	var all map[string]clientv3.LeaseID
	testnet.Await(t, "all sites are present", limit(), func() bool {
		all = f.c.leases(root)
		return len(all) == len(f.agents)+reals
	})
	f.c.expire(all)
	began := time.Now()
	testnet.Await(t, "all sites are present again", limit(), func() bool { return len(f.c.leases(root)) == len(all) })
	t.Logf("%d leases have expired: all sites are present again after %v", len(all), time.Since(began).Round(time.Millisecond))
	f.agree("after leases expired")
	f.unchanged("leases that expire", before)
}

// sitesAway: of sites whose leases have expired and that are away, the addresses of hosts are no
// longer answered for, at once, which is all.
func (l *lan) sitesAway(t *testing.T) {
	first := l.sites[0]
	for i, s := range l.sites {
		s.hears(mac(i), fmt.Sprintf("10.9.0.%d", i+1))
	}
	l.await("the hosts of all sites are known", limit(), func(s *lanSite) bool {
		peers, hosts, addrs, _ := s.counts()
		return peers == 3 && hosts == 3 && addrs == 3
	})
	for _, g := range l.gates {
		g.set(true)
	}
	away := l.c.leases(lanRoot)
	delete(away, lanRoot+"site/"+first.id.ID()+"/up")
	began := time.Now()
	l.c.expire(away)
	testnet.Await(t, "nobody answers for the addresses of sites that are away", limit(), func() bool {
		_, _, addrs, _ := first.counts()
		return addrs == 0
	})
	took := time.Since(began)
	if peers, hosts, _, removed := first.counts(); peers != 3 || hosts != 3 || removed != 0 {
		t.Errorf("once three sites are away: %d peers, %d hosts, %d removed", peers, hosts, removed)
	}
	if took > 5*time.Second {
		t.Errorf("addresses of sites that are away are answered for during %v", took)
	}
	for _, g := range l.gates {
		g.set(false)
	}
	l.await("all addresses are answered for again", limit(), func(s *lanSite) bool {
		_, _, addrs, removed := s.counts()
		return addrs == 3 && removed == 0
	})
	t.Logf("addresses of sites that are away are no longer answered for after %v", took.Round(time.Millisecond))
}

func mac(i int) string { return fmt.Sprintf("02:00:00:00:09:%02x", i) }

// await waits until something is so at all sites.
func (l *lan) await(what string, d time.Duration, holds func(*lanSite) bool) {
	l.t.Helper()
	testnet.Await(l.t, what, d, func() bool {
		return !slices.ContainsFunc(l.sites, func(s *lanSite) bool { return !holds(s) })
	})
}

// pingPong: two hosts have one address. With the fifth move it is frozen, everywhere at one place.
func (l *lan) pingPong(t *testing.T) {
	const both = "02:00:00:00:09:ff"
	began := time.Now()
	moves := 0
	for i := 1; ; i = 3 - i {
		s := l.sites[i]
		s.hears(both, "10.9.0.99")
		frozen := false
		l.await("the host is at one place", limit(), func(o *lanSite) bool {
			where, sticky := o.at(both)
			frozen = frozen || sticky
			return where == s.id.String() || frozen
		})
		if frozen {
			break
		}
		if moves++; moves > view.FreezeMoves {
			t.Fatalf("the host has moved %d times", moves)
		}
	}
	testnet.Await(t, "the host is frozen at one place at all sites", limit(), func() bool {
		place, _ := l.sites[0].at(both)
		return !slices.ContainsFunc(l.sites, func(s *lanSite) bool {
			where, sticky := s.at(both)
			return where != place || !sticky && where != s.id.String() || s.agent.Status().Frozen != 1
		})
	})
	t.Logf("two hosts with one address: frozen at one place everywhere after %d moves, in %v", moves, time.Since(began).Round(time.Millisecond))
}
