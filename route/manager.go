package route

import (
	"context"
	"net/netip"
	"sync"
)

// Manager owns the kernel state of one instance. Make it with New, in the network namespace where it works.
type Manager struct {
	instance string

	mu sync.Mutex // held for a whole Apply, Close or Restore
}

// New opens the kernel handles for an instance (the base name of its configuration file) in the calling thread's
// network namespace. It changes nothing yet. Call Close.
func New(instance string) (*Manager, error) { return &Manager{instance: instance}, nil }

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
func (m *Manager) Apply(ctx context.Context, s State) (Applied, error) { return Applied{}, nil }

// Close removes exactly what this Manager installed, also after an Apply that failed half-way, and releases
// the kernel handles. The devices themselves stay: they are the caller's. It is idempotent, and best called
// before the devices are closed.
func (m *Manager) Close() error { return nil }

// Cleanup removes what an instance that was killed left in the current network namespace. It must not be
// called while the instance runs. Having nothing to do is not an error.
func Cleanup(instance string) error { return nil }

// LeadsIntoTunnel reports whether a packet to addr with the given mark would leave through one of the devices of
// the State applied last: an endpoint for which that holds would carry the tunnel inside itself.
func (m *Manager) LeadsIntoTunnel(addr netip.Addr, mark uint32) (bool, error) { return false, nil }

// DefaultPathMTU is what PathMTU answers when nothing is known: Ethernet's.
const DefaultPathMTU = 1500

// PathMTU returns the smallest MTU, in bytes, on the way to the endpoints for packets with the given mark: of the
// cached path MTU, the route's MTU metric and the outgoing link's MTU. Endpoints that cannot be reached
// now, and those on this host, do not count; DefaultPathMTU when none is left. The error tells why
// endpoints did not count; the number is usable all the same.
func PathMTU(endpoints []netip.Addr, mark uint32) (int, error) { return DefaultPathMTU, nil }

// Event is something that changed in the kernel and was not done by this Manager.
type Event struct {
	// Underlay: a link, address or route outside our devices changed. Cached source addresses may be stale, an
	// endpoint may be reachable now, the path MTU may differ.
	Underlay bool
	// Lost lists what of ours somebody removed, in the words of ip(8). It has been put back unless Err says
	// otherwise.
	Lost []string
	// By is the process that removed it ("systemd-networkd[412]"), "" when unknown.
	By string
	// Err is why restoring failed; it is tried again with growing pauses.
	Err error
	// Gone lists our devices that no longer exist.
	Gone []string
}

// Watch calls notify for every Event until ctx ends or the Manager is closed, and restores what others
// removed (systemd-networkd deletes foreign routes and rules). It blocks; run it in a goroutine of its own,
// once. notify is called from that goroutine, must not block for long, and may call Apply. The error is nil
// after ctx or Close, otherwise why the kernel cannot be watched.
func (m *Manager) Watch(ctx context.Context, notify func(Event)) error {
	<-ctx.Done()
	return nil
}
