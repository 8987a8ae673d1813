package ethernet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/registry/record"
	"tund/internal/testnet"
)

// statusLimit bounds what is awaited in the status of an agent, which may be 15 seconds old.
const statusLimit = startLimit + 15*time.Second

// registry is one in a directory, for sites that know nobody but it.
type registry struct {
	t             *testing.T
	ns            *testnet.NS
	dir           string
	signer, trust string
}

func newRegistry(t *testing.T, w *wan) *registry {
	t.Helper()
	dir := testnet.Scratch(t)
	r := &registry{t: t, ns: w.ns, dir: filepath.Join(dir, "registry"), signer: filepath.Join(dir, "acme.signer")}
	out := r.tunctl("net", "init", "acme", "-d", dir)
	r.trust = regexp.MustCompile(`trust = (\[.*\])`).FindStringSubmatch(out)[1]
	r.tunctl("net", "revoke", "--signer", r.signer, "--store", r.dir, "--network", "acme")
	return r
}

func (r *registry) tunctl(args ...string) string {
	r.t.Helper()
	return r.ns.Run(r.t, append([]string{testnet.Tunctl(r.t)}, args...)...)
}

// agentOf returns the command line of the agent beside a site.
func agentOf(s *site, args ...string) []string {
	return append([]string{"env", "TUND_RUN_DIR=" + s.RunDir(), filepath.Join(filepath.Dir(testnet.Tund(s.T)), "tund-agent"),
		"-c", filepath.Join(s.Dir, "agent.toml")}, args...)
}

// join starts a site and its agent, with a further line of the agent's file and one of its section
// [publish], and grants it.
func (r *registry) join(s *site, line, publish string, grant ...string) *testnet.Process {
	r.t.Helper()
	s.agent = []string{`user = "root"`, "ethernet = true"}
	s.start()
	s.File("agent.toml", fmt.Sprintf("instance = %q\nstate_dir = %q\nnetwork = \"acme\"\ntrust = %s\nsite = %q\ndir = %q\ninterval = 1\nethernet = true\n%s\n[publish]\nendpoints = [\"%s:51820\"]\n%s",
		s.Name, filepath.Join(s.Dir, "agent"), r.trust, s.Key.Public(), r.dir, line, s.addr, publish))
	s.File("request", s.NS.Run(r.t, agentOf(s, "--request")...))
	r.tunctl(append([]string{"net", "grant", filepath.Join(s.Dir, "request"), "--signer", r.signer, "--store", r.dir}, grant...)...)
	return s.NS.StartWith(r.t, nil, agentOf(s)...)
}

// has waits until a site has a MAC behind a port, with a kind.
func (s *site) has(h *host, port, kind string) {
	s.T.Helper()
	testnet.Await(s.T, fmt.Sprintf("%s has %v as %s behind %s", s.Name, h.mac, kind, port), startLimit, func() bool {
		for _, e := range s.Status().FDB {
			if e.MAC == h.mac.String() && e.VLAN == 0 {
				return e.Port == port && e.Kind == kind
			}
		}
		return false
	})
}

// Three sites tell each other of their hosts through a registry: a host is known before its first
// frame, moves, cannot be robbed, and stays known without registry and agents. Berlin floods to
// nobody but the replicator, oslo.
func TestRegistry_hostsOfSites(t *testing.T) {
	beside(t)
	w := newWAN(t)
	r := newRegistry(t, w)
	berlin, paris, oslo := w.site("berlin"), w.site("paris"), w.site("oslo")
	oslo.tap = []string{"hub = true"}
	a, b := berlin.host(1), paris.host(2)
	agents := []*testnet.Process{
		r.join(berlin, "bum = false", ""), r.join(paris, "bum = false", ""), r.join(oslo, "", "replicator = true"),
	}
	for _, s := range []*site{berlin, paris, oslo} {
		testnet.Await(t, s.Name+" has peers", startLimit, func() bool { return len(s.Status().Peers) == 2 })
		s.linked(startLimit)
	}
	// Each host says something to its own LAN alone.
	a.ns.Try("ping", "-c1", "-W1", "10.7.0.77")
	b.ns.Try("ping", "-c1", "-W1", "10.7.0.77")
	paris.has(a, "berlin", "control")
	berlin.has(b, "paris", "control")
	oslo.has(a, "berlin", "control")
	testnet.Await(t, "the address of a is known in paris", startLimit, func() bool {
		out, err := paris.NS.Try("env", "TUND_RUN_DIR="+paris.RunDir(), testnet.Tunctl(t), "-i", "paris", "fdb", "show", a.v4, "--json")
		return err == nil && strings.Contains(out, `"control"`)
	})
	b.pings(a.v4, 5)
	a.pings(b.v6(), 5)
	if got := paris.where(a.mac, 0); got != "berlin" {
		t.Errorf("after traffic, a is behind %q", got)
	}

	// The host of paris moves to oslo, and says so there.
	b.ns.Run(t, "ip", "link", "del", b.dev)
	moved := &host{t: t, ns: b.ns, v4: b.v4}
	moved.attach(oslo, nil)
	b.ns.Run(t, "ip", "link", "set", moved.dev, "address", b.mac.String())
	b.ns.Run(t, "ip", "addr", "add", b.v4+"/24", "dev", moved.dev)
	moved.mac = b.mac
	moved.ns.Try("ping", "-c1", "-W1", "10.7.0.77")
	berlin.has(moved, "oslo", "control")
	paris.has(moved, "oslo", "control")
	a.reaches(b.v4, startLimit)

	// Registry and agents go: everything stays. An agent that is killed comes back, and nothing
	// has changed either.
	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}
	for i, p := range agents[:2] {
		if err := p.Stop(os.Kill, startLimit); err == nil {
			t.Errorf("agent %d ends without an error after SIGKILL", i)
		}
	}
	a.pings(b.v4, 3)
	if err := os.Rename(r.dir+".away", r.dir); err != nil {
		t.Fatal(err)
	}
	berlin.NS.StartWith(t, nil, agentOf(berlin)...)
	a.pings(b.v4, 3)
	berlin.has(moved, "oslo", "control")
	status := berlin.NS.Run(t, agentOf(berlin, "--status")...)
	if !strings.Contains(status, `"hosts_published": `) {
		t.Errorf("status of the agent:\n%s", status)
	}
	r.tunctl("net", "revoke", "--signer", r.signer, "--store", r.dir, "--network", "acme", "oslo")
	testnet.Await(t, "the hosts of a revoked site are gone", startLimit, func() bool { return berlin.where(b.mac, 0) == "" })
}

// once has a host send broadcasts, each of which arrives at each of the others once.
func once(t *testing.T, when string, from *host, others ...*host) {
	t.Helper()
	const count = 20
	sender := from.raw()
	var receivers []*raw
	for _, h := range others {
		receivers = append(receivers, h.raw())
	}
	mark := "once " + when
	for n := range count {
		frame := append(slices.Repeat([]byte{0xff}, 6), make([]byte, 6)...)
		from.mac.Put(frame[6:])
		frame = append(frame, 0x88, 0xb5, byte(n)) // IEEE 802: local experimental
		sender.send(append(frame, fmt.Sprintf("%-60s", mark)...))
	}
	for i, r := range receivers {
		got := 0
		for deadline := time.Now().Add(startLimit); ; {
			frame := r.next(deadline)
			if frame == nil {
				break
			}
			if !strings.Contains(string(frame), mark) {
				continue
			}
			if got++; got == count { // a second copy would follow at once
				deadline = time.Now().Add(300 * time.Millisecond)
			}
		}
		if got != count {
			t.Errorf("%s, %s gets %d of %d broadcasts of %s", when, others[i].v4, got, count, from.v4)
		}
	}
}

// Two sites pass on broadcasts for leaves: whoever sends one, each LAN gets it once. When the one
// that does so is revoked, the other takes its place.
func TestRegistry_twoReplicators(t *testing.T) {
	beside(t)
	w := newWAN(t)
	r := newRegistry(t, w)
	sites := []*site{w.site("oslo"), w.site("rome"), w.site("berlin"), w.site("paris")}
	var hosts []*host
	for i, s := range sites {
		if i < 2 {
			s.tap = []string{"hub = true"}
		}
		hosts = append(hosts, s.host(i+1))
	}
	r.join(sites[0], "", "replicator = true", "--priority", "2")
	r.join(sites[1], "", "replicator = true", "--priority", "1")
	r.join(sites[2], "bum = false", "")
	r.join(sites[3], "bum = false", "")
	elected := func(sites []*site, name string) {
		t.Helper()
		for _, s := range sites {
			testnet.Await(t, s.Name+" has "+name+" as its replicator", statusLimit, func() bool {
				out, err := s.NS.Try(agentOf(s, "--status")...)
				var status struct {
					Replicators []string
				}
				return err == nil && json.Unmarshal([]byte(out), &status) == nil && slices.Equal(status.Replicators, []string{name})
			})
		}
		for _, s := range sites {
			testnet.Await(t, s.Name+" has peers", startLimit, func() bool { return len(s.Status().Peers) == len(sites)-1 })
			s.linked(startLimit)
		}
	}
	elected(sites, "oslo")
	for i, h := range hosts {
		once(t, fmt.Sprint("with both, from ", sites[i].Name), h, slices.Concat(hosts[:i], hosts[i+1:])...)
	}
	r.tunctl("net", "revoke", "--signer", r.signer, "--store", r.dir, "--network", "acme", "oslo")
	elected(sites[1:], "rome")
	once(t, "without oslo", hosts[2], hosts[1], hosts[3])
}

// claims returns which sequence number each site that publishes a host says, by the site's id.
func (r *registry) claims(h *host) map[string]uint32 {
	r.t.Helper()
	claims := map[string]uint32{}
	files, err := filepath.Glob(filepath.Join(r.dir, "acme", "l2", "0", "*", "*.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		doc, err := record.KeptStations(text)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, s := range doc.Stations {
			if s.MAC == h.mac.String() {
				claims[doc.Site.ID()] = s.Seq
			}
		}
	}
	return claims
}

// Two gateways of one LAN that are sites of a registry: their agents do not take its hosts from
// each other again and again, until these are frozen, and the second takes over from the first.
func TestRegistry_twoGatewaysOfALAN(t *testing.T) {
	beside(t)
	w := newWAN(t)
	r := newRegistry(t, w)
	berlin, first, second := w.site("berlin"), w.site("first"), w.site("second")
	sites := []*site{berlin, first, second}
	a, b := berlin.host(1), first.host(2)
	backDoor(t, first, second)
	// Nobody has this address: both gateways hear the host ask for it.
	b.ns.Start(t, "ping", "-n", "-i", "0.2", "10.7.0.99")
	for _, s := range sites {
		r.join(s, "", "")
	}
	for _, s := range sites {
		testnet.Await(t, s.Name+" has peers", startLimit, func() bool { return len(s.Status().Peers) == 2 })
	}
	testnet.Await(t, "one gateway to be blocked", startLimit, func() bool { return berlin.Lines("loop", "blocked") == 1 })
	testnet.Await(t, "the host is published", startLimit, func() bool { return len(r.claims(b)) > 0 })
	pause(10 * time.Second) // a move takes a second or two, and there would be five
	a.reaches(b.v4, startLimit)
	for id, seq := range r.claims(b) {
		if seq > 3 { // those before it was known that they serve one LAN
			t.Errorf("the gateways have taken a host from each other: %s claims it with number %d", id, seq)
		}
	}
	// Berlin's host was claimed by a gateway of the other LAN once at the most: before the loop was
	// found.
	for id, seq := range r.claims(a) {
		if seq > 2 {
			t.Errorf("a gateway has taken berlin's host: %s claims it with number %d", id, seq)
		}
	}
	for _, s := range sites {
		if status := s.NS.Run(t, agentOf(s, "--status")...); !strings.Contains(status, `"hosts_frozen": 0`) {
			t.Errorf("the agent of %s has frozen hosts:\n%s", s.Name, status)
		}
	}
	var table control.FDBTable
	berlin.tunctl(&table, "fdb", "--json")
	used := first
	if slices.ContainsFunc(table.Instances[0].Blocked, func(p control.BlockedPort) bool { return p.Port == "first" }) {
		used = second
	}
	used.Kill()
	a.reaches(b.v4, startLimit)
}
