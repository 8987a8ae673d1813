// Package traffic sends datagrams at a rate and counts those that arrive, for the programs that
// measure: `tunctl bench`, and test/bench, which compares VPN programs.
//
// A datagram begins with the number of its trial, so that stragglers of one trial are not counted
// in the next. The sockets are the caller's: blocking ones instead of those of package net, because
// with 10⁵ datagrams a second the runtime's poller would be much of what is measured.
//
// It opens no sockets, knows no namespaces, and decides nothing about rates. A Batch belongs to one
// goroutine; a Counter is safe for concurrent use.
package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// BatchSize is how many datagrams one system call moves at most.
	BatchSize = 64
	// TrialBytes at the begin of a datagram are the number of its trial, in big endian.
	TrialBytes = 4
	// MaxTrials bounds the trials that a Counter tells apart: a search takes a few dozen, and a
	// receiver may serve several.
	MaxTrials = 4096
	// breath is how long Send sleeps when it is ahead of its rate: short enough for small bursts,
	// long enough to leave the processors to what is measured.
	breath = 100 * time.Microsecond
)

// mmsghdr is the kernel's struct mmsghdr (include/linux/socket.h).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// Batch has buffers for sendmmsg(2) and recvmmsg(2).
type Batch struct {
	count   int // buffers in use
	next    int // the first that is sent next
	buffers [BatchSize][]byte
	vectors [BatchSize]unix.Iovec
	headers [BatchSize]mmsghdr
}

// NewBatch makes buffers whose sizes in bytes are those given, over and over, and as many as they
// go evenly into: between one and BatchSize sizes, none of them 0.
func NewBatch(sizes ...int) *Batch {
	b := &Batch{count: BatchSize - BatchSize%len(sizes)}
	for i := range b.buffers[:b.count] {
		size := sizes[i%len(sizes)]
		b.buffers[i] = make([]byte, size)
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(size)
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// send offers up to n of the buffers, in turn, to the kernel, and returns how many. What it does
// not take, because a queue below is full, is lost, and the receiver's count shows it.
func (b *Batch) send(fd, n int) (offered int, err error) {
	offered = min(n, b.count-b.next)
	_, err = b.call(unix.SYS_SENDMMSG, fd, b.headers[b.next:][:offered], 0)
	b.next = (b.next + offered) % b.count
	return offered, err
}

// receive waits for at least one datagram.
func (b *Batch) receive(fd int) (int, error) {
	return b.call(unix.SYS_RECVMMSG, fd, b.headers[:b.count], unix.MSG_WAITFORONE)
}

func (b *Batch) call(number uintptr, fd int, headers []mmsghdr, flags int) (int, error) {
	done, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(done), nil
}

// Passing reports whether an error of a socket means that nothing came or went this time: it has a
// time limit, a queue below is full, or nobody listens at the other end at present.
func Passing(err error) bool {
	for _, no := range []unix.Errno{unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// Send sends the datagrams of a trial through a connected socket, in turn, at a rate (per second),
// as well as the machine allows: sent and took tell the rate that it reached. Every buffer of b has
// to have room for the trial's number. It holds its thread.
func Send(fd int, b *Batch, trial uint32, rate float64, length time.Duration) (sent uint64, took time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, buf := range b.buffers[:b.count] {
		binary.BigEndian.PutUint32(buf, trial)
	}
	began := time.Now()
	for {
		passed := time.Since(began)
		if passed >= length {
			return sent, passed, nil
		}
		due := uint64(rate*passed.Seconds()) + 1
		if due <= sent {
			ts := unix.NsecToTimespec(int64(breath))
			_ = unix.Nanosleep(&ts, nil) // cut short, the loop looks at the clock
			continue
		}
		n, err := b.send(fd, int(min(due-sent, BatchSize)))
		if err != nil && !Passing(err) {
			return sent, passed, fmt.Errorf("send datagrams: %w", err)
		}
		sent += uint64(n) // what the kernel did not take counts as lost
	}
}

// Counter counts the datagrams of each trial. The zero Counter is ready.
type Counter struct {
	counts [MaxTrials]atomic.Uint64
	stop   atomic.Bool
}

// Count counts what a socket receives until Stop, which it notices when a datagram comes or the
// socket's time limit is over, or until receiving fails. It holds its thread.
func (c *Counter) Count(fd int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := NewBatch(TrialBytes) // the kernel cuts off the rest
	for !c.stop.Load() {
		n, err := b.receive(fd)
		if err != nil && !Passing(err) {
			return fmt.Errorf("receive datagrams: %w", err)
		}
		for _, buf := range b.buffers[:n] {
			if trial := binary.BigEndian.Uint32(buf); trial < MaxTrials {
				c.counts[trial].Add(1)
			}
		}
	}
	return nil
}

// Stop ends Count.
func (c *Counter) Stop() { c.stop.Store(true) }

// Received returns how many datagrams of a trial have arrived, 0 of one that is MaxTrials or more.
func (c *Counter) Received(trial uint32) uint64 {
	if trial >= MaxTrials {
		return 0
	}
	return c.counts[trial].Load()
}
