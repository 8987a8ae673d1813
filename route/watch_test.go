package route

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/internal/testnet"
	"tund/route/mark"
	"tund/route/notice"
)

// scripted is a netwatch.Source that a test feeds.
type scripted struct {
	batches chan []netwatch.Notice
	once    sync.Once
	end     chan struct{}
}

func newScripted() *scripted {
	return &scripted{batches: make(chan []netwatch.Notice), end: make(chan struct{})}
}

func (s *scripted) Subscribe() error { return nil }
func (s *scripted) Interrupt()       { s.once.Do(func() { close(s.end) }) }
func (s *scripted) Close() error     { s.Interrupt(); return nil }

func (s *scripted) Receive() ([]netwatch.Notice, error) {
	select {
	case batch := <-s.batches:
		return batch, nil
	case <-s.end:
		return nil, os.ErrClosed
	}
}

// eventList collects what a Watch tells.
type eventList struct {
	mu   sync.Mutex // guards list
	list []Event
}

func (e *eventList) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

// take returns the events since the last take.
func (e *eventList) take() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	events := e.list
	e.list = nil
	return events
}

// seen returns a condition for testnet.Await.
func (e *eventList) seen(f func(Event) bool) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.ContainsFunc(e.list, f)
	}
}

// watched is a Manager on a fake kernel with one state applied and Watch running, inside a
// synctest bubble.
type watched struct {
	m      *Manager
	k      *fakeKernel
	source *scripted
	events eventList
	stop   func()
}

func startWatch(t *testing.T, s State) *watched {
	t.Helper()
	w := &watched{k: newFake(), source: newScripted()}
	w.m = newManager("office", w.k, []netwatch.Source{w.source})
	apply(t, w.m, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- w.m.Watch(ctx, w.events.add)
	}()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch = %v", err)
		}
	}
	// The first look, at what was lost before Watch, finds nothing.
	if events := w.pass(time.Second); len(events) > 0 {
		t.Fatalf("events = %+v before anything happened", events)
	}
	return w
}

// pass lets the fake clock run and returns the events since the last call.
func (w *watched) pass(d time.Duration) []Event {
	<-time.After(d)
	synctest.Wait()
	return w.events.take()
}

// lose removes all of our rules and routes behind the Manager's back and says so.
func (w *watched) lose() {
	w.k.locked(func() {
		clear(w.k.rules)
		clear(w.k.routes)
	})
	w.source.batches <- []netwatch.Notice{{Kind: netwatch.Rule, Del: true, Protocol: mark.Protocol}, {Kind: netwatch.Route, Del: true, Protocol: mark.Protocol}}
}

func TestWatch_restoresWhatOthersRemove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[5].state)
		defer w.stop()
		before := w.k.text(t)
		w.lose()
		events := w.pass(2 * settle)
		if len(events) != 1 || len(events[0].Lost) != 14 || events[0].Underlay || events[0].Err != nil {
			t.Errorf("events = %+v, want one with 8 rules and 6 routes", events)
		}
		if after := w.k.text(t); after != before {
			t.Errorf("got:\n%swant:\n%s", after, before)
		}
	})
}

func TestWatch_doesNotFightForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[5].state)
		defer w.stop()
		restored := 0
		for range 100 {
			w.lose()
			restored += len(w.pass(2 * settle))
		}
		if limit := notice.Burst + int(20*time.Second/notice.Refill) + 1; restored > limit || restored < notice.Burst {
			t.Errorf("%d restores in 20 seconds of fighting, want %d to %d", restored, notice.Burst, limit)
		}
		w.pass(2 * notice.Refill)
		if rules := strings.Count(w.k.text(t), "rule "); rules != 8 {
			t.Errorf("%d rules after the fight, want all 8:\n%s", rules, w.k.text(t))
		}
	})
}

func TestWatch_retriesWithGrowingPausesAndTellsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		defer w.stop()
		attempts := 0
		refuse := true
		w.k.locked(func() {
			w.k.fail = func(_ int, c change) error {
				if o, ok := c.o.(routeObject); ok && o.dev != "" && refuse {
					attempts++
					return unix.EPERM
				}
				return nil
			}
		})
		w.lose()
		events := w.pass(10 * time.Minute)
		if len(events) != 1 || !errors.Is(events[0].Err, unix.EPERM) || !strings.Contains(events[0].Err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("events = %+v, want one with EPERM and advice", events)
		}
		w.k.locked(func() { attempts /= 2 })
		if attempts < 12 || attempts > 20 { // 1+2+4+8+16+32 s, then each minute; two routes
			t.Errorf("%d attempts in ten minutes, want about 15", attempts)
		}
		w.k.locked(func() { refuse = false })
		events = w.pass(retryMost)
		if len(events) != 1 || len(events[0].Lost) != 2 || events[0].Err != nil {
			t.Errorf("events = %+v, want one with both routes back", events)
		}
	})
}

func TestWatch_tellsOfTheUnderlayEvenWhileARestoreWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		defer w.stop()
		w.k.locked(func() { w.k.fail = func(int, change) error { return unix.EPERM } })
		w.lose()
		w.pass(5 * time.Minute) // the pause is a minute now
		w.source.batches <- []netwatch.Notice{{Kind: netwatch.Addr, Index: 2}, {Kind: netwatch.Addr, Index: 2, Del: true}}
		events := w.pass(2 * settle)
		if len(events) != 1 || !events[0].Underlay {
			t.Errorf("events = %+v, want the underlay's change at once", events)
		}
	})
}

func TestWatch_leavesALinkThatSomebodySetDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		defer w.stop()
		index := w.k.links["office"].index
		setUp := func(up bool) {
			w.k.locked(func() { _ = w.k.setLink("office", func(l *link) { l.up = up }) })
			w.source.batches <- []netwatch.Notice{{Kind: netwatch.Link, Index: index, Name: "office"}}
		}
		setUp(false)
		if events := w.pass(time.Minute); len(events) > 0 || !strings.Contains(w.k.text(t), "link office mtu 1420 up false") {
			t.Errorf("events = %+v, want the operator's will respected\n%s", events, w.k.text(t))
		}
		setUp(true)
		if events := w.pass(2 * settle); len(events) != 1 || len(events[0].Lost) != 2 {
			t.Errorf("events = %+v, want both routes back", events)
		}
	})
}

func TestWatch_tellsOnceThatADeviceIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		defer w.stop()
		index := w.k.links["office"].index
		w.k.locked(func() { delete(w.k.links, "office") })
		for range 3 {
			w.source.batches <- []netwatch.Notice{{Kind: netwatch.Link, Del: true, Index: index, Name: "office"}}
		}
		if events := w.pass(time.Minute); len(events) != 1 || !slices.Equal(events[0].Gone, []string{"office"}) {
			t.Errorf("events = %+v, want one that says office is gone", events)
		}
	})
}

func TestWatch_endsWithTheManager(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		w.stop()
	})
}

func watchInside(t *testing.T, m *Manager) *eventList {
	t.Helper()
	events := &eventList{}
	done := make(chan error, 1)
	go func() {
		done <- m.Watch(context.Background(), events.add)
	}()
	t.Cleanup(func() {
		_ = m.Close()
		if err := <-done; err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
	return events
}

// TestWatch_inANamespaceRestoresWhatWasDeleted is what systemd-networkd and a firewall's reload
// do to us.
func TestWatch_inANamespaceRestoresWhatWasDeleted(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	apply(t, m, testStates()[5].state)
	events := watchInside(t, m)
	whole := settled(ns.Snapshot())
	for _, deletion := range []string{
		"ip rule flush protocol 117; ip -6 rule flush protocol 117",
		"ip route flush table all protocol 117; ip -6 route flush table all protocol 117",
		"nft flush ruleset",
		"nft flush table inet tund-office",
		"ip address delete 10.9.0.1/24 dev office",
		"ip link delete br0",
		"ip link set office down && ip link set office up",
	} {
		ns.Run(t, "sh", "-c", deletion)
		testnet.Await(t, "restored after "+deletion, 10*time.Second, func() bool { return settled(ns.Snapshot()) == whole })
	}
	if !events.seen(func(e Event) bool { return slices.Contains(e.Lost, "bridge br0") })() {
		t.Errorf("the bridge was not told of as lost")
	}
}

// A bridge that others made and delete is theirs to make again: ours would be in their way. The
// device joins it when it is there.
func TestWatch_inANamespaceAwaitsTheBridgeOfOthers(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	tap := Device{Name: "office-tap", Up: true, Bridge: "br-other", Addrs: prefixes("10.8.0.1/24")}
	apply(t, m, State{Devices: []Device{tap}})
	watchInside(t, m)
	restored := func(deletion string) {
		t.Helper()
		ns.Run(t, "sh", "-c", deletion+"; ip address delete 10.8.0.1/24 dev office-tap")
		testnet.Await(t, "a look at what was lost", 10*time.Second, func() bool {
			return strings.Contains(ns.Run(t, "ip", "address", "show", "dev", "office-tap"), "10.8.0.1/24")
		})
	}
	restored("true") // so the watch has begun
	restored("ip link delete br-other")
	if out, err := ns.Try("ip", "link", "show", "br-other"); err == nil {
		t.Errorf("a bridge was made in place of the one that others had:\n%s", out)
	}
	ns.Run(t, "ip", "link", "add", "br-other", "type", "bridge")
	testnet.Await(t, "membership in the bridge", 10*time.Second, func() bool {
		return strings.Contains(ns.Run(t, "ip", "link", "show", "dev", "office-tap"), "master br-other")
	})
}

func TestWatch_inANamespaceTellsOfTheUnderlay(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	apply(t, m, testStates()[1].state)
	events := watchInside(t, m)
	// The subscription begins some time after Watch does: change something until it is noticed.
	testnet.Await(t, "subscribed", 10*time.Second, func() bool {
		ns.Run(t, "sh", "-c", "ip address add 192.0.2.9/24 dev eth0 && ip address delete 192.0.2.9/24 dev eth0")
		return events.seen(func(e Event) bool { return e.Underlay })()
	})
	for _, change := range []string{
		"ip address add 192.0.2.3/24 dev eth0",
		"ip address delete 192.0.2.3/24 dev eth0",
		"ip route add 198.51.100.0/24 via 192.0.2.2",
		"ip -6 route add 2001:db8:9::/48 via 2001:db8::2",
		"ip rule add from 192.0.2.77 lookup 99",
		"ip link set eth0 mtu 1400",
		"ip link set eth0 down",
	} {
		events.take()
		ns.Run(t, "sh", "-c", change)
		testnet.Await(t, "told of: "+change, 10*time.Second, events.seen(func(e Event) bool { return e.Underlay }))
	}
	ns.Run(t, "ip", "link", "delete", "office")
	testnet.Await(t, "told that the device is gone", 10*time.Second,
		events.seen(func(e Event) bool { return slices.Contains(e.Gone, "office") }))
}
