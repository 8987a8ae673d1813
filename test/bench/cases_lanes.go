package main

import (
	"context"
	"path/filepath"
	"slices"

	api "tund/internal/control"
)

// Shares of the lane that has carried least and most, in percent.
var (
	leastLane = metric{name: "least_lane", unit: "% in the least used lane", digits: 0}
	mostLane  = metric{name: "most_lane", unit: "% in the most used lane", digits: 0, less: true}
)

// laneShares measures eight flows, and how they were spread over the lanes of a receiving tund.
// Another contender has one lane as far as this case is concerned.
func laneShares(ctx context.Context, m *measurement) (metrics, error) {
	before, err := receivedByLane(ctx, m)
	if err != nil {
		return nil, err
	}
	out, err := flow(ctx, m, flowPlan{processes: 1, flows: 8, length: m.length})
	if err != nil {
		return nil, err
	}
	after, err := receivedByLane(ctx, m)
	if err != nil {
		return nil, err
	}
	out[leastLane.name], out[mostLane.name] = 100, 100
	if len(after) < 2 || len(after) != len(before) {
		return out, nil
	}
	var sum uint64
	for i := range after {
		after[i] -= before[i]
		sum += after[i]
	}
	out[leastLane.name], out[mostLane.name] = 100*share(slices.Min(after), sum), 100*share(slices.Max(after), sum)
	return out, nil
}

// receivedByLane asks the receiving tund; nil: it is another program.
func receivedByLane(ctx context.Context, m *measurement) (packets []uint64, err error) {
	if _, ok := m.contender.(*tund); !ok {
		return nil, nil
	}
	s, err := api.NewClient(filepath.Join(m.pair.dir, "run"), m.pair.deviceOf(m.pair.b)).Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range s.Instances[0].Peers[0].LanesDetail {
		packets = append(packets, l.RxPackets)
	}
	return packets, nil
}
