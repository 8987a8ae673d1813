package netwatch

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/tundev"
)

// followed runs Follow for a new TUN device in ns, and keeps what it tells.
type followed struct {
	dev *tundev.Device

	mu   sync.Mutex // guards last
	last LinkState
	done chan struct{} // closed when Follow has returned
}

func follow(t *testing.T, ns *testnet.NS, name string) *followed {
	t.Helper()
	f := &followed{done: make(chan struct{})}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	ns.Do(func() {
		dev, err := tundev.Open(tundev.Options{Name: name, Kind: tundev.TUN, Offload: true})
		if err != nil {
			t.Fatal(err)
		}
		f.dev = dev
	})
	go func() {
		defer close(f.done)
		ns.Do(func() {
			close(ready)
			if err := Follow(ctx, f.dev, func(s LinkState) {
				f.mu.Lock()
				f.last = s
				f.mu.Unlock()
			}); err != nil {
				t.Error(err)
			}
		})
	}()
	<-ready
	t.Cleanup(func() {
		cancel()
		<-f.done
		_ = f.dev.Close()
	})
	return f
}

// await waits until Follow has told of a state. A device away from its namespace is seen within a
// second even where nothing tells of it.
func (f *followed) await(t *testing.T, want LinkState, limit time.Duration) {
	t.Helper()
	text := fmt.Sprint(want)
	testnet.Await(t, "state "+text, limit, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		seen := f.last
		if want.Addrs == nil { // the kernel adds a link-local one
			seen.Addrs = nil
		}
		return fmt.Sprint(seen) == text
	})
}

func TestFollow_seesADeviceWhereverItIs(t *testing.T) {
	t.Parallel()
	here, there, beyond := testnet.New(t), testnet.New(t), testnet.New(t)
	f := follow(t, here, "tunf")
	const soon = 5 * time.Second
	f.await(t, LinkState{MTU: 1500}, 5*time.Second)
	for _, ns := range []*testnet.NS{here, there, beyond, there} {
		ns.Run(t, "ip", "link", "set", "tunf", "up", "mtu", "1400")
		f.await(t, LinkState{Up: true, MTU: 1400}, soon)
		ns.Run(t, "ip", "route", "add", "192.0.2.0/24", "dev", "tunf", "mtu", "1300")
		f.await(t, LinkState{Up: true, MTU: 1400, RouteMTUs: []int{1300}}, soon)
		ns.Run(t, "ip", "route", "add", "198.51.100.0/24", "dev", "tunf", "mtu", "1299", "table", "77")
		ns.Run(t, "ip", "-6", "route", "add", "2001:db8::/64", "dev", "tunf", "mtu", "1290")
		f.await(t, LinkState{Up: true, MTU: 1400, RouteMTUs: []int{1290, 1299, 1300}}, soon)
		ns.Run(t, "ip", "route", "delete", "192.0.2.0/24")
		f.await(t, LinkState{Up: true, MTU: 1400, RouteMTUs: []int{1290, 1299}}, soon)
		ns.Run(t, "ip", "-6", "address", "flush", "dev", "tunf", "scope", "link")
		ns.Run(t, "ip", "address", "add", "10.9.0.1/24", "dev", "tunf")
		f.await(t, LinkState{Up: true, MTU: 1400, RouteMTUs: []int{1290, 1299},
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}}, soon)
		ns.Run(t, "ip", "link", "set", "tunf", "mtu", "34000")
		f.await(t, LinkState{Up: true, MTU: 34000, RouteMTUs: []int{1290, 1299}}, soon)
		ns.Run(t, "ip", "link", "set", "tunf", "down", "mtu", "1500")
		f.await(t, LinkState{MTU: 1500}, soon)
		switch ns { // here → there → beyond → there
		case here, beyond:
			ns.Run(t, "ip", "link", "set", "tunf", "netns", there.Name())
		case there:
			ns.Run(t, "ip", "link", "set", "tunf", "netns", beyond.Name())
		}
	}
	beyond.Run(t, "ip", "link", "delete", "tunf")
	select {
	case <-f.done:
	case <-time.After(5 * time.Second):
		t.Error("Follow goes on after the link was deleted")
	}
}

// Whoever follows a device must not be the reason why its namespace lives on.
func TestFollow_letsTheNamespaceGo(t *testing.T) {
	t.Parallel()
	here := testnet.New(t)
	f := follow(t, here, "tunf")
	name := here.Name() + "-gone"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	ip("-n", here.Name(), "link", "set", "tunf", "netns", name)
	ip("-n", name, "link", "set", "tunf", "up", "mtu", "1400")
	f.await(t, LinkState{Up: true, MTU: 1400}, 5*time.Second)
	ip("netns", "delete", name)
	testnet.Await(t, "end of the namespace and the device", 10*time.Second, func() bool { return f.dev.Name() == "" })
}

// A gateway has a route for each of ten thousand peers: those that set no MTU are no reason to read
// all of them again.
func TestFollower_concerns(t *testing.T) {
	t.Parallel()
	f := follower{index: 7}
	for _, c := range []struct {
		n    Notice
		mtus []int // known so far
		want bool
	}{
		{Notice{Kind: Route, Index: 7}, nil, false},
		{Notice{Kind: Route, Index: 7, Del: true}, nil, false},
		{Notice{Kind: Route, Index: 7, MTU: 1300}, nil, true},
		{Notice{Kind: Route, Index: 8, MTU: 1300}, nil, false},
		{Notice{Kind: Route, Index: 7}, []int{1300}, true}, // it may have replaced that one
		{Notice{Kind: Addr, Index: 7}, nil, true},
		{Notice{Kind: Overflow}, nil, true},
	} {
		f.last.RouteMTUs = c.mtus
		if got := f.concerns(c.n); got != c.want {
			t.Errorf("%+v with MTUs %v: concerns is %t", c.n, c.mtus, got)
		}
	}
}
