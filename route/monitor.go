package route

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the monitor. The burst and the refill are what keeps two programs that both insist on the routing
// table from burning a core: systemd-networkd deletes ours once per reconfiguration, not forever.
const (
	settle        = 100 * time.Millisecond // changes come in flocks: one link going down is a dozen messages
	restoreBurst  = 10                     // restores without a pause
	restoreRefill = 5 * time.Second        // then one each
	retryFirst    = time.Second            // after a failed restore, doubling …
	retryMost     = time.Minute            // … up to this
)

// Event is something that changed in the kernel and was not done by this Manager.
type Event struct {
	// Underlay: a link, address, route or rule outside our devices changed. Cached source addresses may be
	// stale, an endpoint may be reachable now, the path MTU may differ.
	Underlay bool
	// Lost lists what of ours somebody removed, in the words of ip(8), and what has been put back.
	Lost []string
	// By is the process that removed it ("systemd-networkd[412]"), "" when unknown or the kernel.
	By string
	// Err is why something could not be put back; it is tried again with growing pauses.
	Err error
	// Gone lists our devices that no longer exist: deleted, renamed, or moved to another namespace.
	Gone []string
}

// eventSource is one socket that the kernel writes its changes to.
type eventSource interface {
	// subscribe makes changes from now on readable.
	subscribe() error
	// receive blocks for the next changes. It returns os.ErrClosed after close and os.ErrDeadlineExceeded
	// after interrupt. One goroutine at a time.
	receive() ([]notice, error)
	// interrupt ends a blocked receive and all later ones.
	interrupt()
	close() error
}

// Watch calls notify for every Event until ctx ends or the Manager is closed, and restores what others
// removed: routes, rules, addresses, the guard, the bridge (systemd-networkd deletes foreign routes and
// rules, a firewall's reload every nftables table). A link that somebody set down, or moved to another
// bridge, is left so; its routes return when it does. Watch blocks; run it in a goroutine of its own, once.
// notify is called from that goroutine, should not block for long, and may call Apply. The error is nil after
// ctx or Close, otherwise why the kernel cannot be watched any longer.
func (m *Manager) Watch(ctx context.Context, notify func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan []notice)
	failure := make(chan error, len(m.events)) // one send for each reader
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		cancel()
		for _, source := range m.events {
			source.interrupt()
		}
	}()
	for _, source := range m.events {
		if err := source.subscribe(); err != nil {
			return fmt.Errorf("subscribe to the kernel's changes: %w", err)
		}
		readers.Go(func() { failure <- readNotices(ctx, source, notices) })
	}
	w := &watcher{m: m, notify: notify, tokens: restoreBurst, refilled: time.Now()}
	w.check = true // what was lost between Apply and now
	return w.run(ctx, notices, failure)
}

// readNotices passes on what a source receives until ctx ends or the source is closed.
func readNotices(ctx context.Context, source eventSource, notices chan<- []notice) error {
	for {
		batch, err := source.receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case notices <- batch:
		case <-ctx.Done():
			return nil
		}
	}
}

// watcher is the state of one Watch. It belongs to that goroutine.
type watcher struct {
	m      *Manager
	notify func(Event)

	check    bool   // something of ours may be missing
	underlay bool   // not yet told
	port     uint32 // netlink port of who deleted first, 0 for nobody or the kernel

	tokens    int // restores allowed now
	refilled  time.Time
	notBefore time.Time     // of the next check, after a failed one
	retry     time.Duration // the pause that led to notBefore, 0 after a success
	reported  string        // last error told, so that retries do not repeat it
	gone      []string      // devices told to be gone
}

func (w *watcher) run(ctx context.Context, notices <-chan []notice, failure <-chan error) error {
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

// sort files notices and reports whether any of them matters.
func (w *watcher) sort(batch []notice) bool {
	indices, names := w.m.own()
	matters := false
	for _, n := range batch {
		m := n.meaning(indices, names)
		matters = matters || m != meansNothing
		w.underlay = w.underlay || m == meansUnderlay || m == meansAll
		if m == meansCheck || m == meansAll {
			w.check, w.notBefore = true, time.Time{} // what failed may succeed now
			if w.port == 0 && n.del {
				w.port = n.port
			}
		}
	}
	return matters
}

// act tells and restores what is due. When it leaves check set, the next look is due at notBefore.
func (w *watcher) act(ctx context.Context) {
	e := Event{Underlay: w.underlay}
	w.underlay = false
	if w.check && !time.Now().Before(w.notBefore) {
		if pause := w.takeToken(); pause > 0 {
			w.notBefore = time.Now().Add(pause)
		} else {
			w.check = false
			w.restore(ctx, &e)
		}
	}
	if e.Underlay || len(e.Lost) > 0 || e.Err != nil || len(e.Gone) > 0 {
		w.notify(e)
	}
}

// restore puts back what is missing; for what could not be it sets the time of another try.
func (w *watcher) restore(ctx context.Context, e *Event) {
	res, err := w.m.restore(ctx)
	if ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return
	}
	for _, c := range res.done {
		e.Lost = append(e.Lost, c.o.String())
	}
	if !slices.Equal(res.missing, w.gone) {
		w.gone, e.Gone = res.missing, res.missing
	}
	if len(e.Lost) > 0 || len(e.Gone) > 0 {
		e.By = processOf(w.port)
	} else if err == nil {
		w.tokens = min(w.tokens+1, restoreBurst) // nothing was missing: looking is free
	}
	w.port = 0
	if err == nil {
		w.retry, w.reported = 0, ""
		return
	}
	if err.Error() != w.reported {
		e.Err, w.reported = err, err.Error()
	}
	w.check = true
	w.retry = min(max(2*w.retry, retryFirst), retryMost)
	w.notBefore = time.Now().Add(w.retry)
}

// takeToken takes the right to restore once; if there is none it returns how long to wait for one.
func (w *watcher) takeToken() time.Duration {
	now := time.Now()
	earned := int(now.Sub(w.refilled) / restoreRefill)
	w.tokens = min(w.tokens+earned, restoreBurst)
	w.refilled = w.refilled.Add(time.Duration(earned) * restoreRefill)
	if w.tokens == 0 {
		return w.refilled.Add(restoreRefill).Sub(now)
	}
	w.tokens--
	return 0
}

// own returns what tells our notices from others: link indices, and names of devices, bridges and the nftables
// table.
func (m *Manager) own() (indices map[int]bool, names map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names = map[string]bool{nftTable(m.instance): true}
	for _, d := range m.state.Devices {
		names[d.Name] = true
		if d.Bridge != "" {
			names[d.Bridge] = true
		}
	}
	return m.indices, names
}

// restore adds what is missing of the State applied last, without touching anything else.
func (m *Manager) restore(ctx context.Context) (result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return result{}, ErrClosed
	}
	return m.converge(ctx, restorable)
}

// restorable reports whether a change puts back something lost. What an operator does by hand with the link
// itself is respected: we do not set a link up again, fetch it back from another bridge, or change its MTU.
func restorable(c change, f facts) bool {
	if c.do == doRemove {
		return false
	}
	switch o := c.o.(type) {
	case mtuObject, upObject, restoreObject:
		return false
	case routeObject:
		return o.dev == "" || f.links[o.dev].up
	case masterObject:
		return f.links[o.dev].master == ""
	}
	return true
}

// processOf names the process behind a netlink port number. The kernel gives a process's first netlink socket
// its pid for a number, so this is right for most programs and silent for the others.
func processOf(port uint32) string {
	if port == 0 || int(port) == os.Getpid() {
		return ""
	}
	comm, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(port), 10) + "/comm")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), port)
}

// meaning is what a notice asks of the watcher.
type meaning uint8

const (
	meansNothing  meaning = iota
	meansUnderlay         // the world outside our devices changed
	meansCheck            // something of ours may be missing
	meansAll
)

// meaning sorts a notice. indices and names are our links; names holds our nftables table, too.
func (n notice) meaning(indices map[int]bool, names map[string]bool) meaning {
	switch n.kind {
	case noticeOverflow:
		return meansAll
	case noticeLink:
		if indices[n.index] || names[n.name] {
			return meansCheck
		}
		return meansUnderlay
	case noticeAddr:
		if indices[n.index] {
			return onlyIf(n.del, meansCheck)
		}
		return meansUnderlay
	case noticeRoute:
		switch {
		case n.protocol == Protocol:
			return onlyIf(n.del, meansCheck)
		case indices[n.index] || n.table == unix.RT_TABLE_LOCAL:
			return meansNothing // the kernel's own routes follow from addresses
		}
		return meansUnderlay
	case noticeRule:
		if n.protocol == Protocol {
			return onlyIf(n.del, meansCheck)
		}
		return meansUnderlay
	case noticeTable:
		return onlyIf(n.del && names[n.name], meansCheck)
	}
	return meansNothing
}

func onlyIf(condition bool, m meaning) meaning {
	if condition {
		return m
	}
	return meansNothing
}
