package ethernet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// The addresses that the routers share: one group for each family.
const sharedV4, sharedV6 = "10.7.0.200", "fd07::200"

// router is a host that runs keepalived.
type router struct {
	*host
	priority int
	daemon   *testnet.Process
}

// newRouter makes a router with the next address of a site. It answers at port 7.
func newRouter(s *site, last, priority int) *router {
	r := &router{host: s.host(last), priority: priority}
	for _, set := range []string{
		"all.arp_ignore=1", "all.arp_announce=2", "all.rp_filter=0", "default.rp_filter=0",
	} {
		r.ns.Run(r.t, "sysctl", "-qw", "net.ipv4.conf."+set)
	}
	r.ns.Run(r.t, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	r.datagrams("udp4", 7, "").echo()
	r.datagrams("udp6", 7, "").echo()
	return r
}

// start runs keepalived with VRRP version 3 and the protocol's own MAC addresses, for both
// families.
func (r *router) start() {
	r.t.Helper()
	group := func(id int, addresses ...string) string {
		return fmt.Sprintf(`vrrp_instance V%d {
  state BACKUP
  interface %s
  use_vmac vrrp%d
  virtual_router_id %d
  priority %d
  advert_int 1
  virtual_ipaddress {
    %s
  }
}
`, id, r.dev, id, id, r.priority, strings.Join(addresses, "\n    "))
	}
	dir := r.t.TempDir()
	file := filepath.Join(dir, "keepalived.conf")
	text := "global_defs {\n  vrrp_version 3\n}\n" + group(7, sharedV4+"/32") + group(8, "fe80::7:1/64", sharedV6+"/128")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.daemon = r.ns.Start(r.t, "keepalived", "-n", "-l", "-P", "-f", file,
		"-p", filepath.Join(dir, "main.pid"), "-r", filepath.Join(dir, "vrrp.pid"))
}

// master reports for both families whether the router has the shared address.
func (r *router) master() [2]bool {
	r.t.Helper()
	out := r.ns.Run(r.t, "ip", "-o", "address", "show")
	return [2]bool{strings.Contains(out, " "+sharedV4+"/"), strings.Contains(out, " "+sharedV6+"/")}
}

// masters counts the masters of both groups.
func masters(routers ...*router) (count [2]int) {
	for _, r := range routers {
		for family, is := range r.master() {
			if is {
				count[family]++
			}
		}
	}
	return count
}

// gap is the longest time for which one of the shared addresses did not answer one of the clients
// while something was done, and until all was quiet again.
func gap(t *testing.T, clients []*host, do func()) time.Duration {
	t.Helper()
	type watch struct {
		answers *datagrams
		to      string
		last    time.Time
		longest time.Duration
	}
	var watches []*watch
	for _, c := range clients {
		watches = append(watches, &watch{answers: c.datagrams("udp4", 0, ""), to: sharedV4},
			&watch{answers: c.datagrams("udp6", 0, ""), to: sharedV6})
	}
	stop, done := make(chan struct{}), make(chan struct{})
	for _, w := range watches {
		w.last = time.Now()
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, w := range watches {
				w.answers.send(w.to, 7, "there?")
				for w.answers.receive(5*time.Millisecond) != "" {
					w.longest, w.last = max(w.longest, time.Since(w.last)), time.Now()
				}
			}
		}
	}()
	do()
	close(stop)
	<-done
	var longest time.Duration
	for _, w := range watches {
		longest = max(longest, w.longest, time.Since(w.last))
	}
	return longest
}

// election is what one LAN showed: how long the clients had no answer in each scenario.
type election struct{ failOver, failBack, crash time.Duration }

// agreeLimit is how soon there is one master, and the right one. A router that starts, or no longer
// hears its master, waits for 3.6 s.
const agreeLimit = 5 * time.Second

// elect has two routers elect a master, in each of the ways that matter, and requires that there
// is exactly one after five seconds. between takes the two halves of the LAN apart and joins them;
// nil where they are one.
func elect(t *testing.T, r1, r2 *router, clients []*host, between func(joined bool)) (e election) {
	t.Helper()
	agree := func(what string, want *router) {
		t.Helper()
		testnet.Await(t, what, slowly(agreeLimit), func() bool {
			return masters(r1, r2) == [2]int{1, 1} && want.master() == [2]bool{true, true}
		})
	}
	r1.start()
	testnet.Await(t, "the first router to be master", 2*agreeLimit, func() bool { return r1.master() == [2]bool{true, true} })
	r2.start()
	agree("the better router to be master", r2)
	for _, c := range clients {
		c.reaches(sharedV4, 5*time.Second)
		c.reaches(sharedV6, 5*time.Second)
	}
	e.failOver = gap(t, clients, func() {
		if err := r2.daemon.Stop(syscall.SIGTERM, 10*time.Second); err != nil {
			t.Logf("keepalived: %v", err)
		}
		agree("the other router to take over from one that was stopped", r1)
		pause(2 * time.Second)
	})
	e.failBack = gap(t, clients, func() {
		r2.start()
		agree("the better router to be master again", r2)
		pause(2 * time.Second)
	})
	e.crash = gap(t, clients, func() {
		r2.ns.Run(t, "ip", "link", "set", r2.dev, "down")
		testnet.Await(t, "the other router to take over from one that is cut off", slowly(5*time.Second),
			func() bool { return r1.master() == [2]bool{true, true} })
		pause(2 * time.Second)
	})
	r2.ns.Run(t, "ip", "link", "set", r2.dev, "up")
	r2.ns.Run(t, "ip", "-6", "address", "replace", r2.v6()+"/64", "dev", r2.dev, "nodad")
	agree("the router that was cut off to be master again", r2)
	if between != nil {
		between(false)
		testnet.Await(t, "two masters while the LAN is in two parts", 15*time.Second, func() bool {
			return masters(r1, r2) == [2]int{2, 2}
		})
		between(true)
		agree("one master when the parts are joined again", r2)
		pause(3 * time.Second)
		agree("one master for good", r2)
		for _, c := range clients {
			c.reaches(sharedV4, 5*time.Second)
			c.reaches(sharedV6, 5*time.Second)
		}
	}
	return e
}

// missedMessage is how long an address does not answer when a router misses the first message of
// the one that is better, and waits for the next: that happens on a bridge as well (1.03 s, or
// 0.04).
const missedMessage = 1200 * time.Millisecond

// Two routers that share addresses by VRRP, with the MAC addresses of the protocol, one at each
// site, beside the same on a plain bridge: there is one master five seconds after each change, and
// clients wait for the better router when it is back no longer than half as long again as there, or
// than missedMessage.
func TestSoakElection_keepalived(t *testing.T) {
	testnet.Soak(t)
	if _, err := exec.LookPath("keepalived"); err != nil {
		testnet.Lacks(t, "keepalived is not installed")
	}
	alone(t)
	w := newWAN(t)
	bridge := w.site("plain") // not started: its LAN is a bridge and nothing else
	plain := elect(t, newRouter(bridge, 11, 100), newRouter(bridge, 12, 150), []*host{bridge.host(1), bridge.host(2)}, nil)

	berlin, paris := w.site("berlin"), w.site("paris")
	mesh(berlin, paris)
	r1, r2 := newRouter(berlin, 21, 100), newRouter(paris, 22, 150)
	clients := []*host{berlin.host(3), paris.host(4)}
	start(t, berlin, paris)
	joined := elect(t, r1, r2, clients, func(joined bool) {
		if !joined {
			paris.Stop()
			return
		}
		paris.start()
		paris.linked(startLimit)
	})
	for _, c := range []struct {
		name          string
		plain, across time.Duration
	}{
		{"fail-over from a stopped router", plain.failOver, joined.failOver},
		{"fail-over from one that is cut off", plain.crash, joined.crash},
		{"fail-back", plain.failBack, joined.failBack},
	} {
		t.Logf("%s: no answer for %v on a bridge, for %v across the tunnel", c.name, c.plain.Round(time.Millisecond), c.across.Round(time.Millisecond))
		// What is measured has the resolution of the probes, and the noise of the machine.
		if limit := slowly(max(c.plain+c.plain/2+100*time.Millisecond, missedMessage)); c.across > limit {
			t.Errorf("%s: no answer for %v, want at most %v", c.name, c.across, limit)
		}
	}
	for _, s := range []*site{berlin, paris} {
		if n := s.Lines("frozen"); n > 0 {
			t.Errorf("%s has frozen %d addresses", s.Name, n)
		}
	}
}
