package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A test datagram begins with the number of its trial (4 bytes, big endian), so that stragglers of
// one trial are not counted in the next.
const trialBytes = 4

// maxTrials bounds a receiver's counters; a search takes a few dozen trials.
const maxTrials = 4096

// sendOrder asks for one trial; sendReport says what was done.
type (
	sendOrder struct {
		Trial uint32        `json:"trial"`
		Rate  float64       `json:"rate"`  // datagrams a second
		Sizes []int         `json:"sizes"` // bytes of UDP payload, in turn
		For   time.Duration `json:"for"`
	}
	sendReport struct {
		Sent uint64        `json:"sent"`
		Took time.Duration `json:"took"`
	}
	// countOrder asks how many datagrams of a trial arrived.
	countOrder struct {
		Trial uint32 `json:"trial"`
	}
	countReport struct {
		Received uint64 `json:"received"`
	}
)

// pause is how long the sender sleeps when it is ahead: short enough for small bursts, long enough
// to leave the cores to the contender.
const pause = 100 * time.Microsecond

// serveSender sends trials to an address and port.
func serveSender(to string, in io.Reader, out io.Writer) error {
	remote, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	fd, err := udpSocket(netip.AddrPort{}, remote)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	return serve(in, out, func(o sendOrder) (sendReport, error) {
		if len(o.Sizes) == 0 || len(o.Sizes) > batchSize || slices.Min(o.Sizes) < trialBytes || o.Rate <= 0 {
			return sendReport{}, fmt.Errorf("cannot send %d bytes at %v a second", o.Sizes, o.Rate)
		}
		b := newBatch(o.Sizes...)
		for _, buf := range b.buffers[:b.count] {
			binary.BigEndian.PutUint32(buf, o.Trial)
		}
		return sendPaced(fd, b, o)
	})
}

// sendPaced keeps to the rate as well as the machine allows; Took and Sent tell the rate it
// reached.
func sendPaced(fd int, b *batch, o sendOrder) (sendReport, error) {
	began := time.Now()
	var sent uint64
	for {
		passed := time.Since(began)
		if passed >= o.For {
			return sendReport{Sent: sent, Took: passed}, nil
		}
		due := uint64(o.Rate*passed.Seconds()) + 1
		if due <= sent {
			ts := unix.NsecToTimespec(int64(pause))
			// Cut short by a signal it is short, and the loop looks at the clock.
			_ = unix.Nanosleep(&ts, nil)
			continue
		}
		n, err := b.send(fd, int(min(due-sent, batchSize)))
		if err != nil {
			return sendReport{}, fmt.Errorf("sendmmsg: %w", err)
		}
		sent += uint64(n) // what the kernel refused counts as lost
	}
}

// serveReceiver counts what arrives at an address and port.
func serveReceiver(at string, in io.Reader, out io.Writer) error {
	local, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	fd, err := udpSocket(local, netip.AddrPort{})
	if err != nil {
		return err
	}
	var counts [maxTrials]atomic.Uint64
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		b := newBatch(trialBytes) // the rest of each datagram is cut off by the kernel
		for {
			n, err := b.receive(fd)
			if err != nil {
				failed <- fmt.Errorf("recvmmsg: %w", err)
				return
			}
			for _, buf := range b.buffers[:n] {
				if trial := binary.BigEndian.Uint32(buf); trial < maxTrials {
					counts[trial].Add(1)
				}
			}
		}
	}()
	return serve(in, out, func(o countOrder) (countReport, error) {
		select {
		case err := <-failed:
			return countReport{}, err
		default:
			return countReport{Received: counts[o.Trial%maxTrials].Load()}, nil
		}
	})
}
