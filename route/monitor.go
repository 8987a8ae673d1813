package route

import "context"

type eventSource interface{ close() error }

type noEvents struct{}

func (noEvents) close() error { return nil }

func openEvents() (eventSource, error) { return noEvents{}, nil }

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
	select {
	case <-ctx.Done():
	case <-m.stop:
	}
	return nil
}
