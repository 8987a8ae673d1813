package linkbench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/linkbench/traffic"
)

const (
	// flowBuffer, in bytes, is what one read or write of the flow moves at most, as iperf3 does.
	flowBuffer = 128 << 10
	// warmUp is what TCP may take to find its window before the measurement begins.
	warmUp = 300 * time.Millisecond
)

// flowResult is what one TCP flow reached, and what the machine spent on it.
type flowResult struct{ gbps, cpuPerGB float64 }

// tcp measures one flow for a time.
func (st *stage) tcp(ctx context.Context, length time.Duration) (r flowResult, err error) {
	sender, receiver, err := st.connect()
	if err != nil {
		return r, err
	}
	var received atomic.Int64
	var stop atomic.Bool
	var group sync.WaitGroup
	group.Go(func() { push(sender, &stop) })
	group.Go(func() { pull(receiver, &stop, &received) })
	defer func() {
		stop.Store(true)
		group.Wait()
		_ = unix.Close(sender)
		_ = unix.Close(receiver)
	}()
	if err := pause(ctx, warmUp); err != nil {
		return r, err
	}
	before, err := cpuSeconds()
	if err != nil {
		return r, err
	}
	began, first := time.Now(), received.Load()
	if err := pause(ctx, length); err != nil {
		return r, err
	}
	// On a busy machine, the threads of the flow may have had no turn.
	for end := time.Now().Add(answerLimit); received.Load() == first && time.Now().Before(end); {
		if err := pause(ctx, answerPause); err != nil {
			return r, err
		}
	}
	bytes, took := float64(received.Load()-first), time.Since(began)
	after, err := cpuSeconds()
	if err != nil {
		return r, err
	}
	if bytes == 0 {
		return r, errors.New("nothing of a TCP flow arrived")
	}
	return flowResult{gbps: 8 * bytes / 1e9 / took.Seconds(), cpuPerGB: (after - before) / (bytes / 1e9)}, nil
}

// connect makes a TCP connection from the stage's sender to its receiver. Both ends use cubic where
// the kernel has it, whatever the host prefers, so that figures of hosts compare.
func (st *stage) connect() (sender, receiver int, err error) {
	port := 0
	listener, err := st.to.socket(unix.SOCK_STREAM, func(fd int) error {
		if err := unix.Bind(fd, sockaddr(st.at, 0)); err != nil {
			return fmt.Errorf("bind a socket to %v: %w", st.at, err)
		}
		if err := unix.Listen(fd, 1); err != nil {
			return fmt.Errorf("listen at %v: %w", st.at, err)
		}
		port, err = portOf(fd)
		return errors.Join(err, setTimeouts(fd, connectLimit))
	})
	if err != nil {
		return -1, -1, err
	}
	defer func() { _ = unix.Close(listener) }()
	sender, err = st.from.socket(unix.SOCK_STREAM, func(fd int) error {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
		if err := setTimeouts(fd, connectLimit); err != nil {
			return err
		}
		if err := unix.Connect(fd, sockaddr(st.at, port)); err != nil {
			return fmt.Errorf("connect with %v: %w", st.at, err)
		}
		return impatient(fd)
	})
	if err != nil {
		return -1, -1, err
	}
	receiver, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err == nil {
		err = impatient(receiver)
	}
	if err != nil {
		_ = unix.Close(sender)
		return -1, -1, fmt.Errorf("accept a connection: %w", err)
	}
	return sender, receiver, nil
}

// connectLimit bounds how long a TCP connection may take to come about.
const connectLimit = 5 * time.Second

func setTimeouts(fd int, limit time.Duration) error {
	wait := unix.NsecToTimeval(int64(limit))
	return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
}

// push sends as much as the connection takes.
func push(fd int, stop *atomic.Bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, flowBuffer)
	for !stop.Load() {
		if _, err := unix.Write(fd, buf); err != nil && !traffic.Passing(err) {
			return // the receiver sees that nothing comes any more
		}
	}
}

// pull counts what comes.
func pull(fd int, stop *atomic.Bool, received *atomic.Int64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, flowBuffer)
	for !stop.Load() {
		n, err := unix.Read(fd, buf)
		switch {
		case err == nil && n == 0:
			return
		case err == nil:
			received.Add(int64(n))
		case !traffic.Passing(err):
			return
		}
	}
}

// pause waits, or returns the error of a context that has ended.
func pause(ctx context.Context, length time.Duration) error {
	t := time.NewTimer(length)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
