package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pingPort is the echo's.
const pingPort = 7002

// pingRate is a thousand a second: enough for a p99.9 in a few seconds, too few to be a load.
const pingRate = 1000

var latencySet = []metric{
	{name: "p50_us", unit: "p50 µs", digits: 0, less: true, ratio: true},
	{name: "p99_us", unit: "p99 µs", digits: 0, less: true, ratio: true},
	{name: "p999_us", unit: "p99.9 µs", digits: 0, less: true},
	{name: "lost", unit: "lost", digits: 0, less: true},
}

// latencyIdle measures round trips through a tunnel that does nothing else.
func latencyIdle(ctx context.Context, m *measurement) (metrics, error) {
	pinger, stop, err := m.startPinger(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	return pings(ctx, pinger, m.length)
}

// latencyLoaded measures them beside a TCP flow that takes all it can get.
func latencyLoaded(ctx context.Context, m *measurement) (metrics, error) {
	pinger, stop, err := m.startPinger(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	var flow flowResult
	var flowErr error
	flowDone := make(chan struct{})
	go func() {
		defer close(flowDone)
		flow, flowErr = iperf(ctx, m.pair, flowPlan{processes: 1, flows: 1, length: m.length + 2*time.Second})
	}()
	select {
	case <-flowDone: // it failed; the error is below
	case <-time.After(time.Second): // it has found its window
	}
	out, err := pings(ctx, pinger, m.length)
	<-flowDone
	if err := errors.Join(err, flowErr); err != nil {
		return nil, err
	}
	out["gbps"] = flow.bitsPerSec / 1e9
	return out, nil
}

// startPinger starts an echo at one end and a pinger at the other, and wakes everything up with a
// few pings.
func (m *measurement) startPinger(ctx context.Context) (pinger *worker, stop func(), err error) {
	p := m.pair
	at := fmt.Sprintf("%s:%d", p.b.end, pingPort)
	echo, err := m.startWorker(p.b.flowNS(), "echo", at)
	if err != nil {
		return nil, nil, err
	}
	pinger, err = m.startWorker(p.a.flowNS(), "ping", at)
	if err != nil {
		echo.stop()
		return nil, nil, err
	}
	stop = func() {
		pinger.stop()
		echo.stop()
	}
	if _, err := pings(ctx, pinger, 200*time.Millisecond); err != nil {
		stop()
		return nil, nil, err
	}
	return pinger, stop, nil
}

func pings(ctx context.Context, pinger *worker, length time.Duration) (metrics, error) {
	var r pingReport
	if err := pinger.ask(ctx, pingOrder{Rate: pingRate, For: length}, &r); err != nil {
		return nil, err
	}
	return metrics{"p50_us": r.P50, "p99_us": r.P99, "p999_us": r.P999, "lost": float64(r.Lost)}, nil
}
