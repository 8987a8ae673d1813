package route

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Tracked is an open device that knows where it is (tunnel/tundev.Device).
type Tracked interface {
	// Name returns the device's name at present, "" when it was deleted.
	Name() string
	// Namespace opens the network namespace that the device is in now.
	Namespace() (*os.File, error)
	// Up reports whether the device is up; known is false when it cannot tell.
	Up() (up, known bool)
}

// LinkState is what a device looks like where it is.
type LinkState struct {
	Up  bool
	MTU int // bytes; 0: it is out of sight
	// RouteMTUs are the MTUs that routes through the device set, in ascending order, each once.
	RouteMTUs []int
	// Addrs are the device's addresses with their networks' lengths, in the kernel's order.
	Addrs []netip.Prefix
}

func (s LinkState) equal(o LinkState) bool {
	return s.Up == o.Up && s.MTU == o.MTU && slices.Equal(s.RouteMTUs, o.RouteMTUs) && slices.Equal(s.Addrs, o.Addrs)
}

// Times of Follow.
const (
	// followTick is how often a device in a namespace that tells us nothing is looked at.
	followTick = time.Second
	// followSettle lets changes that come in flocks be seen at once.
	followSettle = 2 * time.Millisecond
	// followShare bounds the time spent looking: one part in so many. Listing the routes of a gateway takes a while.
	followShare = 10
)

// Follow watches one device, also after it was moved to another network namespace, and calls changed with its state
// at first and after each change, until ctx ends or the device is deleted. changed is called from Follow's goroutine.
//
// It listens to the kernel in the calling process' namespace, to which the kernel also tells what happens in those it
// knows by number, and enters another namespace only to look: holding a socket in there would keep the namespace
// alive, with the device in it, after everybody else has left. Where it may not enter (no CAP_SYS_ADMIN) it sees
// only up and down.
func Follow(ctx context.Context, dev Tracked, changed func(LinkState)) error {
	events, err := openFollowEvents()
	if err != nil {
		return err
	}
	if err := events.subscribe(); err != nil {
		_ = events.close()
		return err
	}
	notices := make(chan []notice)
	ctx, cancel := context.WithCancel(ctx)
	reader := make(chan error, 1)
	go func() {
		defer close(reader) // run may have taken the error already
		reader <- readNotices(ctx, events, notices)
	}()
	defer func() {
		cancel()
		events.interrupt()
		<-reader
		_ = events.close()
	}()
	f := follower{dev: dev, changed: changed}
	return f.run(ctx, notices, reader)
}

// follower is the state of one Follow.
type follower struct {
	dev     Tracked
	changed func(LinkState)

	last    LinkState
	told    bool
	index   int           // of the device, where it is; 0: not known
	blind   bool          // the kernel does not tell us of changes where the device is
	away    bool          // it is in another namespace than we
	looked  time.Time     // when it was last looked at …
	took    time.Duration // … and how long that took
	numbers map[uint64]bool
}

func (f *follower) run(ctx context.Context, notices <-chan []notice, reader <-chan error) error {
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	waiting := true // due will fire
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-reader:
			return err
		case batch := <-notices:
			if !slices.ContainsFunc(batch, f.concerns) {
				continue
			}
			f.glance()
			if !waiting {
				waiting = true
				due.Reset(max(followSettle, followShare*f.took-time.Since(f.looked)))
			}
		case <-tick.C:
			// Cheap: the device itself says whether it is up, wherever it is.
			up, known := f.dev.Up()
			if !waiting && (f.blind || f.away && known && up != f.last.Up) {
				waiting = true
				due.Reset(0)
			}
		case <-due.C:
			waiting = false
			if f.dev.Name() == "" {
				return nil
			}
			f.look()
		}
	}
}

// glance tells at once when the device went up or down, which it says itself: a look may have to wait for its turn, and
// find the link as it was before.
func (f *follower) glance() {
	if up, known := f.dev.Up(); f.told && known && up != f.last.Up {
		f.last.Up = up
		f.changed(f.last)
	}
}

// concerns reports whether a notice may be about the device. A device of the same number in another namespace costs
// one look in vain.
func (f *follower) concerns(n notice) bool {
	switch n.kind {
	case noticeOverflow:
		return true
	case noticeLink:
		return n.index == f.index || n.name == f.dev.Name()
	case noticeRoute, noticeAddr:
		return n.index == f.index
	}
	return false
}

// look reads the device's state and tells it when it changed.
func (f *follower) look() {
	start := time.Now()
	s := f.read()
	f.looked = time.Now()
	f.took = f.looked.Sub(start)
	if f.told && s.equal(f.last) {
		return
	}
	f.last, f.told = s, true
	f.changed(s)
}

// read looks at the device from inside its namespace, or from outside as far as that goes.
func (f *follower) read() LinkState {
	up, _ := f.dev.Up()
	s := LinkState{Up: up}
	f.blind, f.index = true, 0
	ns, err := f.dev.Namespace()
	if err != nil {
		return s // no more can be seen
	}
	defer func() { _ = ns.Close() }()
	here, err := sameNamespace(ns)
	if err != nil {
		return s
	}
	f.away = !here
	f.blind = !here && !f.hear(ns)
	var seen linkView
	err = inNamespace(ns, here, func() error {
		seen, err = viewLink(f.dev.Name())
		return err
	})
	if err != nil {
		f.blind = f.blind || !here // it moved on meanwhile, or we may not look
		return s
	}
	f.index = seen.index
	return seen.LinkState
}

// hear makes sure that the kernel tells us what happens in a namespace, which it does for those with a number.
func (f *follower) hear(ns *os.File) bool {
	info, err := ns.Stat()
	if err != nil {
		return false
	}
	id := inode(info)
	if !f.numbers[id] {
		if err := numberNamespace(ns); err != nil {
			return false
		}
		if f.numbers == nil {
			f.numbers = make(map[uint64]bool)
		}
		f.numbers[id] = true
	}
	return true
}
