package linkbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// smallPacket is the UDP payload of rates and round trips, in bytes.
	smallPacket = 64
	// trialBytes at the begin of a packet are the number of its trial, so that stragglers of one
	// trial are not counted in the next.
	trialBytes = 4
	// maxTrials bounds the trials of a search: 30 doublings, or as many halvings, are more than
	// there are packets.
	maxTrials = 64
	// breath is how long the sender sleeps when it is ahead of its rate: short enough for small
	// bursts, long enough to leave the processors to what is measured.
	breath = 100 * time.Microsecond
	// settle is how long nothing has to arrive until a trial counts as over although packets are
	// missing: the receiver may not have had a turn.
	settle     = 60 * time.Millisecond
	settleStep = 2 * time.Millisecond
	// minTrial is the shortest trial, and trialShare the part of a measurement that one takes.
	minTrial   = 50 * time.Millisecond
	trialShare = 8
)

// trial is the outcome of one rate: what was sent in which time, and what arrived.
type trial struct {
	sent, received uint64
	seconds        float64
}

// maxLoss still counts as no loss: hiccups of the machine are not the device's.
const maxLoss = 1e-3

func (t trial) lossless() bool {
	return t.sent > 0 && float64(t.sent)-float64(t.received) <= maxLoss*float64(t.sent)
}

// offered and delivered are in packets a second.
func (t trial) offered() float64   { return float64(t.sent) / t.seconds }
func (t trial) delivered() float64 { return float64(t.received) / t.seconds }

// errNoRate means that even the lowest rate loses packets.
var errNoRate = errors.New("no rate was found at which 99.9 % of the packets arrive")

// Settings of the search.
const (
	startRate   = 20_000.0 // packets a second
	leastRate   = 500.0    // below it the search gives up
	closeEnough = 1.06     // the search ends when its bounds are this near
	// A sender that reaches less than this part of the rate is the limit itself.
	lazySender = 0.9
)

// search finds the highest rate that arrives without loss, in packets a second. It doubles the rate
// until packets are lost, or halves it until none are, and then narrows the interval down. A rate
// that loses packets is tried twice.
func search(try func(rate float64) (trial, error)) (float64, error) {
	attempt := func(rate float64) (trial, error) {
		t, err := try(rate)
		if err == nil && !t.lossless() {
			t, err = try(rate)
		}
		return t, err
	}
	good, bad, best := 0.0, 0.0, 0.0
	for rate := startRate; ; {
		t, err := attempt(rate)
		switch {
		case err != nil:
			return 0, err
		case t.lossless():
			good, best = rate, max(best, t.delivered())
			if t.offered() < lazySender*rate {
				return best, nil
			}
		default:
			bad = rate
		}
		switch {
		case bad == 0:
			rate *= 2
		case good == 0:
			if rate /= 2; rate < leastRate {
				return 0, errNoRate
			}
		case bad/good <= closeEnough:
			return best, nil
		default:
			rate = (good + bad) / 2
		}
	}
}

// packetRate searches the highest rate of small packets that arrive, in thousands a second.
func (st *stage) packetRate(ctx context.Context, length time.Duration) (float64, error) {
	in, port, err := st.udpAt()
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(in) }()
	out, err := st.udpTo(port)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(out) }()
	if err := errors.Join(impatient(in), impatient(out)); err != nil {
		return 0, err
	}
	c := &counter{done: make(chan struct{})}
	go c.count(in)
	defer func() {
		c.stop.Store(true)
		<-c.done
	}()
	number := uint32(0)
	rate, err := search(func(rate float64) (trial, error) {
		if err := ctx.Err(); err != nil {
			return trial{}, err
		}
		if number++; number >= maxTrials {
			return trial{}, fmt.Errorf("the rate was not found in %d trials", maxTrials)
		}
		t, err := send(out, number, rate, max(length/trialShare, minTrial))
		t.received = c.settled(number, t.sent)
		return t, err
	})
	return rate / 1e3, err
}

// send sends packets of a trial at a rate, as well as the machine allows.
func send(fd int, number uint32, rate float64, length time.Duration) (trial, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := newBatch(smallPacket)
	for _, buf := range b.buffers {
		binary.BigEndian.PutUint32(buf, number)
	}
	began := time.Now()
	for t := (trial{}); ; {
		passed := time.Since(began)
		if passed >= length {
			t.seconds = passed.Seconds()
			return t, nil
		}
		due := uint64(rate*passed.Seconds()) + 1
		if due <= t.sent {
			ts := unix.NsecToTimespec(int64(breath))
			_ = unix.Nanosleep(&ts, nil) // cut short, the loop looks at the clock
			continue
		}
		n := int(min(due-t.sent, batchSize))
		if _, err := b.send(fd, n); err != nil && !passing(err) {
			return t, fmt.Errorf("send: %w", err)
		}
		t.sent += uint64(n) // what the kernel did not take counts as lost
	}
}

// counter counts the packets of each trial.
type counter struct {
	counts [maxTrials]atomic.Uint64
	stop   atomic.Bool
	done   chan struct{}
}

// count runs until stop is set.
func (c *counter) count(fd int) {
	defer close(c.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := newBatch(trialBytes) // the kernel cuts off the rest
	for !c.stop.Load() {
		n, err := b.receive(fd)
		if err != nil && !passing(err) {
			return // all trials are lost, which the search reports
		}
		for _, buf := range b.buffers[:n] {
			if trial := binary.BigEndian.Uint32(buf); trial < maxTrials {
				c.counts[trial].Add(1)
			}
		}
	}
}

// settled returns how many packets of a trial have arrived when all have, or no more come.
func (c *counter) settled(number uint32, sent uint64) uint64 {
	last, changed := c.counts[number].Load(), time.Now()
	for last < sent && time.Since(changed) < settle {
		time.Sleep(settleStep)
		if now := c.counts[number].Load(); now != last {
			last, changed = now, time.Now()
		}
	}
	return last
}
