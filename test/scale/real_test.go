package scale

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/testnet"
	"tund/test/instance"
)

// reals is how many sites have a tund in a network namespace.
const reals = 3

// real is a site with a tund.
type real struct {
	instance.Instance
	member
	site    int
	control *control.Client
}

// newReals starts the tunds of the real sites, around a router.
func (f *fleet) newReals() {
	f.t.Helper()
	router := testnet.New(f.t)
	router.Run(f.t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for n := range reals {
		i := len(f.agents) + n
		r := &real{Instance: instance.New(f.t, testnet.New(f.t), f.net.name(i)), site: i}
		r.disk = newDisk()
		gateway := netip.AddrFrom4([4]byte{192, 0, 2, byte(4*n + 1)})
		testnet.Veth(f.t, router, r.NS, []string{gateway.String() + "/30"}, []string{gateway.Next().String() + "/30"})
		r.NS.Run(f.t, "ip", "route", "add", "default", "via", gateway.String())
		r.WriteConfig(fmt.Sprintf("[tunnel]\nprivate_key_file = \"own.key\"\nlisten_port = 51820\n"+
			"[tun]\naddress = [%q]\n[agent]\nuser = \"root\"\nwithin = [\"10.0.0.0/8\"]\n", r.address(f)+"/24"))
		// The site is the key of the tund.
		f.net.rename(i, r.Key.Public(), netip.AddrPortFrom(gateway.Next(), 51820))
		r.control = r.Client()
		r.Launch()
		r.Ready()
		f.reals = append(f.reals, r)
	}
}

// address is that of a real site inside the tunnel.
func (r *real) address(f *fleet) string { return f.net.sites[r.site].prefix.Addr().Next().String() }

// differs says how the peers of the tund differ from what is wanted; "": they do not.
func (r *real) differs(f *fleet, want []int) string {
	var names []string
	for i, version := range want {
		if version > 0 && i != r.site {
			names = append(names, f.net.name(i))
		}
	}
	var have []string
	ctx, cancel := context.WithTimeout(context.Background(), control.AnswerTimeout)
	defer cancel()
	status, err := r.control.Status(ctx)
	if err != nil {
		return err.Error()
	}
	for _, p := range status.Instances[0].Peers {
		have = append(have, p.Name)
	}
	slices.Sort(names)
	slices.Sort(have)
	if !slices.Equal(names, have) {
		return fmt.Sprintf("%s has %d peers, and %d are wanted", r.Name, len(have), len(names))
	}
	return ""
}

// reaches waits until a real site reaches another one.
func (r *real) reaches(f *fleet, to *real) {
	f.t.Helper()
	testnet.Await(f.t, r.Name+" reaches "+to.Name, limit(), func() bool {
		_, err := r.NS.Try("ping", "-qc1", "-W1", to.address(f))
		return err == nil
	})
}

// traffic pings from one real site to another until the result is called, which fails the test if
// anything was lost.
func (f *fleet) traffic(from, to *real) (end func(*testing.T)) {
	f.t.Helper()
	from.reaches(f, to)
	ping := from.NS.Start(f.t, "ping", "-ni0.1", to.address(f))
	began := time.Now()
	return func(t *testing.T) {
		_ = ping.Stop(syscall.SIGINT, 10*time.Second)
		// What was sent last may still be on its way.
		last, lost := 0, []int{}
		for _, m := range regexp.MustCompile(`icmp_seq=(\d+) ttl`).FindAllStringSubmatch(ping.Output(), -1) {
			seq, _ := strconv.Atoi(m[1])
			for missing := last + 1; missing < seq; missing++ {
				lost = append(lost, missing)
			}
			last = max(last, seq)
		}
		took := time.Since(began).Round(time.Second)
		if len(lost) > 0 || last < int(took.Seconds()) {
			t.Errorf("traffic between two sites for %v: %d pings, of which these were lost: %v", took, last, lost)
			return
		}
		t.Logf("traffic between two sites for %v: %d pings, none lost", took, last)
	}
}
