package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
)

// metrics are what one measurement found, by name.
type metrics map[string]float64

// check refuses what no measurement can find, a division by nothing above all.
func (m metrics) check() error {
	for name, v := range m {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s came out as %v", name, v)
		}
	}
	return nil
}

// metric tells the report how to show a number.
type metric struct {
	name   string
	unit   string
	digits int
	less   bool // less is better
	ratio  bool // show its ratio to the baseline
}

// benchCase is one thing to measure. Cases with the same shape and no setup of their own share one
// running tunnel.
type benchCase struct {
	name  string
	about string
	shape shape
	// own: the case brings the contender up itself, in a fresh pair of its own.
	own     bool
	metrics []metric
	// fits narrows further than the shape; nil: every contender of the shape.
	fits func(contender) bool
	run  func(ctx context.Context, m *measurement) (metrics, error)
}

// measurement is what a case's run is given.
type measurement struct {
	pair      *pair
	contender contender
	length    time.Duration
	peers     int    // options.Peers
	exe       string // this program, for its workers

	responderUp time.Time // set by startInitiator
}

var (
	gbps    = metric{name: "gbps", unit: "Gbit/s", digits: 2, ratio: true}
	cpuGB   = metric{name: "cpu_s_per_gb", unit: "CPU s/GB", digits: 2, less: true, ratio: true}
	reorder = metric{name: "ofo_per_gb", unit: "out of order/GB", digits: 0, less: true}
	sacks   = metric{name: "sack_reorder_per_gb", unit: "SACK reorder/GB", digits: 0, less: true}
	resent  = metric{name: "retransmits_per_gb", unit: "resent/GB", digits: 0, less: true}
	tcpSet  = []metric{gbps, cpuGB, reorder, sacks, resent}
)

// allCases lists the cases in the order in which they run.
func allCases() []benchCase {
	return []benchCase{
		{name: "tcp1", about: "one TCP flow between the gateways", shape: shapeHosts, metrics: tcpSet, run: tcp(1, 1, false)},
		{name: "tcp4", about: "four TCP flows", shape: shapeHosts, metrics: tcpSet, run: tcp(1, 4, false)},
		{name: "tcp64", about: "64 TCP flows, from four processes", shape: shapeHosts, metrics: tcpSet, run: tcp(4, 16, false)},
		{name: "lanes", about: "eight TCP flows to one peer; what the lanes of the receiving tund have carried", shape: shapeHosts,
			metrics: append(tcpSet[:len(tcpSet):len(tcpSet)], leastLane, mostLane), run: laneShares},
		{name: "roles", about: "one TCP flow; what each program spends, system calls included, and what one core of it would carry", shape: shapeHosts,
			metrics: rolesSet, fits: hasDaemons, run: roles},
		{name: "bidir", about: "one TCP flow each way at once, figures added", shape: shapeHosts, metrics: tcpSet, run: tcp(1, 1, true)},
		{name: "udp64", about: "64-byte UDP datagrams: the highest rate without loss, then three times that", shape: shapeHosts,
			metrics: udpSet, run: udpRate(64)},
		{name: "udp1200", about: "1200-byte UDP datagrams: the highest rate without loss, then three times that", shape: shapeHosts,
			metrics: udpSet, run: udpRate(1200)},
		{name: "pps-mixed", about: "UDP datagrams of a simple IMIX (7 of 64, 4 of 576, 1 of 1420 bytes): as udp64", shape: shapeHosts,
			metrics: udpSet, run: udpRate(imix...)},
		{name: "latency", about: "round trips of a UDP ping through an idle tunnel", shape: shapeHosts, metrics: latencySet, run: latencyIdle},
		{name: "latency-load", about: "round trips beside a TCP flow that takes all it can get", shape: shapeHosts,
			metrics: append(latencySet[:len(latencySet):len(latencySet)], metric{name: "gbps", unit: "Gbit/s beside it", digits: 2}),
			run:     latencyLoaded},
		{name: "gateway", about: "one TCP flow between hosts behind the gateways", shape: shapeGateways,
			metrics: append([]metric{gbps, cpuGB, {name: "skb_bytes", unit: "bytes/packet delivered", digits: 0}}, tcpSet[2:]...),
			run:     gatewayFlow},
		{name: "gateway-rps", about: "one TCP flow between hosts behind the gateways, steered to one core (RPS) as by the queues of a NIC", shape: shapeGateways,
			metrics: append([]metric{gbps, cpuGB, {name: "skb_bytes", unit: "bytes/packet delivered", digits: 0}}, tcpSet[2:]...),
			run:     steeredFlow},
		{name: "handshakes", about: "handshakes a responder answers a second, 32 at a time, each from another peer", shape: shapeHosts, own: true,
			metrics: []metric{{name: "per_s", unit: "handshakes/s", digits: 0, ratio: true},
				{name: "cpu_us", unit: "CPU µs of the responder", digits: 0, less: true, ratio: true},
				{name: "unanswered", unit: "unanswered", digits: 0, less: true}},
			fits: hasManyPeers, run: handshakeRate},
		{name: "memory", about: "a responder with many peers: start, resident memory idle and with a session for each", shape: shapeHosts, own: true,
			metrics: []metric{{name: "start_s", unit: "start s", digits: 2, less: true, ratio: true},
				{name: "idle_mib", unit: "MiB idle", digits: 1, less: true, ratio: true},
				{name: "live_mib", unit: "MiB with sessions", digits: 1, less: true, ratio: true},
				{name: "unanswered", unit: "unanswered", digits: 0, less: true}},
			fits: hasManyPeers, run: peerMemory},
		{name: "peers10k", about: "one TCP flow while both gateways have many more peers", shape: shapeHosts, own: true,
			metrics: tcpSet, fits: hasManyPeers, run: flowAmongPeers},
		{name: "scale4", about: "TCP flows from a gateway to four peers at once, each in a host of its own, figures added", shape: shapeHosts, own: true,
			metrics: tcpSet[:2], fits: hasManySites, run: flowsToSites(4)},
		{name: "scale16", about: "the same to sixteen peers", shape: shapeHosts, own: true,
			metrics: tcpSet[:2], fits: hasManySites, run: flowsToSites(16)},
		{name: "tap", about: "one TCP flow between containers bridged over the tunnel", shape: shapeBridged,
			metrics: append([]metric{gbps, cpuGB, {name: "mtu", unit: "MTU", digits: 0}}, tcpSet[2:]...), run: bridgedFlow},
		{name: "tap-pps", about: "64-byte UDP datagrams between containers bridged over the tunnel: as udp64", shape: shapeBridged,
			metrics: udpSet, run: udpRate(64)},
	}
}

func caseNames() []string {
	var names []string
	for _, c := range allCases() {
		names = append(names, c.name)
	}
	return names
}

// accepts tells whether an entrant stands in a case.
func (c *benchCase) accepts(e entrant) bool {
	return fits(e, c.shape) && (c.fits == nil || c.fits(e.contender)) && (e.only == nil || slices.Contains(e.only, c.name))
}

// tcp measures flows with iperf3, and what the whole machine spent on them.
func tcp(processes, flows int, bidir bool) func(context.Context, *measurement) (metrics, error) {
	return func(ctx context.Context, m *measurement) (metrics, error) {
		return flow(ctx, m, flowPlan{processes: processes, flows: flows, bidir: bidir, length: m.length})
	}
}

// flow runs a plan between two readings of the machine's CPU time and of the receiver's TCP
// counters.
func flow(ctx context.Context, m *measurement, plan flowPlan) (metrics, error) {
	sender, receiver := m.pair.a.flowNS(), m.pair.b.flowNS()
	countersBefore, err := reordering(ctx, sender, receiver)
	if err != nil {
		return nil, err
	}
	before, err := readCPU()
	if err != nil {
		return nil, err
	}
	r, err := iperf(ctx, m.pair, plan)
	if err != nil {
		return nil, err
	}
	after, err := readCPU()
	if err != nil {
		return nil, err
	}
	counters, err := reordering(ctx, sender, receiver)
	if err != nil {
		return nil, err
	}
	gb := r.bytes / 1e9
	return metrics{
		gbps.name:    r.bitsPerSec / 1e9,
		cpuGB.name:   after.since(before).seconds() / gb,
		reorder.name: (counters.outOfOrder - countersBefore.outOfOrder) / gb,
		sacks.name:   (counters.sackReorder - countersBefore.sackReorder) / gb,
		resent.name:  r.retransmits / gb,
	}, nil
}

// tcpOrder counts disorder inside the tunnel, both ends added.
type tcpOrder struct{ outOfOrder, sackReorder float64 }

func reordering(ctx context.Context, namespaces ...string) (tcpOrder, error) {
	var o tcpOrder
	for _, ns := range namespaces {
		c, err := tcpCounters(ctx, ns)
		if err != nil {
			return o, err
		}
		o.outOfOrder += float64(c["TCPOFOQueue"])
		o.sackReorder += float64(c["TCPSACKReorder"])
	}
	return o, nil
}

// gatewayFlow also tells how large the packets were that reached the far host: superpackets
// survive, or do not.
func gatewayFlow(ctx context.Context, m *measurement) (metrics, error) {
	before, err := received(ctx, m.pair.b.endNS, endDevice)
	if err != nil {
		return nil, err
	}
	out, err := flow(ctx, m, flowPlan{processes: 1, flows: 1, length: m.length})
	if err != nil {
		return nil, err
	}
	after, err := received(ctx, m.pair.b.endNS, endDevice)
	if err != nil {
		return nil, err
	}
	out["skb_bytes"] = share(after.bytes-before.bytes, after.packets-before.packets)
	return out, nil
}

// steeredFlow is gatewayFlow with receive packet steering on the gateways' links to their hosts. A
// veth hands over its packets on whichever core sends them, so two cores that send for one flow
// swap some before the tunnel sees them; a NIC takes a flow through one queue. Steering keeps the
// flow on one core, for the price of waking it.
func steeredFlow(ctx context.Context, m *measurement) (metrics, error) {
	hosts := []*host{m.pair.a, m.pair.b}
	var out metrics
	err := steer(ctx, hosts, 1<<min(runtime.NumCPU(), 32)-1)
	if err == nil {
		out, err = gatewayFlow(ctx, m)
	}
	return out, errors.Join(err, steer(context.WithoutCancel(ctx), hosts, 0))
}

// steer spreads the flows that come from the hosts over these cores; 0 leaves them where they come
// in.
func steer(ctx context.Context, hosts []*host, cores uint64) error {
	var errs []error
	for _, h := range hosts {
		command := fmt.Sprintf("echo %x >/sys/class/net/lan/queues/rx-0/rps_cpus", cores)
		if _, err := run(ctx, append(inside(h.ns), "sh", "-c", command)...); err != nil {
			errs = append(errs, fmt.Errorf("steer what comes from the hosts: %w", err))
		}
	}
	return errors.Join(errs...)
}

// bridgedFlow also records the MTU of the containers, which every layer-2 contender chooses for
// itself.
func bridgedFlow(ctx context.Context, m *measurement) (metrics, error) {
	out, err := flow(ctx, m, flowPlan{processes: 1, flows: 1, length: m.length})
	if err != nil {
		return nil, err
	}
	mtu, err := deviceMTU(ctx, m.pair.b.endNS, endDevice)
	out["mtu"] = float64(mtu)
	return out, err
}
