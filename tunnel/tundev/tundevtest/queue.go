// Package tundevtest is a TUN or TAP queue without a kernel: a test plays the host behind it.
//
// It is for tests, inside a testing/synctest bubble or outside. It works by channels alone, so a
// bubble's clock moves on while a Read waits. It does not look into packets and does not split or
// join them.
//
// All methods are safe for concurrent use, except Read, which takes one goroutine at a time.
package tundevtest

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"tund/tunnel/tundev"
)

// Queue is a device queue whose other end a test holds. It implements tundev.Queue.
type Queue struct {
	features tundev.Features
	toTunnel chan []byte
	toHost   chan []byte
	refuse   atomic.Pointer[func(frame []byte) error]
	lost     atomic.Uint64
	failures chan error

	closed    chan struct{}
	gone      chan struct{}
	closeOnce sync.Once
	goneOnce  sync.Once
}

var _ tundev.Queue = (*Queue)(nil)

// New returns a queue that holds up to depth packets in each direction and takes headers by
// features.
func New(depth int, features tundev.Features) *Queue {
	return &Queue{
		features: features,
		toTunnel: make(chan []byte, depth), toHost: make(chan []byte, depth),
		failures: make(chan error, 64),
		closed:   make(chan struct{}), gone: make(chan struct{}),
	}
}

// Read implements tundev.Queue.
func (q *Queue) Read(buf []byte, wait bool) (int, error) {
	if err := q.over(); err != nil {
		return 0, err
	}
	if !wait {
		select {
		case err := <-q.failures:
			return 0, err
		case frame := <-q.toTunnel:
			return copy(buf, frame), nil
		default:
			return 0, nil
		}
	}
	select {
	case err := <-q.failures:
		return 0, err
	case frame := <-q.toTunnel:
		return copy(buf, frame), nil
	case <-q.closed:
	case <-q.gone:
	}
	return 0, q.over()
}

// Write implements tundev.Queue. A host that reads nothing loses what does not fit (Lost), as a
// full socket buffer on a real host does; Write does not wait.
func (q *Queue) Write(frame []byte) error {
	if err := q.over(); err != nil {
		return err
	}
	if f := q.refuse.Load(); f != nil {
		if err := (*f)(frame); err != nil {
			return err
		}
	}
	if !q.takes(frame) {
		return tundev.ErrRefused
	}
	select {
	case q.toHost <- append([]byte(nil), frame...):
	default:
		q.lost.Add(1)
	}
	return nil
}

// takes reports whether the header asks only for what the features allow.
func (q *Queue) takes(frame []byte) bool {
	if len(frame) <= tundev.HeaderSize {
		return false
	}
	if frame[0]&1 != 0 && !q.features.Checksum {
		return false
	}
	switch frame[1] &^ 0x80 { // the ECN bit
	case 0:
		return true
	case 1, 4: // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
		return q.features.TSO
	case 5: // VIRTIO_NET_HDR_GSO_UDP_L4
		return q.features.USO
	}
	return false
}

// over returns why the queue has ended, or nil.
func (q *Queue) over() error {
	select {
	case <-q.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-q.gone:
		return tundev.ErrGone
	default:
		return nil
	}
}

// Close implements tundev.Queue.
func (q *Queue) Close() error {
	q.closeOnce.Do(func() { close(q.closed) })
	return nil
}

// Inject gives the tunnel a packet as the host would, with a header of zeros before it. False means
// that the queue was full, and the packet is lost.
func (q *Queue) Inject(packet []byte) bool {
	return q.InjectFrame(append(make([]byte, tundev.HeaderSize), packet...))
}

// InjectFrame gives the tunnel a packet that has its header already. frame is copied.
func (q *Queue) InjectFrame(frame []byte) bool {
	select {
	case q.toTunnel <- append([]byte(nil), frame...):
		return true
	default:
		return false
	}
}

// Written returns the channel of what the tunnel wrote to the host, headers included, in order.
func (q *Queue) Written() <-chan []byte { return q.toHost }

// Lost returns how many written packets did not fit in the queue.
func (q *Queue) Lost() uint64 { return q.lost.Load() }

// Refuse sets a function that sees each frame written; what it returns other than nil is what Write
// returns (tundev.ErrRefused, tundev.ErrDown, syscall.ENOBUFS). nil takes it away.
func (q *Queue) Refuse(f func(frame []byte) error) {
	if f == nil {
		q.refuse.Store(nil)
		return
	}
	q.refuse.Store(&f)
}

// FailRead makes one Read (a waiting one too) return err. Up to 64 are kept and returned in turn.
func (q *Queue) FailRead(err error) { q.failures <- err }

// Full makes every Write fail with ENOBUFS, as a host out of memory does.
func (q *Queue) Full() { q.Refuse(func([]byte) error { return syscall.ENOBUFS }) }

// Delete removes the device under the tunnel: every call, also a waiting Read, returns
// tundev.ErrGone.
func (q *Queue) Delete() { q.goneOnce.Do(func() { close(q.gone) }) }
