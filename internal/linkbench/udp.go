package linkbench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/linkbench/traffic"
)

const (
	// smallPacket is the UDP payload of rates and round trips, in bytes.
	smallPacket = 64
	// maxTrials bounds the trials of a search: 30 doublings, or as many halvings, are more than
	// there are packets.
	maxTrials = 64
	// settle is how long nothing has to arrive until a trial counts as over although packets are
	// missing: the receiver may not have had a turn.
	settle     = 60 * time.Millisecond
	settleStep = 2 * time.Millisecond
	// minTrial is the shortest trial, and trialShare the part of a measurement that one takes.
	minTrial   = 50 * time.Millisecond
	trialShare = 8
)

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
	c, counted := new(traffic.Counter), make(chan struct{})
	go func() {
		defer close(counted)
		_ = c.Count(in) // what it does not count is lost, which the search reports
	}()
	defer func() {
		c.Stop()
		<-counted
	}()
	// What still counts as no loss are hiccups of a machine that people work with.
	search := traffic.Search{Start: 20_000, Least: 500, Loss: 1e-3, Close: 1.06}
	b, number := traffic.NewBatch(smallPacket), uint32(0)
	rate, err := search.Rate(func(rate float64) (traffic.Trial, error) {
		if err := ctx.Err(); err != nil {
			return traffic.Trial{}, err
		}
		if number++; number >= maxTrials {
			return traffic.Trial{}, fmt.Errorf("the rate was not found in %d trials", maxTrials)
		}
		sent, took, err := traffic.Send(out, b, number, rate, max(length/trialShare, minTrial))
		return traffic.Trial{Sent: sent, Received: settled(c, number, sent), Seconds: took.Seconds()}, err
	})
	return rate / 1e3, err
}

// settled returns how many packets of a trial have arrived when all have, or no more come.
func settled(c *traffic.Counter, number uint32, sent uint64) uint64 {
	last, changed := c.Received(number), time.Now()
	for last < sent && time.Since(changed) < settle {
		time.Sleep(settleStep)
		if now := c.Received(number); now != last {
			last, changed = now, time.Now()
		}
	}
	return last
}
