package main

import "context"

// What a program spends as the sender and as the receiver of one flow, and what is left for the
// flow's ends and the kernel's own threads.
var rolesSet = []metric{
	{name: "sender_s_per_gb", unit: "CPU s/GB of the sender", digits: 2, less: true, ratio: true},
	{name: "receiver_s_per_gb", unit: "of the receiver", digits: 2, less: true, ratio: true},
	{name: "rest_s_per_gb", unit: "of all else", digits: 2, less: true},
	{name: "sender_gbps_core", unit: "Gbit/s a core sends", digits: 1},
	{name: "receiver_gbps_core", unit: "receives", digits: 1},
	{name: "gbps", unit: "Gbit/s in this run", digits: 2},
}

// hasDaemons leaves out the bare link, which has no program.
func hasDaemons(c contender) bool {
	_, bare := c.(*bareVeth)
	return !bare
}

// daemonSeconds is the CPU time of the contender's programs in one gateway.
func (p *pair) daemonSeconds(h *host) (sum float64, err error) {
	for _, d := range p.daemons {
		if d.ns != h.ns {
			continue
		}
		seconds, err := processSeconds(d.pid())
		if err != nil {
			return 0, err
		}
		sum += seconds
	}
	return sum, nil
}

// roles measures one flow and divides the machine's CPU time by who spent it. A program's time
// includes what the kernel does in its system calls; over veth that is the whole path to the other
// program's socket, and to the end of the flow.
func roles(ctx context.Context, m *measurement) (metrics, error) {
	hosts := []*host{m.pair.a, m.pair.b}
	var before, after [2]float64
	var err error
	for i, h := range hosts {
		if before[i], err = m.pair.daemonSeconds(h); err != nil {
			return nil, err
		}
	}
	all, err := readCPU()
	if err != nil {
		return nil, err
	}
	r, err := iperf(ctx, m.pair, flowPlan{processes: 1, flows: 1, length: m.length})
	if err != nil {
		return nil, err
	}
	end, err := readCPU()
	if err != nil {
		return nil, err
	}
	for i, h := range hosts {
		if after[i], err = m.pair.daemonSeconds(h); err != nil {
			return nil, err
		}
	}
	gb := r.bytes / 1e9
	sender, receiver := (after[0]-before[0])/gb, (after[1]-before[1])/gb
	return metrics{
		"sender_s_per_gb":    sender,
		"receiver_s_per_gb":  receiver,
		"rest_s_per_gb":      end.since(all).seconds()/gb - sender - receiver,
		"sender_gbps_core":   8 / sender,
		"receiver_gbps_core": 8 / receiver,
		"gbps":               r.bitsPerSec / 1e9,
	}, nil
}
