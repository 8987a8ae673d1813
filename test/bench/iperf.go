package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// iperf3 serves one test at a time and runs it on one thread, so 64 flows are 4 processes of 16.
const (
	iperfPort    = 5201
	iperfServers = 4
)

// startIperfServers runs servers at the receiving end and returns when they listen.
func startIperfServers(ctx context.Context, p *pair, n int) error {
	for i := range n {
		name := fmt.Sprintf("iperf3-%d", i)
		s, err := p.helper(p.b.flowNS(), name, "iperf3", "--server", "--forceflush", "--port", strconv.Itoa(iperfPort+i))
		if err != nil {
			return err
		}
		if err := waitListening(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// waitListening returns when an iperf3 server listens.
func waitListening(ctx context.Context, s *process) error {
	return waitFor(ctx, 5*time.Second, 10*time.Millisecond, "iperf3 server", []*process{s}, func() bool {
		text, err := os.ReadFile(s.log)
		return err == nil && strings.Contains(string(text), "Server listening")
	})
}

// flowPlan is one iperf3 measurement.
type flowPlan struct {
	processes int // iperf3 clients side by side
	flows     int // of each process
	bidir     bool
	length    time.Duration
}

// flowResult adds up what all processes reported.
type flowResult struct {
	bytes       float64 // received, both directions together
	bitsPerSec  float64
	retransmits float64
}

// iperf runs a plan between the pair's ends.
func iperf(ctx context.Context, p *pair, plan flowPlan) (flowResult, error) {
	type answer struct {
		result flowResult
		err    error
	}
	answers := make(chan answer, plan.processes)
	for i := range plan.processes {
		argv := append(inside(p.a.flowNS()), "iperf3", "--client", p.b.end.String(), "--port", strconv.Itoa(iperfPort+i),
			"--congestion", "cubic", "--json", "--parallel", strconv.Itoa(plan.flows),
			"--time", strconv.Itoa(int(plan.length/time.Second)))
		if plan.bidir {
			argv = append(argv, "--bidir")
		}
		go func() {
			limit, cancel := context.WithTimeout(ctx, plan.length+20*time.Second)
			defer cancel()
			text, runErr := run(limit, argv...)
			r, err := parseIperf(text)
			if err != nil {
				err = errors.Join(err, runErr)
			}
			answers <- answer{r, err}
		}()
	}
	var sum flowResult
	var errs []error
	for range plan.processes {
		a := <-answers
		sum.bytes += a.result.bytes
		sum.bitsPerSec += a.result.bitsPerSec
		sum.retransmits += a.result.retransmits
		errs = append(errs, a.err)
	}
	return sum, errors.Join(errs...)
}

// parseIperf reads iperf3's --json report. Throughput is what the receiver counted.
func parseIperf(text []byte) (flowResult, error) {
	type total struct {
		Bytes       float64 `json:"bytes"`
		Bits        float64 `json:"bits_per_second"`
		Retransmits float64 `json:"retransmits"`
	}
	var report struct {
		Error string `json:"error"`
		End   struct {
			Sent            total `json:"sum_sent"`
			Received        total `json:"sum_received"`
			SentReverse     total `json:"sum_sent_bidir_reverse"`
			ReceivedReverse total `json:"sum_received_bidir_reverse"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return flowResult{}, fmt.Errorf("iperf3 report: %w", err)
	}
	if report.Error != "" {
		return flowResult{}, errors.New("iperf3: " + report.Error)
	}
	e := report.End
	r := flowResult{
		bytes:       e.Received.Bytes + e.ReceivedReverse.Bytes,
		bitsPerSec:  e.Received.Bits + e.ReceivedReverse.Bits,
		retransmits: e.Sent.Retransmits + e.SentReverse.Retransmits,
	}
	if r.bytes == 0 {
		return flowResult{}, errors.New("iperf3 moved nothing")
	}
	return r, nil
}
