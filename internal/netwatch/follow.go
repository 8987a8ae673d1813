package netwatch

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Device is an open device that knows in which network namespace it is (tunnel/tundev.Device).
type Device interface {
	// Name returns the device's present name, "" once it was deleted.
	Name() string
	// Namespace opens the network namespace that the device is in now. The caller closes it.
	Namespace() (*os.File, error)
	// Up reports whether the device is up; known is false when it cannot tell.
	Up() (up, known bool)
}

// LinkState describes a device as its own network namespace shows it.
type LinkState struct {
	Up  bool
	MTU int // in bytes; 0: unknown, because the namespace cannot be entered
	// RouteMTUs are the MTUs, in bytes, that routes through the device set below that of the
	// device: in ascending order, each once.
	RouteMTUs []int
	// Addrs are the device's addresses with the length of their networks, in the kernel's order.
	Addrs []netip.Prefix
}

func (s LinkState) equal(o LinkState) bool {
	return s.Up == o.Up && s.MTU == o.MTU &&
		slices.Equal(s.RouteMTUs, o.RouteMTUs) && slices.Equal(s.Addrs, o.Addrs)
}

// Times of Follow.
const (
	// followTick is how often a device is read in a namespace that sends us no notices.
	followTick = time.Second
	// followSettle is the pause after a notice before the device is read, because changes come in
	// bursts.
	followSettle = 2 * time.Millisecond
	// followShare bounds the time spent on reading to one part in so many: listing the routes of
	// a gateway takes a while.
	followShare = 10
)

// Follow watches one device, also after it was moved to another network namespace. It calls
// changed with the device's state at first and after each change, from Follow's goroutine, until
// ctx ends or the device is deleted. The error says why the kernel could not be listened to.
//
// It listens in the network namespace of the calling thread, where the kernel also announces
// changes in those namespaces that it knows by a number, and enters another namespace only to
// read: a socket kept open there would keep the namespace alive, with the device in it, after
// everybody else has left. Where it may not enter (no CAP_SYS_ADMIN), it sees only whether the
// device is up.
func Follow(ctx context.Context, dev Device, changed func(LinkState)) error {
	events, err := openFollowSocket()
	if err != nil {
		return err
	}
	if err := events.Subscribe(); err != nil {
		_ = events.Close()
		return err
	}
	notices := make(chan []Notice)
	ctx, cancel := context.WithCancel(ctx)
	reader := make(chan error, 1)
	go func() {
		defer close(reader) // run may have taken the error already
		reader <- Forward(ctx, events, notices)
	}()
	defer func() {
		cancel()
		events.Interrupt()
		<-reader //nolint:errcheck // run has returned its error already, or it is that of the interrupt
		_ = events.Close()
	}()
	f := follower{dev: dev, changed: changed}
	return f.run(ctx, notices, reader)
}

// follower is the state of one Follow.
type follower struct {
	dev     Device
	changed func(LinkState)

	last    LinkState
	told    bool
	index   int             // of the device in its namespace; 0: unknown
	blind   bool            // the kernel does not announce changes where the device is
	away    bool            // the device is in another namespace than we are
	looked  time.Time       // when the device was last read …
	took    time.Duration   // … and how long that took
	numbers map[uint64]bool // inodes of the namespaces that have a number in ours
}

func (f *follower) run(ctx context.Context, notices <-chan []Notice, reader <-chan error) error {
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
			// This is cheap: the device itself says whether it is up, wherever it is.
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

// glance reports at once that the device went up or down, which the device itself says. Reading all
// of its state may have to wait, and might then find the link as it was before.
func (f *follower) glance() {
	if up, known := f.dev.Up(); f.told && known && up != f.last.Up {
		f.last.Up = up
		f.changed(f.last)
	}
}

// concerns reports whether a notice may be about the device, and worth reading it. A device with
// the same index in another namespace costs one needless read. Of the routes through the device,
// which may be tens of thousands and come and go, those matter that set an MTU; while there are
// such, any other may have replaced one.
func (f *follower) concerns(n Notice) bool {
	switch n.Kind {
	case Overflow:
		return true
	case Link:
		return n.Index == f.index || n.Name == f.dev.Name()
	case Addr:
		return n.Index == f.index
	case Route:
		return n.Index == f.index && (n.MTU != 0 || len(f.last.RouteMTUs) > 0)
	}
	return false
}

// look reads the device's state and reports it when it changed.
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

// read returns the device's state, from inside its namespace if that can be entered.
func (f *follower) read() LinkState {
	up, _ := f.dev.Up()
	s := LinkState{Up: up}
	f.blind, f.index = true, 0
	ns, err := f.dev.Namespace()
	if err != nil {
		return s // nothing else can be learned
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
		f.blind = f.blind || !here // it moved on meanwhile, or we may not enter
		return s
	}
	f.index = seen.index
	return seen.LinkState
}

// hear makes the kernel announce to us what happens in a namespace, which it does for those that
// have a number in ours.
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
