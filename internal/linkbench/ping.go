package linkbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/linkbench/traffic"
)

// pingGap is the time between two pings: enough for a 99th percentile in a second, and too few to
// be a load.
const pingGap = time.Millisecond

// echo sends packets back to where they came from.
type echo struct {
	port int
	end  atomic.Bool
	done chan struct{}
}

// echo starts one at the receiver of the stage.
func (st *stage) echo() (*echo, error) {
	fd, port, err := st.udpAt()
	if err != nil {
		return nil, err
	}
	if err := impatient(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	e := &echo{port: port, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		defer func() { _ = unix.Close(fd) }()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		buf := make([]byte, 2*smallPacket)
		for !e.end.Load() {
			if n, from, err := unix.Recvfrom(fd, buf, 0); err == nil {
				_ = unix.Sendto(fd, buf[:n], 0, from) // the sender misses what does not come back
			}
		}
	}()
	return e, nil
}

// stop ends it.
func (e *echo) stop() {
	e.end.Store(true)
	<-e.done
}

// pings measures round trips for a time, one at a time, and returns them sorted, in microseconds.
// Packets that are lost are not among them.
func (st *stage) pings(ctx context.Context, length time.Duration) ([]float64, error) {
	echo, err := st.echo()
	if err != nil {
		return nil, err
	}
	defer echo.stop()
	fd, err := st.udpTo(echo.port)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := impatient(fd); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var trips []float64
	buf := make([]byte, smallPacket)
	began := time.Now()
	// On a busy machine, a short time may pass without any answer.
	for n := uint64(1); time.Since(began) < length || len(trips) == 0 && time.Since(began) < length+answerLimit; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if wait := time.Duration(n)*pingGap - time.Since(began); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // cut short, one ping is early
		}
		trip, err := ping(fd, buf, n)
		switch {
		case err == nil:
			trips = append(trips, float64(trip)/1e3)
		case !traffic.Passing(err):
			return nil, fmt.Errorf("ping: %w", err)
		}
	}
	if len(trips) == 0 {
		return nil, errors.New("no ping was answered")
	}
	slices.Sort(trips)
	return trips, nil
}

// ping sends one packet with a number and waits until it is back. Answers to earlier ones are
// ignored.
func ping(fd int, buf []byte, number uint64) (time.Duration, error) {
	binary.BigEndian.PutUint64(buf, number)
	began := time.Now()
	if _, err := unix.Write(fd, buf); err != nil {
		return 0, err
	}
	for {
		n, err := unix.Read(fd, buf)
		trip := time.Since(began)
		if err != nil {
			return 0, err
		}
		if n == smallPacket && binary.BigEndian.Uint64(buf) == number {
			return trip, nil
		}
	}
}
