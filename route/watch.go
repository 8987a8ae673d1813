package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/route/firewall"
	"tund/route/mark"
	"tund/route/notice"
)

// Bounds of Watch. The burst and the refill keep two programs that both insist on their version of
// the routing table from using up a core. systemd-networkd deletes ours once per reconfiguration.
const (
	settle     = 100 * time.Millisecond // one link that goes down causes a dozen messages
	retryFirst = time.Second            // after a failed restore, doubling …
	retryMost  = time.Minute            // … up to this
)

// Event is something that changed in the kernel and was not done by this Manager.
type Event struct {
	// Underlay: a link, address, route or rule outside our devices changed. Cached source
	// addresses may be stale, an endpoint may be reachable now, the path MTU may differ.
	Underlay bool
	// Through: a route of somebody else through one of our devices changed.
	Through bool
	// Lost lists what another program removed and Watch has put back, in the words of ip(8).
	Lost []string
	// By is the process that removed it ("systemd-networkd[412]"), "" when unknown or the kernel.
	By string
	// Err is why something could not be put back. Watch tries again with growing pauses.
	Err error
	// Changed: what the last Apply returned is out of date, because the kernel now accepts what it
	// had refused, or a network that the host is in itself became or ceased to be one that a route
	// leads to. Apply again to make and to know the new state.
	Changed bool
	// Gone lists our devices that no longer exist: deleted, renamed, or moved to another namespace.
	Gone []string
}

// Watch calls notify for every Event until ctx ends or the Manager is closed, and restores what
// others removed: routes, rules, addresses, the guard, the bridge. (systemd-networkd deletes
// foreign routes and rules, and the reload of a firewall every nftables table.) A link that
// somebody set down, or moved to another bridge, is left alone; its routes return when it does. A
// bridge that others made is not made again, but joined again when it is there.
// Watch blocks; run it once, in a goroutine of its own. notify is called from that goroutine,
// should not block for long, and may call Apply. The error is nil after ctx or Close, otherwise
// it says why the kernel cannot be watched any longer.
func (m *Manager) Watch(ctx context.Context, notify func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan []netwatch.Notice)
	failure := make(chan error, len(m.events)) // one send for each reader
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		cancel()
		for _, source := range m.events {
			source.Interrupt()
		}
	}()
	for _, source := range m.events {
		if err := source.Subscribe(); err != nil {
			return fmt.Errorf("subscribe to the kernel's changes: %w", err)
		}
		m.ours.Forget()
		readers.Go(func() { failure <- netwatch.Forward(ctx, source, notices) })
	}
	w := &watcher{m: m, notify: notify, pace: notice.NewPace(time.Now())}
	w.check = true // something may have been lost between Apply and now
	return w.run(ctx, notices, failure)
}

// watcher is the state of one Watch. It belongs to that goroutine.
type watcher struct {
	m      *Manager
	notify func(Event)

	check    bool   // something of ours may be missing
	underlay bool   // the underlay changed and notify has not been told
	changed  bool   // the same of Event.Changed
	through  bool   // the same of Event.Through
	port     uint32 // netlink port of the first that deleted; 0: nobody, or the kernel

	pace      *notice.Pace
	notBefore time.Time     // of the next check, after a failed one
	retry     time.Duration // the pause that led to notBefore, 0 after a success
	reported  string        // last error passed to notify, so that retries do not repeat it
	gone      []string      // missing devices as last passed to notify
}

func (w *watcher) run(
	ctx context.Context, notices <-chan []netwatch.Notice, failure <-chan error,
) error {
	due := time.NewTimer(settle)
	defer due.Stop()
	settling := true // due is at most settle away
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.m.stop:
			return nil
		case err := <-failure:
			return err
		case batch := <-notices:
			if w.sort(batch) && !settling {
				due.Reset(settle)
				settling = true
			}
		case <-due.C:
			settling = false
			w.act(ctx)
			if w.check {
				due.Reset(time.Until(w.notBefore))
			}
		}
	}
}

// sort records what notices mean and reports whether any of them matters.
func (w *watcher) sort(batch []netwatch.Notice) bool {
	own := w.m.own()
	matters := false
	for _, n := range batch {
		if n.Kind == netwatch.Overflow {
			w.m.ours.Forget()
		} else if w.m.ours.Explain(n) {
			continue
		}
		if !own.indices[n.Index] && own.host.affects(n, w.m.routed) ||
			own.refused && n.Kind == netwatch.Addr && own.indices[n.Index] { // IPv6 was switched on
			w.changed, matters = true, true
		}
		if n.Kind == netwatch.Route && own.indices[n.Index] && n.Protocol != mark.Protocol && n.Table != unix.RT_TABLE_LOCAL {
			w.through, matters = true, true
		}
		m := notice.MeaningOf(n, own.indices, own.names)
		matters = matters || m != notice.Nothing
		w.underlay = w.underlay || m == notice.Underlay || m == notice.All
		if m == notice.Check || m == notice.All {
			w.check, w.notBefore = true, time.Time{} // what failed may succeed now
			if w.port == 0 && n.Del {
				w.port = n.Port
			}
		}
	}
	return matters
}

// act restores and reports what is due. When it leaves check set, the next check is due at
// notBefore.
func (w *watcher) act(ctx context.Context) {
	e := Event{Underlay: w.underlay, Changed: w.changed, Through: w.through}
	w.underlay, w.changed, w.through = false, false, false
	if w.check && !time.Now().Before(w.notBefore) {
		if pause := w.pace.Take(time.Now()); pause > 0 {
			w.notBefore = time.Now().Add(pause)
		} else {
			w.check = false
			w.restore(ctx, &e)
		}
	}
	if e.Underlay || e.Changed || e.Through || len(e.Lost) > 0 || e.Err != nil || len(e.Gone) > 0 {
		w.notify(e)
	}
}

// restore puts back what is missing. If something could not be, it sets the time of the next try.
func (w *watcher) restore(ctx context.Context, e *Event) {
	res, err := w.m.restore(ctx)
	if ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return
	}
	for _, c := range res.done {
		e.Lost = append(e.Lost, c.o.String())
	}
	e.Changed = e.Changed || res.accepted
	if !slices.Equal(res.missing, w.gone) {
		w.gone, e.Gone = res.missing, res.missing
	}
	if len(e.Lost) > 0 || len(e.Gone) > 0 {
		e.By = notice.ProcessOf(w.port)
	} else if err == nil {
		w.pace.Return() // nothing was missing: looking is free
	}
	w.port = 0
	switch {
	case err == nil && !res.still:
		w.retry, w.reported = 0, ""
		return
	case err == nil:
		w.reported = ""
	case err.Error() != w.reported:
		e.Err, w.reported = err, err.Error()
	}
	w.check = true
	w.retry = min(max(2*w.retry, retryFirst), retryMost)
	w.notBefore = time.Now().Add(w.retry)
}

// ownership tells notices about our objects from others.
type ownership struct {
	indices map[int]bool
	names   map[string]bool // of devices, bridges and the nftables table
	host    hostView
	refused bool // something was refused by the kernel in the last Apply
}

func (m *Manager) own() ownership {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[string]bool{firewall.TableName(m.instance): true}
	for _, d := range m.state.Devices {
		names[d.Name] = true
		if d.Bridge != "" {
			names[d.Bridge] = true
		}
	}
	return ownership{m.indices, names, m.host, len(m.refused) > 0}
}

// restore adds what is missing of the State applied last, without touching anything else. Its error
// is about what was there once: what an Apply was refused has been reported by that.
func (m *Manager) restore(ctx context.Context) (result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return result{}, ErrClosed
	}
	res, err := m.converge(ctx, func(c change, f facts) bool {
		return restorable(c, f) && !m.refused[c.o] && !m.awaited(c.o, f)
	})
	if len(m.refused) == 0 || err != nil {
		return res, err
	}
	again, _ := m.converge(ctx, func(c change, f facts) bool { return restorable(c, f) && m.refused[c.o] && !m.awaited(c.o, f) })
	for _, c := range again.done {
		delete(m.refused, c.o)
	}
	res.accepted, res.still = len(again.done) > 0, len(again.failed) > 0
	return res, nil
}

// restorable reports whether a change puts back something that was lost.
func restorable(c change, f facts) bool {
	if c.do == doRemove {
		return false
	}
	y, ok := c.o.(yielding)
	return !ok || y.restorable(f)
}
