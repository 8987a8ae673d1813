// Package fdref counts the users of a raw file descriptor, so that it can be closed safely while
// other goroutines use it.
//
// The packet path makes system calls on plain descriptor numbers, without os.File and the
// netpoller. If a number were closed while another goroutine is about to use it, it could by then
// belong to another file. With a Ref, Close does not wait, and the number is closed only when its
// last user has released it.
//
// The package does not wake a user that sleeps in the kernel: its owner does so after Shut
// (shutdown(2), or an eventfd). All methods are safe for concurrent use. The idea is that of
// fdMutex in the standard library's internal/poll.
package fdref

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// shut is set in Ref.state once no new user is let in; the bits below count the users inside.
const shut = 1 << 62

// Ref is a descriptor with its users. Make one with New; it must not be copied.
type Ref struct {
	fd    int
	also  []int // closed together with fd
	state atomic.Int64
}

// New returns a Ref that owns fd and the descriptors in also, which share its life.
func New(fd int, also ...int) *Ref { return &Ref{fd: fd, also: also} }

// FD returns the descriptor. It is good only between a successful Enter and its Leave.
func (r *Ref) FD() int { return r.fd }

// Enter lets a user in. False means that the descriptor is shut: do not touch it, and do not call
// Leave.
func (r *Ref) Enter() bool {
	if r.state.Add(1)&shut == 0 {
		return true
	}
	r.Leave()
	return false
}

// Leave ends what a successful Enter began. The last user to leave after Shut closes the
// descriptor.
func (r *Ref) Leave() {
	if r.state.Add(-1) == shut && r.state.CompareAndSwap(shut, shut|shut>>1) {
		r.close()
	}
}

// Shut lets no more users in and returns true for the first caller, who is inside himself (as after
// Enter): he wakes whoever sleeps in the kernel and then calls Leave. For later callers it returns
// false.
func (r *Ref) Shut() bool {
	for {
		old := r.state.Load()
		if old&shut != 0 {
			return false
		}
		if r.state.CompareAndSwap(old, (old+1)|shut) {
			return true
		}
	}
}

// Closing reports whether Shut was called.
func (r *Ref) Closing() bool { return r.state.Load()&shut != 0 }

func (r *Ref) close() {
	// Nothing sensible can be done about an error of close(2): the number is free in any case.
	_ = unix.Close(r.fd)
	for _, fd := range r.also {
		_ = unix.Close(fd)
	}
}
