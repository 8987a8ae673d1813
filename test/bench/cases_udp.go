package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tund/internal/linkbench/traffic"
)

// errNoRate means that no rate was found that the contender carries without loss.
var errNoRate = errors.New("no rate without loss was found")

// udpPort is the receiving worker's.
const udpPort = 7001

var udpSet = []metric{
	{name: "kpps", unit: "kpackets/s without loss", digits: 1, ratio: true},
	{name: "cpu_us", unit: "CPU µs/packet", digits: 2, less: true, ratio: true},
	{name: "overload", unit: "delivered at 3×", digits: 2},
	{name: "overload_offered", unit: "really offered ×", digits: 1},
}

// imix are the sizes in bytes of a simple IMIX, as UDP payloads: for one packet of the tunnel's MTU
// there are four of 576 bytes and seven of 64, IP headers included.
var imix = []int{36, 36, 548, 36, 36, 548, 36, 548, 36, 36, 548, wireguardMTU - 28}

// udpRate searches the highest rate of datagrams of certain sizes, in turn, that arrive without
// loss, and then offers three times that.
func udpRate(sizes ...int) func(context.Context, *measurement) (metrics, error) {
	return func(ctx context.Context, m *measurement) (metrics, error) {
		p := m.pair
		at := fmt.Sprintf("%s:%d", p.b.end, udpPort)
		receiver, err := m.startWorker(p.b.flowNS(), "udp-receive", at)
		if err != nil {
			return nil, err
		}
		defer receiver.stop()
		sender, err := m.startWorker(p.a.flowNS(), "udp-send", at)
		if err != nil {
			return nil, err
		}
		defer sender.stop()
		u := &udpTrials{sender: sender, receiver: receiver, sizes: sizes}
		short := max(m.length/10, 300*time.Millisecond)
		rate, err := searchRate(func(rate float64) (traffic.Trial, error) { return u.run(ctx, rate, short) })
		if err != nil {
			return nil, err
		}
		var used cpuTimes
		confirmed, err := confirmRate(rate, func(rate float64) (traffic.Trial, error) {
			before, err := readCPU()
			if err != nil {
				return traffic.Trial{}, err
			}
			t, err := u.run(ctx, rate, m.length)
			if err != nil {
				return t, err
			}
			after, err := readCPU()
			used = after.since(before)
			return t, err
		})
		if err != nil {
			return nil, err
		}
		flood, err := u.run(ctx, 3*confirmed.Offered(), max(m.length/2, time.Second))
		if err != nil {
			return nil, err
		}
		return metrics{
			"kpps":             confirmed.Delivered() / 1e3,
			"cpu_us":           used.seconds() * 1e6 / float64(confirmed.Received),
			"overload":         flood.Delivered() / confirmed.Delivered(),
			"overload_offered": flood.Offered() / confirmed.Offered(),
		}, nil
	}
}

// udpTrials runs trials one after the other over one pair of workers.
type udpTrials struct {
	sender, receiver *worker
	sizes            []int
	number           uint32
}

// settle bounds how long stragglers are waited for; calm is how long none may come before a trial
// is over.
const (
	settle = 2 * time.Second
	calm   = 60 * time.Millisecond
)

func (u *udpTrials) run(ctx context.Context, rate float64, length time.Duration) (traffic.Trial, error) {
	u.number = (u.number + 1) % traffic.MaxTrials
	var sent sendReport
	if err := u.sender.ask(ctx, sendOrder{Trial: u.number, Rate: rate, Sizes: u.sizes, For: length}, &sent); err != nil {
		return traffic.Trial{}, err
	}
	var got countReport
	last := ^uint64(0)
	for end := time.Now().Add(settle); time.Now().Before(end) && got.Received != last && got.Received < sent.Sent; {
		last = got.Received
		select {
		case <-ctx.Done():
			return traffic.Trial{}, ctx.Err()
		case <-time.After(calm):
		}
		if err := u.receiver.ask(ctx, countOrder{Trial: u.number}, &got); err != nil {
			return traffic.Trial{}, err
		}
	}
	return traffic.Trial{Sent: sent.Sent, Received: got.Received, Seconds: sent.Took.Seconds()}, nil
}
