package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/route/mark"
	"tund/route/notice"
	"tund/route/refused"
)

// maxPasses bounds the rounds of read, diff and change in one Apply. The first does the work and
// the second finds nothing left. More are needed where one change undoes another: removing an
// IPv4 address removes its secondaries, and a lower MTU removes the IPv6 addresses.
const maxPasses = 5

// Manager owns the kernel state of one instance. Make it with New, in the network namespace where
// it works.
type Manager struct {
	instance string
	stop     chan struct{} // closed by Close; ends Watch
	events   []netwatch.Source
	ours     notice.Removals

	mu      sync.Mutex // guards what follows and k's use; held for a whole Apply, Close or restore
	k       kernel
	state   State  // as last given to Apply, and changed by Patch; its routes are in order
	bound   string // link to which the sockets are bound; "": none
	memory  memory
	inherit bool         // what the next converge finds of state is ours: see Inherit
	indices map[int]bool // links of the State's devices, as last read; replaced, never changed
	host    hostView     // as of the last plan; replaced, never changed

	// Whether state is a full tunnel, in either address family.
	fullTunnel bool

	// What the kernel did not accept in the last Apply, and Watch tries again.
	refused map[object]bool
	closed  bool
}

// New opens the kernel handles for an instance (the base name of its configuration file) in the
// calling thread's network namespace. It changes nothing yet. Call Close or Leave at the end.
func New(instance string) (*Manager, error) {
	if instance == "" {
		return nil, errors.New("route: an instance needs a name")
	}
	k, err := openKernel()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	events, err := netwatch.Open()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), k.close())
	}
	return newManager(instance, k, events), nil
}

// newManager is New with the kernel given.
func newManager(instance string, k kernel, events []netwatch.Source) *Manager {
	return &Manager{
		instance: instance,
		stop:     make(chan struct{}),
		k:        k,
		events:   events,
		memory:   newMemory(),
	}
}

// Mark returns the fwmark that Apply(s) will put in force, so that a socket can be marked before
// the first rule exists: State.FwMark, else the automatic one of a full tunnel, else 0.
func (m *Manager) Mark(s State) uint32 {
	v4, v6 := s.FullTunnel()
	if s.FwMark == 0 && (v4 || v6) {
		return mark.Default(m.instance)
	}
	return s.FwMark
}

// Apply makes the kernel have s and nothing of an earlier State. It adds before it removes and
// goes on after single failures; the error joins one *refused.Error for each. The Applied that it
// returns is read back from the kernel, also when there is an error. An invalid State changes
// nothing. When ctx ends, Apply stops between two changes. Applying the same State again is cheap
// and changes nothing.
func (m *Manager) Apply(ctx context.Context, s State) (Applied, error) {
	if err := s.validate(); err != nil {
		return Applied{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Applied{}, ErrClosed
	}
	m.state = s.clone()
	m.state.sort()
	v4, v6 := s.FullTunnel()
	m.fullTunnel = v4 || v6
	for _, d := range s.Devices {
		m.memory.devices[d.Name] = true
		if own := m.memory.mtu[d.Name]; own != 0 && d.Bridge != "" && d.MTU == 0 && m.memory.said[d.Name] {
			_ = m.k.add(m.instance, mtuObject{d.Name, own}) // the bridge follows
		}
		m.memory.said[d.Name] = d.MTU != 0
	}
	res, err := m.converge(ctx, anyChange)
	m.refused = make(map[object]bool)
	for _, c := range res.failed {
		m.refused[c.o] = true
	}
	errs := []error{err}
	for _, dev := range res.missing {
		errs = append(errs, newOpError("find", "link "+dev, nil, unix.ENODEV))
	}
	return res.applied, errors.Join(errs...)
}

// result is what one converge did.
type result struct {
	applied Applied
	done    []change // in order
	failed  []change // refused by the kernel

	// Of restore only: the kernel accepted, or still refuses, something that it had refused in
	// Apply.
	accepted, still bool
	missing         []string // devices that do not exist
}

// converge repeats read, plan, diff and change until nothing is left to do. Changes that allow
// refuses are not made and do not count as failures. Callers hold mu.
func (m *Manager) converge(ctx context.Context, allow func(change, facts) bool) (result, error) {
	var res result
	var soft []string
	failed := make(map[change]error)
	for pass := 1; ; pass++ {
		f, err := m.k.read()
		if err != nil {
			return res, newOpError("read", "the kernel's network state", nil, err)
		}
		p := newPlan(m.instance, m.state, m.Mark(m.state), f, m.memory)
		m.noteLinks(f)
		m.host = p.host
		if m.inherit {
			m.takeOver(p.want, f)
		}
		changes := slices.DeleteFunc(diff(m.instance, p.want, f, m.memory),
			func(c change) bool { return !allow(c, f) })
		untried := slices.DeleteFunc(slices.Clone(changes), func(c change) bool {
			_, tried := failed[c]
			return tried
		})
		if len(untried) == 0 || pass > maxPasses || ctx.Err() != nil {
			res.applied = m.applied(p, f)
			res.applied.Warnings = append(res.applied.Warnings, soft...)
			res.missing = p.missing
			res.failed = slices.DeleteFunc(slices.Clone(changes), func(c change) bool {
				err, tried := failed[c]
				return !tried || err == errSoft
			})
			return res, failures(changes, failed, ctx.Err())
		}
		for _, c := range untried {
			if ctx.Err() != nil {
				break
			}
			err := m.change(c, f)
			if text, isSoft := softFailure(c, err, f); isSoft {
				err = errSoft
				if text != "" {
					soft = append(soft, text)
				}
			}
			if err != nil {
				failed[c] = err
				continue
			}
			res.done = append(res.done, c)
		}
	}
}

// anyChange is the allow of Apply and Close.
func anyChange(change, facts) bool { return true }

// noteLinks notes which links are ours, for Watch, and which bridges others made. Callers hold mu.
func (m *Manager) noteLinks(f facts) {
	indices := make(map[int]bool, len(m.state.Devices))
	for _, d := range m.state.Devices {
		if l, ok := f.links[d.Name]; ok {
			indices[l.index] = true
		}
		if l, ok := f.links[d.Bridge]; ok {
			m.memory.foreign[d.Bridge] = l.group != mark.Group(m.instance)
		}
	}
	m.indices = indices
}

// errSoft stands for a failure that became a warning.
var errSoft = errors.New("soft")

// softFailure turns the failure to add an optional object into a warning, "" when nothing is lost.
func softFailure(c change, err error, f facts) (warning string, soft bool) {
	o, ok := c.o.(optional)
	if !ok || err == nil || c.do != doAdd {
		return "", false
	}
	return o.tolerates(err, f)
}

// change performs one step and remembers what Close has to know. Callers hold mu.
func (m *Manager) change(c change, f facts) error {
	r, ok := c.o.(remembered)
	switch c.do {
	case doReplace:
		return m.k.replace(c.o.(routeObject))
	case doRemove:
		if err := m.k.remove(m.instance, c.o); err != nil && !refused.Nothing(err) {
			return err
		}
		if ok {
			r.removed(&m.memory)
		}
		return nil
	}
	if err := m.k.add(m.instance, c.o); err != nil {
		return err
	}
	if ok {
		r.added(&m.memory, f)
	}
	return nil
}

// failures joins the errors of changes that were tried and are still due after the last pass. Of
// those refused for lack of a privilege only the first is described.
func failures(due []change, failed map[change]error, ctxErr error) error {
	var errs []error
	unsettled, forbidden, first := 0, 0, 0
	for i, c := range due {
		switch err, tried := failed[c]; {
		case !tried:
			if unsettled++; unsettled == 1 {
				first = i
			}
		case errors.Is(err, unix.EPERM) && forbidden > 0:
			forbidden++
		case err != errSoft:
			if errors.Is(err, unix.EPERM) {
				forbidden++
			}
			errs = append(errs, newOpError(string(c.do), c.o.String(), c.o, err))
		}
	}
	if forbidden > 1 {
		errs = append(errs, fmt.Errorf("%d more changes refused for the same reason", forbidden-1))
	}
	switch {
	case ctxErr != nil:
		errs = append(errs, fmt.Errorf("stopped with %d changes still to be made: %w", unsettled, ctxErr))
	case unsettled > 0:
		errs = append(errs, fmt.Errorf("another program keeps undoing our changes: after %d rounds %d "+
			"are still to be made, the first: %v", maxPasses, unsettled, due[first]))
	}
	return errors.Join(errs...)
}

// Close removes exactly what this Manager installed, also after an Apply that failed half-way, and
// releases the kernel handles. The devices themselves stay: they are the caller's. Close is
// idempotent, and best called before the devices are closed.
func (m *Manager) Close() error {
	_, err := m.end(anyChange)
	return err
}

// Leave is Close for an instance that will start again: guards, and what keeps a full tunnel
// closed, stay where they are. Until the instance runs again, or Cleanup, its traffic goes nowhere
// instead of leaving in the clear.
func (m *Manager) Leave() error {
	_, err := m.end(allButFences)
	return err
}

// allButFences is the allow of Leave.
func allButFences(c change, _ facts) bool {
	f, ok := c.o.(fencing)
	return !ok || !f.fences()
}

// Release releases the kernel handles and changes nothing else: for a Manager that was only asked.
func (m *Manager) Release() error {
	_, err := m.end(func(change, facts) bool { return false })
	return err
}

// Fenced returns the networks for which the kernel has guards of this instance: those of a process
// that was killed, for example. With the rules of a full tunnel these are 0.0.0.0/0, ::/0 or both.
func (m *Manager) Fenced() (networks []netip.Prefix, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	f, err := m.k.read()
	if err != nil {
		return nil, newOpError("read", "the kernel's network state", nil, err)
	}
	set := make(map[netip.Prefix]bool)
	for o := range f.rules {
		if o.table == mark.Table(m.instance) {
			set[fence(m.instance, o.v6).dst] = true
		}
	}
	for o := range f.routes {
		if o.dev == "" && o.metric == mark.GuardMetric(m.instance) {
			set[o.dst] = true
		}
	}
	return slices.Collect(maps.Keys(set)), nil
}

// end is Close with a choice of what is removed. It returns how many objects that were.
func (m *Manager) end(allow func(change, facts) bool) (removed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, nil
	}
	m.closed = true
	close(m.stop)
	m.state = State{}
	res, err := m.converge(context.Background(), allow)
	errs := []error{err, m.restoreMTU()}
	for _, source := range m.events {
		errs = append(errs, source.Close())
	}
	return len(res.done), errors.Join(append(errs, m.k.close())...)
}

// restoreMTU gives devices that still exist the MTU they had before us. Callers hold mu.
func (m *Manager) restoreMTU() error {
	if len(m.memory.mtu) == 0 {
		return nil
	}
	f, err := m.k.read()
	if err != nil {
		return newOpError("read", "the kernel's network state", nil, err)
	}
	var errs []error
	for _, dev := range slices.Sorted(maps.Keys(m.memory.mtu)) {
		o := mtuObject{dev, m.memory.mtu[dev]}
		if l, ok := f.links[dev]; !ok || l.mtu == o.mtu {
			continue
		}
		if err := m.k.add(m.instance, o); err != nil && !refused.Nothing(err) {
			errs = append(errs, newOpError(string(doAdd), o.String(), o, err))
		}
	}
	return errors.Join(errs...)
}

// Cleanup removes what an instance that was killed left in the calling thread's network
// namespace, and returns how many objects that were. It must not be called while the instance runs.
// Having nothing to do is not an error.
func Cleanup(instance string) (removed int, err error) {
	m, err := New(instance)
	if err != nil {
		return 0, err
	}
	// A new Manager owns nothing, but finds what carries the instance's marks.
	return m.end(anyChange)
}

// CleanupClosed is Cleanup for an instance that is about to be started again: like Leave, it keeps
// guards, and a full tunnel closed.
func CleanupClosed(instance string) (removed int, err error) {
	m, err := New(instance)
	if err != nil {
		return 0, err
	}
	return m.end(allButFences)
}
