package scale

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"tund/internal/registry/record"
	"tund/internal/testnet"
	"tund/internal/testnet/etcd"
)

// TestFaults breaks one thing after the other in one network. After each fault every daemon has to
// have what was signed, and no peer may have gone that was not revoked.
func TestFaults(t *testing.T) {
	// All agents share a process, and its collector looks at the memory of all. How much they take
	// is measured by TestConvergence and TestHostile.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(halfOfMemory(t)))
	f := newFleet(t, agents(t), "--quota-backend-bytes", "33554432")
	f.startAll()
	took := f.agree("start").Round(time.Millisecond)
	t.Logf("%d agents: all have their peers after %v, and took %v of processor time", len(f.agents), took, processorTime().Round(time.Millisecond))
	f.changes(20, 20)
	f.agree("changes")
	backup := f.snapshot()
	end := f.traffic(f.reals[0], f.reals[1])
	defer func() { end(t) }()
	f.sequence(t,
		fault{"the leader is killed", f.leaderKilled},
		fault{"the leader stands still", f.leaderStandsStill},
		fault{"a third of the agents is cut off", f.cutOff},
		fault{"leases expire", f.leasesExpire},
		fault{"while etcd works", f.whileEtcdWorks},
		fault{"the quota is reached", f.quota},
		fault{"everything is down", f.everythingDown},
		fault{"an older snapshot is restored", func(t *testing.T) { f.restored(t, backup) }},
		fault{"the store is empty", f.emptied},
		fault{"the store is in an enemy's hands", f.hostile},
	)
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("all %d agents took %v of processor time, and etcd %v (load %s)", len(f.agents), processorTime().Round(time.Second),
		f.c.processorTime().Round(time.Second), strings.TrimSpace(string(load)))
}

// fault is something that breaks, and what must hold then.
type fault struct {
	name string
	f    func(*testing.T)
}

// sequence has one thing break after the other, up to the first that leads to something else than
// what it should: what follows would fail for the same reason.
func (f *fleet) sequence(t *testing.T, faults ...fault) {
	for _, fault := range faults {
		began, agents, members := time.Now(), processorTime(), f.c.processorTime()
		if !t.Run(fault.name, func(t *testing.T) {
			f.of(t)
			fault.f(t)
		}) {
			return
		}
		f.of(t)
		t.Logf("%s: %v, with %v of processor time of the agents and %v of etcd", fault.name, time.Since(began).Round(100*time.Millisecond),
			(processorTime() - agents).Round(100*time.Millisecond), (f.c.processorTime() - members).Round(100*time.Millisecond))
	}
}

// whileEtcdWorks breaks what is not etcd. What hosts are about waits more than it works, and has a
// network of its own.
func (f *fleet) whileEtcdWorks(t *testing.T) {
	t.Run("hosts", func(t *testing.T) {
		l := newLAN(t, f, 4)
		t.Parallel()
		l.sitesAway(t)
		l.pingPong(t)
	})
	t.Run("sites", func(t *testing.T) {
		t.Parallel()
		f.sequence(t,
			fault{"a site is revoked", f.revoked},
			fault{"daemons are killed in the middle of a change", f.killedDaemons},
			fault{"a certificate expires", f.expiredCertificate},
		)
	})
}

// leaderKilled: writing goes on within seconds, and so do all agents.
func (f *fleet) leaderKilled(t *testing.T) {
	before, leader := f.removed(), f.c.leader()
	f.c.Kill(leader)
	began := time.Now()
	f.change(0)
	gap := time.Since(began)
	took := f.agree("after the leader was killed")
	t.Logf("a write takes %v, and then all agree after %v", gap.Round(time.Millisecond), took.Round(time.Millisecond))
	f.c.Start(t, leader)
	f.change(1)
	f.agree("after it was started again")
	f.unchanged("a leader that is killed", before)
}

// leaderStandsStill: as a host that swaps, or a virtual machine that is moved.
func (f *fleet) leaderStandsStill(t *testing.T) {
	pauses := []time.Duration{3 * time.Second}
	if long() {
		pauses = []time.Duration{15 * time.Second, 70 * time.Second}
	}
	for _, pause := range pauses {
		before, leader := f.removed(), f.c.leader()
		_ = f.c.Process(leader).Signal(syscall.SIGSTOP)
		end := time.After(pause)
		f.change(2)
		<-end
		_ = f.c.Process(leader).Signal(syscall.SIGCONT)
		f.change(3)
		took := f.agree("after the leader stood still")
		t.Logf("%v: all agree after %v", pause, took.Round(time.Millisecond))
		f.unchanged("a leader that stands still", before)
	}
}

// cutOff: meanwhile there are changes, deletions, and a compaction, so that a watch cannot go on.
func (f *fleet) cutOff(t *testing.T) {
	pause := 2 * time.Second
	if long() {
		pause = 10 * time.Minute
	}
	before := f.removed()
	for _, g := range f.gates {
		g.set(true)
	}
	end := time.After(pause)
	f.changes(10, 20)
	f.c.delete(f.net.recordKey(f.mover(15))) // the absence of which is no reason to remove anybody
	f.c.compact()
	<-end
	for _, g := range f.gates {
		g.set(false)
		g.cut()
	}
	took := f.agree("after a third was cut off")
	t.Logf("cut off for %v: all agree after %v", pause, took.Round(time.Millisecond))
	if long() && took > max(time.Minute, limit()/8) { // the other pauses are too short to tell
		t.Error("the way back was tried too seldom")
	}
	f.unchanged("agents that are cut off", before)
	f.c.put(f.net.recordKey(f.mover(15)), f.net.record(f.mover(15), f.net.want(f.mover(15))))
}

// revoked: one is revoked, and is gone everywhere.
func (f *fleet) revoked(t *testing.T) {
	f.c.put("crl", f.net.revoke(f.mover(5)))
	t.Logf("it is gone everywhere after %v", f.agree("a revocation").Round(time.Millisecond))
}

// killedDaemons: some daemons are killed in a change, others between changes.
func (f *fleet) killedDaemons(t *testing.T) {
	for i, m := range f.agents {
		switch i % 4 {
		case 0:
			m.daemon.die()
		case 1:
			m.daemon.restart()
		}
	}
	f.change(6)
	took := f.agree("after daemons were killed")
	for i, m := range f.agents {
		if _, _, lost := m.daemon.counts(); i%4 == 0 && lost == 0 {
			t.Fatalf("the daemon of site %d was not killed", i)
		}
	}
	t.Logf("all have their peers again after %v", took.Round(time.Millisecond))
}

// expiredCertificate: a site whose certificate has expired keeps its peers, and follows the
// registry again when it has a new one, without a restart.
func (f *fleet) expiredCertificate(t *testing.T) {
	const site = 1 // behind the gates
	before := f.removed()
	f.agents[site].stop()
	f.c.ca.issue(f.net.name(site), time.Now().Add(-time.Minute))
	f.startAgent(site)
	f.change(7)
	behind := func() bool { return f.agents[site].daemon.differs(f.net.versions()) != "" }
	rest := f.net.versions()
	testnet.Await(t, "the others have the change", limit(), func() bool {
		for i, m := range f.agents {
			if i != site && m.daemon.differs(rest) != "" {
				return false
			}
		}
		return true
	})
	if !behind() {
		t.Fatal("a site with an expired certificate reads the registry")
	}
	f.c.ca.issue(f.net.name(site), time.Now().Add(24*time.Hour))
	t.Logf("with a new certificate, the site follows after %v", f.agree("a new certificate").Round(time.Millisecond))
	f.unchanged("an expired certificate", before)
}

// quota: nothing can be written, until whoever runs the cluster makes room.
func (f *fleet) quota(t *testing.T) {
	before := f.removed()
	filler := make([]byte, 1<<20)
	ctx, cancel := context.WithTimeout(context.Background(), limit())
	defer cancel()
	var err error
	for i := 0; err == nil; i++ {
		_, err = f.c.admin.Put(ctx, "/filler", string(filler))
		if i > 500 {
			t.Fatal("the quota is never reached")
		}
	}
	t.Logf("etcd refuses to write: %v", err)
	if _, err := f.c.admin.Put(ctx, root+"x", "y"); err == nil {
		t.Error("the alarm is not raised")
	}
	f.agree("with the quota reached")
	// What docs/many-sites.md says: compact, defragment each member, disarm.
	f.c.compact()
	for _, url := range f.c.URLs() {
		f.c.do("defragment", func(ctx context.Context) error {
			_, err := f.c.admin.Defragment(ctx, url)
			return err
		})
	}
	f.c.do("disarm", func(ctx context.Context) error {
		_, err := f.c.admin.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		return err
	})
	f.change(8)
	t.Logf("after making room, all agree after %v", f.agree("after making room").Round(time.Millisecond))
	f.unchanged("a quota that is reached", before)
}

// everythingDown: without any member agents and daemons are restarted, and nothing changes but that
// daemons are told their peers again.
func (f *fleet) everythingDown(t *testing.T) {
	before := f.removed()
	f.c.KillAll()
	parallel(len(f.agents), func(i int) {
		m := f.agents[i]
		if i%4 == 1 || i%4 == 2 {
			m.daemon.restart()
		}
		if i%4 == 2 || i%4 == 3 {
			m.stop()
			f.startAgent(i)
		}
	})
	third := f.reals[2]
	third.stop()
	third.Kill()
	third.Launch()
	third.Ready()
	f.start(&third.member, third.site, third.RunDir())
	third.reaches(f, f.reals[0])
	t.Logf("without a registry, all have their peers again after %v", f.agree("restarts without a registry").Round(time.Millisecond))
	if long() {
		time.Sleep(3 * time.Minute)
	}
	f.c.StartAll(t)
	f.change(9)
	took := f.agree("the registry is back")
	t.Logf("once it is back, all agree after %v", took.Round(time.Millisecond))
	if long() && took > max(time.Minute, limit()/8) { // the other pauses are too short to tell
		t.Error("the way back was tried too seldom")
	}
	f.unchanged("an outage of everything", before)
}

// snapshot makes a backup of the cluster.
func (f *fleet) snapshot() (path string) {
	f.t.Helper()
	path = f.c.ca.path("backup.db")
	f.c.etcdctl("snapshot", "save", path, "--endpoints", f.c.URLs()[0],
		"--cacert", f.c.ca.path("ca.pem"), "--cert", f.c.ca.path("root.pem"), "--key", f.c.ca.path("root.key"))
	return path
}

// restored: a backup is older than what the agents have seen, and undoes nothing: not the
// revocation, and not a change.
func (f *fleet) restored(t *testing.T, backup string) {
	before := f.removed()
	f.c.KillAll()
	f.c.Forget()
	parallel(members, func(i int) {
		f.c.etcdctl("snapshot", "restore", backup, "--name", etcd.Name(i), "--data-dir", f.c.DataDir(i),
			"--initial-cluster", f.c.Initial(), "--initial-advertise-peer-urls", f.c.PeerURL(i),
			"--initial-cluster-token", "restored")
	})
	f.c.StartAll(t)
	f.c.put("crl", f.net.revoke()) // signed again, so that the registry has it
	f.change(10)
	t.Logf("all agree after %v", f.agree("an older snapshot").Round(time.Millisecond))
	f.unchanged("an older snapshot", before)
}

// emptied: members that have lost their data. The sites write their records again by themselves;
// grants and revocations are for the signers to publish again.
func (f *fleet) emptied(t *testing.T) {
	before := f.removed()
	f.c.KillAll()
	f.c.Forget()
	f.c.StartAll(t)
	f.c.secure()
	f.c.do("a document", func(ctx context.Context) error { // so that there is a list to read
		_, err := f.c.admin.Put(ctx, root+"meta", "{}")
		return err
	})
	f.users()
	began := time.Now()
	testnet.Await(t, "the agents write their records again", limit(), func() bool {
		count := 0
		f.c.do("count", func(ctx context.Context) error {
			answer, err := f.c.admin.Get(ctx, root+"site/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err == nil {
				count = int(answer.Count)
			}
			return err
		})
		return count >= len(f.agents)+reals
	})
	t.Logf("the records of all agents are there again after %v", time.Since(began).Round(time.Millisecond))
	f.unchanged("an empty store", before)
	f.documents(false)
	f.change(11)
	f.agree("a store that was filled again")
	f.unchanged("a store that was filled again", before)
}

// hostile: whoever has the registry can write what he likes, and there is no peer, no prefix and no
// removal that signers and sites have not signed.
func (f *fleet) hostile(t *testing.T) {
	before := f.removed()
	n := f.net
	victim, other := f.mover(12), f.mover(13)
	mallory := newNetwork(t, len(n.sites)) // the same sites, with other keys
	mallory.signer = n.sites[victim].key
	stale, _ := n.next(victim)
	f.c.put(n.recordKey(victim), n.record(victim, stale))
	f.agree("before")
	good := n.record(other, n.want(other))
	late := n.own(victim, 9999)
	late.Network, late.Site, late.Grant, late.Epoch, late.Serial = "acme", n.sites[victim].id, 1, 9, 9
	late.NotAfter = time.Now().Add(-time.Hour)
	beyond := n.own(victim, 9999)
	beyond.Network, beyond.Site, beyond.Grant, beyond.Epoch, beyond.Serial, beyond.NotAfter = "acme", n.sites[victim].id, 1, 9, 9, time.Now().Add(time.Hour)
	beyond.Prefixes = append(beyond.Prefixes, n.sites[other].prefix)
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	for what, write := range map[string]func(){
		"replayed":           func() { f.c.put(n.recordKey(victim), n.record(victim, stale-1)) },
		"of another":         func() { f.c.put(n.recordKey(victim), good) },
		"expired":            func() { f.c.put(n.recordKey(victim), n.must(record.SignRecord(late, n.sites[victim].key))) },
		"beyond":             func() { f.c.put(n.recordKey(victim), n.must(record.SignRecord(beyond, n.sites[victim].key))) },
		"forged":             func() { f.c.put(n.grantKey(other), mallory.grant(other)) },
		"flipped":            func() { f.c.put(n.recordKey(other), flipped) },
		"truncated":          func() { f.c.put(n.recordKey(other), good[:len(good)/2]) },
		"empty":              func() { f.c.put("crl", nil) },
		"huge":               func() { f.c.put(n.recordKey(other), make([]byte, 1<<20)) },
		"forged revocations": func() { f.c.put("crl", mallory.revoke(other)) },
		"no document":        func() { f.c.put("grant/../../x", []byte("{}")) },
	} {
		t.Log("written: " + what)
		write() // the watches show each to all agents
	}
	f.change(14)
	f.agree("what nobody has signed")
	// All of it is deleted, and is shown again in another order.
	f.c.do("delete everything", func(ctx context.Context) error {
		_, err := f.c.admin.Delete(ctx, root, clientv3.WithPrefix())
		return err
	})
	for i := len(n.sites) - 1; i >= len(n.sites)-movers; i-- {
		if version := n.want(i); version > 0 {
			f.c.put(n.recordKey(i), n.record(i, version))
		}
		f.c.put(n.grantKey(i), n.grant(i))
	}
	f.documents(false)
	f.change(15)
	f.agree("in the end")
	f.unchanged("a hostile store", before)
	t.Log(fmt.Sprint(len(f.agents), " agents, of which none has added, moved or removed a peer"))
}
