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
)

// maxPasses bounds the rounds of read, diff and change in one Apply. One does the work and the second finds
// nothing left; more are needed where one change undoes another (removing an IPv4 address takes its
// secondaries along, a lower MTU takes the IPv6 addresses).
const maxPasses = 5

// Manager owns the kernel state of one instance. Make it with New, in the network namespace where it works.
type Manager struct {
	instance string
	stop     chan struct{} // closed by Close; ends Watch
	events   []eventSource

	mu      sync.Mutex // guards what follows and k's use; held for a whole Apply, Close or restore
	k       kernel
	state   State // as last given to Apply
	memory  memory
	indices map[int]bool // links of the State's devices, as last read; replaced, never changed
	closed  bool
}

// New opens the kernel handles for an instance (the base name of its configuration file) in the calling thread's
// network namespace. It changes nothing yet. Call Close.
func New(instance string) (*Manager, error) {
	if instance == "" {
		return nil, errors.New("route: an instance needs a name")
	}
	k, err := openKernel()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	events, err := openEvents()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), k.close())
	}
	return newManager(instance, k, events), nil
}

// newManager is New with the kernel given.
func newManager(instance string, k kernel, events []eventSource) *Manager {
	return &Manager{
		instance: instance,
		stop:     make(chan struct{}),
		k:        k,
		events:   events,
		memory: memory{
			owned:   make(map[object]bool),
			devices: make(map[string]bool),
			mtu:     make(map[string]int),
		},
	}
}

// Mark returns the fwmark that Apply(s) will have in force, so that a socket can be marked before the first
// rule exists: State.FwMark, else the automatic one of a full tunnel, else 0.
func (m *Manager) Mark(s State) uint32 {
	v4, v6 := s.FullTunnel()
	if s.FwMark == 0 && (v4 || v6) {
		return DefaultMark(m.instance)
	}
	return s.FwMark
}

// Apply makes the kernel have s and nothing of an earlier State. It adds before it removes and goes on after
// single failures; the error joins one *OpError for each. The Applied it returns is read back from the kernel
// and true also when there is an error. An invalid State changes nothing. When ctx ends, Apply stops between
// two changes. Applying the same State again is cheap and changes nothing.
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
	for _, d := range s.Devices {
		m.memory.devices[d.Name] = true
	}
	res, err := m.converge(ctx, anyChange)
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
	missing []string // devices that do not exist
}

// converge repeats read, plan, diff and change until nothing is left to do. mu is held.
// Changes that allow refuses are not made and not counted as failures.
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
		m.noteIndices(f)
		changes := slices.DeleteFunc(diff(m.instance, p.want, f, m.memory), func(c change) bool { return !allow(c, f) })
		untried := slices.DeleteFunc(slices.Clone(changes), func(c change) bool {
			_, tried := failed[c]
			return tried
		})
		if len(untried) == 0 || pass > maxPasses || ctx.Err() != nil {
			res.applied = m.applied(p, f)
			res.applied.Warnings = append(res.applied.Warnings, soft...)
			res.missing = p.missing
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

// noteIndices remembers which links are ours, for the monitor. mu is held.
func (m *Manager) noteIndices(f facts) {
	indices := make(map[int]bool, len(m.state.Devices))
	for _, d := range m.state.Devices {
		if l, ok := f.links[d.Name]; ok {
			indices[l.index] = true
		}
	}
	m.indices = indices
}

// errSoft stands for a failure that became a warning.
var errSoft = errors.New("soft")

// softFailure turns what a full tunnel can do without into a warning: nftables in a kernel without it, and the
// sysctl in a service that may not set it. text may be empty: then nothing is lost.
func softFailure(c change, err error, f facts) (text string, soft bool) {
	if err == nil || c.do != doAdd {
		return "", false
	}
	switch c.o.(type) {
	case guardObject:
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) {
			return fmt.Sprintf("this kernel has no usable nftables (%v): the tunnel's addresses are not guarded against packets from other interfaces (CVE-2019-14899)", err), true
		}
	case sysctlObject:
		if f.strictReverse {
			return fmt.Sprintf("cannot set net.ipv4.conf.all.src_valid_mark=1 (%v) and rp_filter is strict (1): answers from endpoints will be dropped; set either in /etc/sysctl.d", err), true
		}
		return "", true // without strict reverse path checks the mark is not needed
	}
	return "", false
}

// change performs one step and remembers what Close has to know. mu is held.
func (m *Manager) change(c change, f facts) error {
	switch c.do {
	case doReplace:
		return m.k.replace(c.o.(routeObject))
	case doRemove:
		if err := m.k.remove(m.instance, c.o); err != nil && !gone(err) {
			return err
		}
		delete(m.memory.owned, c.o)
		if _, ok := c.o.(sysctlObject); ok {
			m.memory.restore = false
		}
		return nil
	}
	if err := m.k.add(m.instance, c.o); err != nil {
		return err
	}
	switch o := c.o.(type) {
	case mtuObject:
		if _, known := m.memory.mtu[o.dev]; !known {
			m.memory.mtu[o.dev] = f.links[o.dev].mtu
		}
	case masterObject, upObject, addrObject:
		m.memory.owned[c.o] = true
	case sysctlObject:
		m.memory.restore = true
	case restoreObject:
		m.memory.restore = false
	}
	return nil
}

// gone reports whether a removal failed because there was nothing to remove.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// failures joins what is still wrong after the last pass: changes that were tried and are still due. Of those
// refused for want of a privilege one speaks for all.
func failures(due []change, failed map[change]error, ctxErr error) error {
	var errs []error
	unsettled, forbidden := 0, 0
	for _, c := range due {
		switch err, tried := failed[c]; {
		case !tried:
			unsettled++
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
		errs = append(errs, fmt.Errorf("apply stopped with %d changes to do: %w", unsettled, ctxErr))
	case unsettled > 0:
		errs = append(errs, fmt.Errorf("somebody undoes our changes: %d are still to do after %d rounds, the first: %v", unsettled, maxPasses, firstUntried(due, failed)))
	}
	return errors.Join(errs...)
}

func firstUntried(due []change, failed map[change]error) change {
	i := slices.IndexFunc(due, func(c change) bool { _, tried := failed[c]; return !tried })
	return due[i]
}

// Close removes exactly what this Manager installed, also after an Apply that failed half-way, and releases
// the kernel handles. The devices themselves stay: they are the caller's. It is idempotent, and best called
// before the devices are closed.
func (m *Manager) Close() error { return m.end(anyChange) }

// Leave is Close for an instance that did not end because it was asked to: what keeps a full tunnel closed stays, if it
// is there. Traffic then goes nowhere, instead of out in the clear, until the instance starts again or Cleanup.
func (m *Manager) Leave() error {
	return m.end(func(c change, _ facts) bool { return !ofFence(c.o) })
}

// Fenced reports whether the kernel has rules of this instance's full tunnel, for example of a process that was
// killed.
func (m *Manager) Fenced() (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, ErrClosed
	}
	f, err := m.k.read()
	if err != nil {
		return false, newOpError("read", "the kernel's network state", nil, err)
	}
	for o := range f.rules {
		if o.table == Table(m.instance) {
			return true, nil
		}
	}
	return false, nil
}

// end is Close with a choice of what is removed.
func (m *Manager) end(allow func(change, facts) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.stop)
	m.state = State{}
	_, err := m.converge(context.Background(), allow)
	errs := []error{err, m.restoreMTU()}
	for _, source := range m.events {
		errs = append(errs, source.close())
	}
	return errors.Join(append(errs, m.k.close())...)
}

// restoreMTU gives devices that still exist the MTU they had before us. mu is held.
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
		if err := m.k.add(m.instance, o); err != nil && !gone(err) {
			errs = append(errs, newOpError(string(doAdd), o.String(), o, err))
		}
	}
	return errors.Join(errs...)
}

// Cleanup removes what an instance that was killed left in the current network namespace. It must not be
// called while the instance runs. Having nothing to do is not an error.
func Cleanup(instance string) error {
	m, err := New(instance)
	if err != nil {
		return err
	}
	return m.Close() // a Manager that owns nothing still finds what carries the instance's marks
}

// Addresses returns the addresses of this host, of all its devices.
func (m *Manager) Addresses() ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.k.addresses()
}

// CleanupClosed is Cleanup for an instance that is about to be started again: like Leave, it does not open a full
// tunnel.
func CleanupClosed(instance string) error {
	m, err := New(instance)
	if err != nil {
		return err
	}
	return m.Leave()
}

// LeadsIntoTunnel reports whether a packet to addr with the given mark would leave through one of the devices of
// the State applied last: an endpoint for which that holds would carry the tunnel inside itself.
func (m *Manager) LeadsIntoTunnel(addr netip.Addr, mark uint32) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, ErrClosed
	}
	h, err := m.k.hop(addr.Unmap(), mark)
	if err != nil {
		return false, fmt.Errorf("route to %v: %w", addr, err)
	}
	return slices.ContainsFunc(m.state.Devices, func(d Device) bool { return d.Name == h.dev }), nil
}
