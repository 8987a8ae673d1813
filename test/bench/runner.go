package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// result is one measurement.
type result struct {
	Link      linkModel `json:"link"`
	Round     int       `json:"round"`
	Contender string    `json:"contender"`
	Case      string    `json:"case"`
	Metrics   metrics   `json:"metrics,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// runner goes through links, rounds, contenders and cases, and keeps what it finds.
type runner struct {
	options    options
	contenders []entrant
	cases      []benchCase
	progress   *progress
	dir        string // configuration and logs
	exe        string

	entered []about
	guards  []guard
	results []result
}

// prepare builds the contenders; one that cannot be had is noted and left out.
func (r *runner) prepare(ctx context.Context) error {
	bin, err := filepath.Abs(filepath.Join(r.options.Top, "dist", "bench-bin"))
	if err != nil {
		return err
	}
	shop := &workshop{top: r.options.Top, bin: bin, say: r.progress.note}
	for _, name := range r.options.Contenders {
		c, err := newEntrant(name)
		if err != nil {
			return err
		}
		wanted := false
		for i := range r.cases {
			wanted = wanted || r.cases[i].accepts(c)
		}
		if !wanted {
			continue // it has no part in the cases asked for
		}
		err = c.prepare(ctx, shop)
		entry := c.about()
		switch {
		case errors.Is(err, errUnavailable):
			entry.Skipped = err.Error()
			r.progress.note("%s is left out: %v", name, err)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		default:
			r.contenders = append(r.contenders, c)
		}
		r.entered = append(r.entered, entry)
	}
	if len(r.contenders) == 0 {
		return errors.New("no contender is left to measure")
	}
	return nil
}

// entries describe the contenders, with what has been seen of them since they were entered.
func (r *runner) entries() []about {
	for i := range r.entered {
		for _, c := range r.contenders {
			if a := c.about(); a.Name == r.entered[i].Name {
				r.entered[i].Cipher = a.Cipher
			}
		}
	}
	return r.entered
}

// total counts the measurements to come, for the progress line.
func (r *runner) total() int {
	n := 0
	for _, c := range r.contenders {
		for i := range r.cases {
			if r.cases[i].accepts(c) {
				n++
			}
		}
	}
	return n * r.options.Rounds * len(r.options.Links)
}

// all runs every round. It stops early only when ctx ends; what has been measured until then is
// kept.
func (r *runner) all(ctx context.Context) error {
	r.progress.start(r.total())
	for _, link := range r.options.Links {
		for round := range r.options.Rounds {
			if err := r.round(ctx, link, round); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) round(ctx context.Context, link linkModel, round int) error {
	g := guard{Link: link, Round: round}
	var err error
	if g.Background, err = background(ctx); err != nil {
		return err
	}
	if g.Control, err = control(ctx, r.dir, link); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	before, err := readCPU()
	if err != nil {
		return err
	}
	for _, i := range roundOrder(len(r.contenders), round, r.options.Seed) {
		c := r.contenders[i]
		g.Order = append(g.Order, c.about().Name)
		r.turn(ctx, link, round, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	after, err := readCPU()
	if err != nil {
		return err
	}
	g.Steal = after.since(before).stealShare()
	r.guards = append(r.guards, g)
	return nil
}

// turn measures one contender in one round: each shape's cases over one tunnel, then the cases with
// a setup of their own.
func (r *runner) turn(ctx context.Context, link linkModel, round int, c entrant) {
	for _, s := range []shape{shapeHosts, shapeGateways, shapeBridged} {
		var shared []*benchCase
		for i := range r.cases {
			k := &r.cases[i]
			if k.shape != s || !k.accepts(c) {
				continue
			}
			if k.own {
				r.measure(ctx, link, round, c, s, []*benchCase{k})
			} else {
				shared = append(shared, k)
			}
		}
		if len(shared) > 0 {
			r.measure(ctx, link, round, c, s, shared)
		}
	}
}

// measure makes a pair, brings the contender up in it and runs the cases. A failure is a result
// like any other.
func (r *runner) measure(ctx context.Context, link linkModel, round int, e entrant, s shape, cases []*benchCase) {
	c := e.contender
	name := c.about().Name
	m := &measurement{contender: c, length: r.options.Length, peers: r.options.Peers, exe: r.exe}
	dir := filepath.Join(r.dir, fmt.Sprintf("%s-%d-%s-%s", link, round, filepath.Base(name), cases[0].name))
	bringUp := func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		p, err := newPair(ctx, dir, link, s)
		if err != nil {
			return err
		}
		m.pair = p
		if cases[0].own {
			return nil
		}
		if err := c.start(ctx, p, demand{}); err != nil {
			return err
		}
		if err := p.waitUp(ctx, 20*time.Second); err != nil {
			return err
		}
		return startIperfServers(ctx, p, iperfServers)
	}
	upErr := bringUp()
	if m.pair != nil {
		defer m.pair.close()
	}
	defer func() {
		if t, ok := c.(*tund); ok && upErr == nil {
			t.noteCipher(ctx, m.pair)
		}
	}()
	for _, k := range cases {
		r.progress.begin(fmt.Sprintf("%s round %d/%d", link, round+1, r.options.Rounds), name, k.name)
		out := result{Link: link, Round: round, Contender: name, Case: k.name}
		err := upErr
		if err == nil {
			limit, cancel := context.WithTimeout(ctx, 3*time.Minute+20*r.options.Length)
			out.Metrics, err = k.run(limit, m)
			cancel()
		}
		if err == nil {
			err = out.Metrics.check()
		}
		if err != nil {
			out.Metrics, out.Error = nil, err.Error()
		}
		r.results = append(r.results, out)
		r.progress.end(k, out)
	}
}

// machine describes where the figures come from.
type machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Kernel string  `json:"kernel"`
	Memory float64 `json:"memory_gib"`
	Go     string  `json:"go"`
	Iperf  string  `json:"iperf3"`
}

func thisMachine(ctx context.Context) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	first := func(argv ...string) string {
		out, err := run(ctx, argv...)
		if err != nil {
			return "unknown"
		}
		return firstLine(out)
	}
	m.Kernel = first("uname", "-r")
	m.Iperf = first("iperf3", "--version")
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = cpuModel(string(text))
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = memoryGiB(string(text))
	}
	return m
}
