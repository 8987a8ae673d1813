package e2e

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
	"tund/internal/testnet"
	"tund/test/instance"
)

// siteNetwork is a network of many sites: a router, and a registry in a directory.
type siteNetwork struct {
	t        *testing.T
	router   *testnet.NS
	registry string
	signer   string
	trust    string
	sites    []*siteEnd
}

// siteEnd is a site: a tund, and an agent beside it. Its network is 10.30+N.0.0/16.
type siteEnd struct {
	instance.Instance
	n     int
	agent *testnet.Process
}

func newSiteNetwork(t *testing.T) *siteNetwork {
	t.Helper()
	n := &siteNetwork{t: t, router: testnet.New(t)}
	dir := testnet.Scratch(t)
	n.registry, n.signer = filepath.Join(dir, "registry"), filepath.Join(dir, "acme.signer")
	n.router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	out := n.tunctl("net", "init", "acme", "-d", dir)
	n.trust = regexp.MustCompile(`trust = (\[.*\])`).FindStringSubmatch(out)[1]
	n.revoke() // so that the registry is there
	return n
}

// tunctl runs a command line in the router's namespace, which is as good as any.
func (n *siteNetwork) tunctl(args ...string) string {
	n.t.Helper()
	return n.router.Run(n.t, append([]string{testnet.Tunctl(n.t)}, args...)...)
}

func (n *siteNetwork) revoke(sites ...string) {
	n.t.Helper()
	n.tunctl(append([]string{"net", "revoke", "--signer", n.signer, "--store", n.registry, "--network", "acme"}, sites...)...)
}

// join starts a site that nobody knows yet.
func (n *siteNetwork) join() *siteEnd {
	n.t.Helper()
	i := len(n.sites)
	s := &siteEnd{Instance: instance.New(n.t, testnet.New(n.t), fmt.Sprint("site", i)), n: i}
	n.sites = append(n.sites, s)
	testnet.Veth(n.t, n.router, s.NS, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+1)}, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+2)})
	s.NS.Run(n.t, "ip", "route", "add", "default", "via", fmt.Sprintf("192.0.2.%d", 4*i+1))
	s.WriteConfig(fmt.Sprintf(`
[tunnel]
private_key_file = "own.key"
listen_port = 51820
[tun]
address = ["10.%d.0.1/16"]
[agent]
user = "root"
within = ["10.0.0.0/8"]
`, 30+i))
	s.File("agent.toml", fmt.Sprintf(`
instance = %q
state_dir = %q
network = "acme"
trust = %s
site = %q
dir = %q
interval = 1
[publish]
endpoints = ["192.0.2.%d:51820"]
prefixes = ["10.%d.0.0/16"]
`, s.Name, filepath.Join(s.Dir, "agent"), n.trust, s.Key.Public(), n.registry, 4*i+2, 30+i))
	s.Launch()
	s.Ready()
	s.startAgent()
	return s
}

func (s *siteEnd) agentCommand(args ...string) []string {
	return append([]string{"env", "TUND_RUN_DIR=" + s.RunDir(),
		filepath.Join(filepath.Dir(testnet.Tund(s.T)), "tund-agent"), "-c", filepath.Join(s.Dir, "agent.toml")}, args...)
}

func (s *siteEnd) startAgent() {
	s.T.Helper()
	s.agent = s.NS.StartWith(s.T, nil, s.agentCommand()...)
	p := s.agent
	s.T.Cleanup(func() { s.Healthy(p) })
}

// grant signs what a site may claim: the one command by which it joins.
func (n *siteNetwork) grant(s *siteEnd) {
	n.t.Helper()
	s.File("request", s.NS.Run(n.t, s.agentCommand("--request")...))
	n.tunctl("net", "grant", filepath.Join(s.Dir, "request"), "--signer", n.signer, "--store", n.registry, "--prefix", fmt.Sprintf("10.%d.0.0/16", 30+s.n))
}

// reaches waits until a reaches b.
func (s *siteEnd) reaches(b *siteEnd) {
	s.T.Helper()
	testnet.Await(s.T, s.Name+" reaches "+b.Name, instance.Limit, func() bool {
		_, err := s.NS.Try("ping", "-qc1", "-W1", fmt.Sprintf("10.%d.0.1", 30+b.n))
		return err == nil
	})
}

func (s *siteEnd) peers() (names []string) {
	for _, p := range s.Status().Peers {
		names = append(names, p.Name+":"+p.Source)
	}
	slices.Sort(names)
	return names
}

// TestSites_joinLeaveAndOutage: sites that share a registry find each other; a further one joins by
// one command; without registry and agents nothing changes; one that is revoked, or leaves, is gone
// everywhere.
func TestSites_joinLeaveAndOutage(t *testing.T) {
	t.Parallel()
	testnet.Require(t)
	n := newSiteNetwork(t)
	for range 3 {
		n.grant(n.join())
	}
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {2, 0}} {
		n.sites[pair[0]].reaches(n.sites[pair[1]])
	}
	fourth := n.join()
	start := time.Now()
	n.grant(fourth)
	for _, s := range n.sites[:3] {
		s.reaches(fourth)
	}
	t.Logf("a site that joins is reached by all after %v", time.Since(start))

	// The registry and the agents go; a daemon restarts, and its agent as well, with what it
	// remembers.
	away := n.registry + ".away"
	if err := os.Rename(n.registry, away); err != nil {
		t.Fatal(err)
	}
	for _, s := range n.sites {
		if err := s.agent.Stop(os.Interrupt, instance.Limit); err != nil {
			t.Errorf("the agent of %s stops with %v:\n%s", s.Name, err, s.agent.Output())
		}
	}
	first, second := n.sites[0], n.sites[1]
	first.reaches(second)
	first.Stop()
	first.Launch()
	first.Ready()
	first.startAgent()
	first.reaches(second)
	first.reaches(fourth)

	if err := os.Rename(away, n.registry); err != nil {
		t.Fatal(err)
	}
	for _, s := range n.sites[1:] {
		s.startAgent()
	}
	n.revoke("site3")
	start = time.Now()
	for i, s := range n.sites[:3] {
		var want []string
		for j := range 3 {
			if j != i {
				want = append(want, fmt.Sprintf("site%d:agent", j))
			}
		}
		testnet.Await(t, s.Name+" drops the revoked site", instance.Limit, func() bool { return slices.Equal(s.peers(), want) })
	}
	t.Logf("a revoked site is gone everywhere after %v", time.Since(start))
	first.reaches(second)
	// It asks for sessions again. Nobody is told to let it in, and it is told what has happened.
	testnet.Await(t, "what is said of the revoked site", instance.Limit, func() bool {
		_, _ = fourth.NS.Try("ping", "-qc1", "-W1", "10.30.0.1")
		return slices.ContainsFunc(first.Status().Warnings, func(w control.Warning) bool {
			return w.Kind == "unknown-peer" && strings.HasPrefix(w.Message, "site3, at ") && strings.Contains(w.Message, "the agent has removed it") &&
				!strings.Contains(w.Remedy, "add [[peer]]")
		})
	})
	const statusLimit = instance.Limit + 15*time.Second // the status may be 15 seconds old
	testnet.Await(t, "the revoked site knows", statusLimit, func() bool {
		return strings.Contains(fourth.NS.Run(t, fourth.agentCommand("--status")...), `"grant": "revoked"`)
	})
	var status struct {
		Sites, Peers int
	}
	out := first.NS.Run(t, first.agentCommand("--status")...)
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Sites != 4 || status.Peers < 2 {
		t.Errorf("status of the agent: %v\n%s", err, out)
	}

	third := n.sites[2]
	if out, err := third.NS.Try(third.agentCommand("leave")...); err == nil {
		t.Errorf("a site leaves although its agent runs:\n%s", out)
	}
	if err := third.agent.Stop(os.Interrupt, instance.Limit); err != nil {
		t.Errorf("its agent stops with %v:\n%s", err, third.agent.Output())
	}
	t.Log(third.NS.Run(t, third.agentCommand("leave")...))
	testnet.Await(t, "the site that leaves is gone", instance.Limit, func() bool { return slices.Equal(first.peers(), []string{"site1:agent"}) })
	third.startAgent()
	first.reaches(third)
	for _, s := range n.sites {
		s.Stop()
	}
}
