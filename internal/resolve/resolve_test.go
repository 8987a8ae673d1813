package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/config"
	"tund/crypto/keys"
)

// names is a Resolver on virtual time with a name service, a network and peers simulated by the
// test.
type names struct {
	*Resolver
	t    *testing.T
	logs *observer.ObservedLogs

	mu          sync.Mutex // guards what follows
	answers     map[string][]netip.Addr
	latency     time.Duration
	asked       map[string][]time.Time
	running     int
	most        int
	unreachable map[netip.Addr]bool
	downPeers   map[keys.PublicKey]bool
	told        []string // "name: endpoints"
}

// resolving runs f beside a Resolver in a synctest bubble, which fails if a goroutine is left
// behind.
func resolving(t *testing.T, peers []config.Peer, f func(n *names)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		n := &names{
			t: t, logs: logs, answers: map[string][]netip.Addr{}, asked: map[string][]time.Time{},
			unreachable: map[netip.Addr]bool{}, downPeers: map[keys.PublicKey]bool{}, latency: 10 * time.Millisecond,
		}
		n.Resolver = New(Options{
			Log: zap.New(core), Lookup: n.answer,
			Reachable: func(a netip.Addr) bool { n.mu.Lock(); defer n.mu.Unlock(); return !n.unreachable[a] },
			Down:      func(k keys.PublicKey) bool { n.mu.Lock(); defer n.mu.Unlock(); return n.downPeers[k] },
			Changed: func(p config.Peer) {
				found := n.Endpoints(p)
				n.mu.Lock()
				defer n.mu.Unlock()
				n.told = append(n.told, fmt.Sprint(p.Name, ": ", found))
			},
		})
		n.SetPeers(peers)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { n.Run(ctx); close(ended) }()
		f(n)
		cancel()
		<-ended
	})
}

var errNoSuchHost = errors.New("no such host")

func (n *names) answer(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked[host] = append(n.asked[host], time.Now())
	n.running++
	n.most = max(n.most, n.running)
	latency := n.latency
	n.mu.Unlock()
	var err error
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		err = ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running--
	if found := n.answers[host]; err == nil && found != nil {
		return found, nil
	}
	if err == nil {
		err = errNoSuchHost
	}
	return nil, err
}

// knows sets what the name service says of a host; nothing: it does not know it.
func (n *names) knows(host string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.answers, host)
	for _, a := range addrs {
		n.answers[host] = append(n.answers[host], netip.MustParseAddr(a))
	}
}

// pass lets time pass and returns what was told and the seconds, since the last call, at which host
// was asked.
func (n *names) pass(d time.Duration, host string) (told []string, asked []time.Duration) {
	start := time.Now()
	time.Sleep(d)
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	told, n.told = n.told, nil
	for _, at := range n.asked[host] {
		asked = append(asked, at.Sub(start))
	}
	clear(n.asked)
	return told, asked
}

// peerAt makes a configured peer; its key is made of its name.
func peerAt(name string, endpoints ...string) config.Peer {
	p := config.Peer{Name: name}
	copy(p.PublicKey[:], name)
	for _, e := range endpoints {
		host, port, _ := strings.Cut(e, "#")
		p.Endpoints = append(p.Endpoints, config.Endpoint{Host: host, Port: uint16(len(port))})
	}
	return p
}

func TestResolver_retriesWithGrowingPausesUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "b.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		told, asked := n.pass(3*time.Minute, "b.example")
		if len(told) != 0 {
			t.Errorf("told %q of a name without an answer", told)
		}
		last, want := time.Duration(0), firstRetry
		if len(asked) < 8 || asked[0] != 0 {
			t.Fatalf("asked at %v, want at once and 7 times and more", asked)
		}
		for _, at := range asked[1:] {
			if pause := at - last - n.latency; pause < want*3/4 || pause > want*5/4 {
				t.Errorf("asked at %v: a pause of %v, want %v and a quarter", asked, pause, want)
			}
			last, want = at, min(2*want, lastRetry)
		}
		if why := n.Failures()[berlin.PublicKey]; why != "endpoint b.example does not resolve: no such host" {
			t.Errorf("trouble = %q", why)
		}
		if n := n.logs.Len(); n != 1 {
			t.Errorf("%d log lines in 3 minutes, want 1", n)
		}
		n.knows("b.example", "192.0.2.1")
		told, _ = n.pass(2*lastRetry, "b.example")
		if !slices.Equal(told, []string{"berlin: [192.0.2.1:1]"}) || len(n.Failures()) != 0 {
			t.Errorf("told %q, trouble %v", told, n.Failures())
		}
	})
}

func TestResolver_asksAgainOnlyWhileThePeerIsDown(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "b.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.knows("b.example", "192.0.2.1")
		n.pass(time.Second, "")
		if _, asked := n.pass(time.Hour, "b.example"); len(asked) != 0 {
			t.Errorf("asked %d times about a peer that is up", len(asked))
		}
		n.mu.Lock()
		n.downPeers[berlin.PublicKey] = true
		n.mu.Unlock()
		n.knows("b.example", "192.0.2.9")
		told, asked := n.pass(2*recheckEvery, "b.example")
		if !slices.Equal(told, []string{"berlin: [192.0.2.9:1]"}) || len(asked) == 0 || asked[0] > recheckEvery*5/4 {
			t.Errorf("told %q, asked at %v: want the new address within %v", told, asked, recheckEvery*5/4)
		}
		n.knows("b.example") // the last good answer stays
		told, asked = n.pass(10*time.Minute, "b.example")
		if len(told) != 0 || len(asked) < 8 || len(n.Failures()) != 0 {
			t.Errorf("told %q, asked %d times, trouble %v", told, len(asked), n.Failures())
		}
		if got := n.Endpoints(berlin); len(got) != 1 || got[0].String() != "192.0.2.9:1" {
			t.Errorf("endpoints %v, want the last good one", got)
		}
	})
}

func TestResolver_anotherOrderIsTheSameAnswer(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "b.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.mu.Lock()
		n.downPeers[berlin.PublicKey] = true
		n.mu.Unlock()
		n.knows("b.example", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1")
		if told, _ := n.pass(time.Second, ""); !slices.Equal(told, []string{"berlin: [192.0.2.1:1 192.0.2.2:1]"}) {
			t.Errorf("told %q", told)
		}
		n.knows("b.example", "192.0.2.2", "192.0.2.1")
		if told, asked := n.pass(5*time.Minute, "b.example"); len(told) != 0 || len(asked) < 5 {
			t.Errorf("told %q after %d lookups: it would begin with the first again and again", told, len(asked))
		}
	})
}

func TestResolver_triesWhatIsReachableFirst(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "b.example#1", "192.0.2.9#22", "c.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.mu.Lock()
		n.unreachable[netip.MustParseAddr("2001:db8::1")] = true
		n.mu.Unlock()
		n.knows("b.example", "2001:db8::1", "192.0.2.1")
		if told, _ := n.pass(time.Second, ""); len(told) != 1 || told[0] != "berlin: [192.0.2.1:1 [2001:db8::1]:1 192.0.2.9:2]" {
			t.Errorf("told %q, want IPv4 first and then the rest of the list in its order", told)
		}
	})
}

func TestResolver_refusesAnswersWhereNoPeerCanBe(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"0.0.0.0", "0.1.2.3", "::", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "224.0.0.1", "239.255.255.250",
		"ff02::1", "ff0e::101", "255.255.255.255", "::ffff:255.255.255.255", "::ffff:0.0.0.0",
	} {
		berlin := peerAt("berlin", "b.example#1", "127.0.0.1#22", "c.example#333")
		resolving(t, []config.Peer{berlin}, func(n *names) {
			n.knows("b.example", "192.0.2.1", bad)
			n.knows("c.example", bad)
			n.pass(10*time.Minute, "")
			if got := fmt.Sprint(n.Endpoints(berlin)); got != "[192.0.2.1:1 127.0.0.1:2]" {
				t.Errorf("endpoints %s beside %s; want the good answer and the one that is written down", got, bad)
			}
			if why := n.Failures()[berlin.PublicKey]; !strings.Contains(why, "c.example") ||
				!strings.Contains(why, netip.MustParseAddr(bad).Unmap().String()+",") {
				t.Errorf("trouble %q does not name c.example and %s", why, bad)
			}
			if all := n.logs.All(); len(all) != 2 || all[0].Level != zapcore.WarnLevel || all[1].Level != zapcore.WarnLevel {
				t.Errorf("%s: log %v, want one warning for each name", bad, all)
			}
			n.mu.Lock()
			n.downPeers[berlin.PublicKey] = true
			n.mu.Unlock()
			n.knows("b.example", bad) // the last good answer stays
			if n.pass(10*time.Minute, ""); len(n.Endpoints(berlin)) != 2 {
				t.Errorf("endpoints %v after %s came instead of a good answer", n.Endpoints(berlin), bad)
			}
		})
	}
}

func TestResolver_localhostIsLoopback(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "localhost#1", "x.Localhost.#22")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.knows("localhost", "127.0.0.1", "::1")
		n.knows("x.Localhost.", "127.0.0.2")
		n.pass(time.Second, "")
		if got := fmt.Sprint(n.Endpoints(berlin)); got != "[127.0.0.1:1 [::1]:1 127.0.0.2:2]" || n.logs.Len() != 0 {
			t.Errorf("endpoints %s, log %v", got, n.logs.All())
		}
	})
}

func TestResolver_asksForANameOnceAndABoundedNumberAtATime(t *testing.T) {
	t.Parallel()
	var peers []config.Peer
	for i := range 100 {
		peers = append(peers, peerAt(fmt.Sprint("p", i), fmt.Sprintf("h%d.example#%s", i%50, strings.Repeat("1", 1+i))))
	}
	resolving(t, peers, func(n *names) {
		n.mu.Lock()
		n.latency = lookupTimeout * 2 // the name servers are dead
		n.mu.Unlock()
		told, _ := n.pass(lookupTimeout/2, "")
		n.mu.Lock()
		if n.most != parallelLookup || len(told) != 0 {
			t.Errorf("%d lookups at once, want %d", n.most, parallelLookup)
		}
		n.latency = time.Millisecond // alive again
		for i := range 50 {
			n.answers[fmt.Sprintf("h%d.example", i)] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
		}
		n.mu.Unlock()
		told, asked := n.pass(2*lookupTimeout, "h40.example")
		if len(told) != 100 || len(asked) != 1 {
			t.Errorf("%d of 100 peers told, the last name asked for %d times", len(told), len(asked))
		}
	})
}

func TestResolver_setKeepsWhatIsKnownAndAsksForTheRest(t *testing.T) {
	t.Parallel()
	berlin, paris := peerAt("berlin", "b.example#1"), peerAt("paris", "p.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.knows("b.example", "192.0.2.1")
		n.knows("p.example", "192.0.2.2")
		n.pass(time.Second, "")
		berlin.Name = "Berlin"
		n.SetPeers([]config.Peer{berlin, paris})
		told, asked := n.pass(time.Second, "b.example")
		if !slices.Equal(told, []string{"paris: [192.0.2.2:1]"}) || len(asked) != 0 {
			t.Errorf("told %q, asked %v for a known name", told, asked)
		}
		if got := n.Endpoints(berlin); len(got) != 1 {
			t.Errorf("endpoints %v", got)
		}
		n.SetPeers([]config.Peer{paris}) // and what nobody wants is forgotten
		if len(n.hosts) != 1 {
			t.Errorf("%d names", len(n.hosts))
		}
	})
}

func TestResolver_hurriesWhenTheNetworkChanges(t *testing.T) {
	t.Parallel()
	berlin := peerAt("berlin", "b.example#1")
	resolving(t, []config.Peer{berlin}, func(n *names) {
		n.pass(10*time.Minute, "") // pauses have become long
		n.knows("b.example", "192.0.2.1")
		n.Retry()
		if told, _ := n.pass(100*time.Millisecond, ""); len(told) != 1 {
			t.Errorf("told %q right after the network changed", told)
		}
		n.Retry()
		if _, asked := n.pass(time.Second, "b.example"); len(asked) != 0 {
			t.Errorf("a name that resolves is asked for at %v", asked)
		}
	})
}

func TestResolver_stopsInTheMiddleOfLookups(t *testing.T) {
	t.Parallel()
	resolving(t, []config.Peer{peerAt("berlin", "b.example#1")}, func(n *names) {
		n.mu.Lock()
		n.latency = time.Hour
		n.mu.Unlock()
		n.pass(time.Second, "")
	}) // synctest fails when something is left
}

func TestResolver_literalEndpointsNeedNoLookup(t *testing.T) {
	t.Parallel()
	oslo := peerAt("oslo", "192.0.2.1#1", "2001:db8::1#1", "::ffff:192.0.2.1#1")
	resolving(t, []config.Peer{oslo, peerAt("silent")}, func(n *names) {
		if told, _ := n.pass(time.Minute, ""); len(told) != 0 || len(n.hosts) != 0 {
			t.Errorf("told %q", told)
		}
		if got := fmt.Sprint(n.Endpoints(oslo)); got != "[192.0.2.1:1 [2001:db8::1]:1]" {
			t.Errorf("endpoints %s", got)
		}
		if got := n.Endpoints(peerAt("silent")); got == nil || len(got) != 0 {
			t.Errorf("endpoints %v, want an empty list: nil would mean no change", got)
		}
	})
}
