package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// disorder is a fault of the host that comes and goes, as shell commands. NAME is the device. The
// firewall is not flushed: its table also notes which settings are to be set back at the end.
type disorder struct{ name, begin, end string }

var disorders = []disorder{
	{"IPv6 off", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
		"sysctl -qw net.ipv6.conf.all.disable_ipv6=0 && ip -6 address replace " + underlayA6 + "/64 dev eth0 nodad"},
	{"a route taken", "ip route replace 10.20.0.0/16 via " + underlayB4 + " dev eth0", "ip route delete 10.20.0.0/16 via " + underlayB4},
	{"an own LAN", "ip link add d0 type bridge && ip link set d0 up && ip address add 10.20.0.1/16 dev d0", "ip link delete d0"},
	{"an address taken", "ip link add d1 type bridge && ip link set d1 up && ip address add 10.9.0.1/24 dev d1", "ip link delete d1"},
	{"no default route", "ip route delete default", "ip route replace default via " + underlayB4 + " dev eth0"},
	{"the device down", "ip link set NAME down", "ip link set NAME up"},
	{"an address removed", "ip address delete 10.9.0.1/24 dev NAME", "true"},
	{"a rule removed", "ip rule delete priority $(ip rule | awk -F: '$1 > 0 && $1 < 32766 { print $1; exit }')", "true"},
}

// TestSoakOrder_ofEventsDoesNotMatter starts, reloads, stops, kills and restarts an instance in a
// random order, while faults of the host come and go. When they are over, the kernel has what it
// has after a plain start, and after a stop what it had at first.
//
// The order is that of a seed, which TUND_TEST_SEED replaces: a number, to try other orders.
func TestSoakOrder_ofEventsDoesNotMatter(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	seed := uint64(1)
	if text := os.Getenv("TUND_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	orders(t, seed, orderRounds)
}

// orderRounds is how often events are followed by a comparison.
const orderRounds = 4

// eventsPerRound is how many events precede each comparison.
const eventsPerRound = 10

func orders(t *testing.T, seed uint64, rounds int) {
	g := fullTunnel(t)
	store := storeFor(t, g)
	random := rand.New(rand.NewPCG(seed, 0))
	before := g.NS.Snapshot()
	g.start()
	reference := settled(g)
	g.Stop()
	store.drop()
	for round := range rounds {
		o := &order{g: g, store: store, random: random, now: make(map[string]bool)}
		for range eventsPerRound {
			o.event()
			pause(time.Duration(random.Int64N(int64(startMoments))))
		}
		o.calm()
		when := func() string { return fmt.Sprintf("seed %d, round %d: %s", seed, round, strings.Join(o.events, ", ")) }
		after := settled(g)
		for end := time.Now().Add(startLimit); after != reference && time.Now().Before(end); after = settled(g) {
			pause(100 * time.Millisecond)
		}
		if after != reference {
			t.Fatalf("%s: the kernel has too much\n%sand lacks\n%s", when(), without(after, reference), without(reference, after))
		}
		g.Stop()
		store.drop()
		g.leavesNothing(before, when())
		if t.Failed() {
			return
		}
	}
}

// order is what has happened in one round.
type order struct {
	g       *gateway
	store   *fdStore
	random  *rand.Rand
	running bool
	now     map[string]bool // faults
	events  []string
}

// event lets one of the possible things happen.
func (o *order) event() {
	if d := disorders[o.random.IntN(len(disorders))]; o.random.IntN(2) == 0 {
		if o.now[d.name] {
			o.change("end of "+d.name, d.end)
		} else {
			o.change(d.name, d.begin)
		}
		o.now[d.name] = !o.now[d.name]
		return
	}
	switch what := o.random.IntN(5); {
	case !o.running:
		o.start()
	case what == 0:
		o.did("stop")
		o.g.Stop()
		o.store.drop()
		o.running = false
	case what == 1:
		o.did("kill")
		o.g.Kill()
		if o.random.IntN(2) == 0 {
			o.did("with the store")
		} else {
			o.store.drop()
		}
		o.running = false
	case what == 2:
		o.did("restart")
		o.store.restart()
	default:
		o.g.addresses[1] = fmt.Sprintf("fd09::%d/64", 1+o.random.IntN(3))
		o.reload()
	}
}

func (o *order) did(what string) { o.events = append(o.events, what) }

func (o *order) start() {
	o.did("start")
	o.store.ready()
	o.g.start()
	o.running = true
}

// reload reloads. A part of the configuration may be refused by the kernel for the time being.
func (o *order) reload() {
	o.did("reload")
	o.g.write()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	_ = o.g.Client().Reload(ctx, 0)
}

// change changes the host. What is not there cannot be changed.
func (o *order) change(what, command string) {
	o.did(what)
	_, _ = o.g.NS.Try("sh", "-c", strings.ReplaceAll(command, "NAME", o.g.Name))
}

// calm ends all faults, and has the instance run with its first configuration.
func (o *order) calm() {
	for _, d := range disorders {
		if o.now[d.name] {
			o.change("end of "+d.name, d.end)
		}
	}
	first := o.g.addresses[1] == "fd09::1/64"
	o.g.addresses[1] = "fd09::1/64"
	switch {
	case !o.running:
		o.start()
	case !first:
		o.reload()
	}
}

// settled returns what the kernel has, without the link-local addresses that it chooses by itself,
// at random for a TUN device.
func settled(g *gateway) (rest string) {
	for line := range strings.Lines(g.NS.Snapshot()) {
		if !strings.Contains(line, " fe80::") || !strings.Contains(line, g.Name) {
			rest += line
		}
	}
	return rest
}

// without returns the lines of a that b lacks.
func without(a, b string) (rest string) {
	there := make(map[string]bool)
	for line := range strings.Lines(b) {
		there[line] = true
	}
	for line := range strings.Lines(a) {
		if !there[line] {
			rest += line
		}
	}
	return rest
}
