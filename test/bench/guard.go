package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// The rule by which a round is left out, fixed before the first one runs.
const (
	maxSteal      = 0.02 // of the round's time went to other machines on the host
	maxBackground = 0.10 // of this machine was busy although nothing was being measured
	maxDeviation  = 0.10 // of the control from its median over all rounds
)

// guard is what a round looked like beside the measurements themselves.
type guard struct {
	Link       linkModel `json:"link"`
	Round      int       `json:"round"`
	Order      []string  `json:"order"`
	Control    float64   `json:"control_gbps"`
	Background float64   `json:"background"`
	Steal      float64   `json:"steal"`
	Dropped    string    `json:"dropped,omitempty"` // why this round does not count
}

// backgroundWindow is how long the machine is watched before a round.
const backgroundWindow = 500 * time.Millisecond

// background measures how busy the machine is while we wait.
func background(ctx context.Context) (float64, error) {
	before, err := readCPU()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(backgroundWindow):
	}
	after, err := readCPU()
	return after.since(before).busyShare(), err
}

// control measures the bare link for a moment.
func control(ctx context.Context, dir string, link linkModel) (float64, error) {
	dir = filepath.Join(dir, "control")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	p, err := newPair(ctx, dir, link, shapeHosts)
	if err != nil {
		return 0, err
	}
	defer p.close()
	if err := (&bareVeth{}).start(ctx, p, demand{}); err != nil {
		return 0, err
	}
	if err := startIperfServers(ctx, p, 1); err != nil {
		return 0, err
	}
	r, err := iperf(ctx, p, flowPlan{processes: 1, flows: 1, length: 2 * time.Second})
	return r.bitsPerSec / 1e9, err
}

// judge marks the disturbed rounds. When fewer than half of a link model's rounds would remain,
// none is dropped: the machine was noisy throughout, and the report says that instead.
func judge(guards []guard) (noisy []linkModel) {
	controls := map[linkModel][]float64{}
	for _, g := range guards {
		controls[g.Link] = append(controls[g.Link], g.Control)
	}
	kept := map[linkModel]int{}
	for i := range guards {
		g := &guards[i]
		typical := median(controls[g.Link])
		switch deviation := math.Abs(g.Control-typical) / typical; {
		case g.Steal > maxSteal:
			g.Dropped = fmt.Sprintf("steal %.1f %%", 100*g.Steal)
		case g.Background > maxBackground:
			g.Dropped = fmt.Sprintf("others used %.0f %% of the machine", 100*g.Background)
		case deviation > maxDeviation:
			g.Dropped = fmt.Sprintf("control %.1f Gbit/s, median %.1f", g.Control, typical)
		default:
			kept[g.Link]++
		}
	}
	for link, all := range controls {
		if 2*kept[link] >= len(all) {
			continue
		}
		noisy = append(noisy, link)
		for i := range guards {
			if guards[i].Link == link {
				guards[i].Dropped = ""
			}
		}
	}
	return noisy
}
