// Package linkbench compares the kinds of virtual network devices that Linux has, and tund, on the
// machine it runs on: the throughput of one TCP flow and what it costs, the rate of small packets,
// and round trips.
//
// Each kind of device is rebuilt for every round, in network namespaces that have no name and
// belong to threads of this process. So the kernel removes all of it when the process ends, however
// it ends, and nothing of the host is changed. Traffic is generated here, with blocking sockets in
// threads of their own. It needs root.
//
// It does not judge whether the machine is quiet, and does not compare tund with other VPNs; that
// is what test/bench is for. Run may be called once at a time on a machine, which a lock ensures.
package linkbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/linkbench/result"
)

// Limits of a run.
const (
	MinTime   = 50 * time.Millisecond // of one measurement: fewer packets than that say nothing
	MaxTime   = time.Minute           // of one measurement
	MaxRounds = 99
)

// Options say what to measure.
type Options struct {
	Rows   []string      // names, in any order; nil: all
	Rounds int           // 1 to MaxRounds
	Time   time.Duration // of each measurement, MinTime to MaxTime
	Tund   string        // path of the daemon; "": its rows say that there is none
	Dir    string        // of the files of a run, made and removed; "": DefaultDir

	// Progress is called before each measurement, by the goroutine that called Run; nil: nobody is.
	Progress func(Step)
}

// DefaultDir is below /run, where only root can write, and short, because it contains sockets.
const DefaultDir = "/run/tund-bench"

// Step is where a run is.
type Step struct {
	Done, Total   int    // rows measured, of all rounds
	Round, Rounds int    // the first is 1
	Row, What     string // what is measured now
}

// Names lists all rows in the order in which they are measured and shown.
func Names() []string {
	names := make([]string, len(kinds))
	for n, k := range kinds {
		names[n] = k.name
	}
	return names
}

// Rows lists all rows without figures, in the order of Names.
func Rows() []result.Row {
	rows := make([]result.Row, len(kinds))
	for n := range kinds {
		rows[n] = kinds[n].row()
	}
	return rows
}

// Estimate is about how long a run takes.
func (o Options) Estimate() time.Duration {
	rows := len(o.Rows)
	if o.Rows == nil {
		rows = len(kinds)
	}
	return time.Duration(rows*o.Rounds) * (rowOverhead + 4*o.Time)
}

const (
	// rowOverhead is what building a row, warming up and taking it down take.
	rowOverhead = 1200 * time.Millisecond
	// rowLimit and rowLimitFactor bound one round of a row: a device that never carries anything
	// ends as failed.
	rowLimit       = 20 * time.Second
	rowLimitFactor = 12
)

// choose returns the kinds that were asked for, in their own order.
func choose(names []string) ([]*kind, error) {
	var unknown []string
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if unknown != nil {
		return nil, fmt.Errorf("there is no row %s (there are %s)", strings.Join(unknown, ", "), strings.Join(Names(), ", "))
	}
	var chosen []*kind
	for n := range kinds {
		if names == nil || slices.Contains(names, kinds[n].name) {
			chosen = append(chosen, &kinds[n])
		}
	}
	if chosen == nil {
		return nil, errors.New("no row was selected")
	}
	return chosen, nil
}

// Check reports what is wrong with the options, in words for whoever wrote them.
func (o Options) Check() error {
	switch {
	case o.Rounds < 1 || o.Rounds > MaxRounds:
		return fmt.Errorf("%d rounds are out of range (1 to %d)", o.Rounds, MaxRounds)
	case o.Time < MinTime || o.Time > MaxTime:
		return fmt.Errorf("%v for each measurement is out of range (%v to %v)", o.Time, MinTime, MaxTime)
	}
	_, err := choose(o.Rows)
	return err
}

// sample is what one round of one row yielded.
type sample struct {
	mtu                       int
	claimed                   *int
	gbps, cpu, kpps, p50, p99 float64
}

// Run measures. The order of the rows is that of Names in each round and in the report, whatever
// the order of Options.Rows. A row that cannot be measured says why, and is not tried in later
// rounds. The error is the context's, or says why nothing could be measured at all; in either case
// nothing is left behind.
func Run(ctx context.Context, o Options) (result.Report, error) {
	if err := o.Check(); err != nil {
		return result.Report{}, err
	}
	chosen, _ := choose(o.Rows) // checked above
	dir, err := claim(o.Dir)
	if err != nil {
		return result.Report{}, err
	}
	defer dir.release()
	report, err := machine()
	if err != nil {
		return report, err
	}
	report.Rounds, report.Seconds = o.Rounds, o.Time.Seconds()
	report.Tund = versionOf(ctx, o.Tund)
	if report.Background, err = background(ctx); err != nil {
		return report, err
	}
	b := &bench{Options: o, dir: dir}
	rows := make([]result.Row, len(chosen))
	samples := make([][]sample, len(chosen))
	for n, k := range chosen {
		rows[n] = k.row()
		rows[n].State = result.Measured
	}
	for round := range o.Rounds {
		for n, k := range chosen {
			step := Step{Done: round*len(chosen) + n, Total: o.Rounds * len(chosen), Round: round + 1, Rounds: o.Rounds, Row: k.name}
			if rows[n].State != result.Measured {
				continue
			}
			s, err := b.row(ctx, k, step)
			switch {
			case ctx.Err() != nil:
				return report, ctx.Err()
			case isAbsent(err):
				rows[n].State, rows[n].Why = result.Absent, err.Error()
			case err != nil:
				rows[n].State, rows[n].Why = result.Failed, err.Error()
			default:
				samples[n] = append(samples[n], s)
			}
		}
	}
	for n := range rows {
		if rows[n].State == result.Measured {
			summarize(&rows[n], samples[n])
		}
	}
	report.Rows = rows
	return report, nil
}

// summarize fills in the figures of a row.
func summarize(r *result.Row, rounds []sample) {
	figure := func(of func(sample) float64) *result.Figure {
		values := make([]float64, len(rounds))
		for n, s := range rounds {
			values[n] = of(s)
		}
		return result.NewFigure(values)
	}
	r.MTU, r.ClaimedMbit = rounds[0].mtu, rounds[0].claimed
	r.Gbps = figure(func(s sample) float64 { return s.gbps })
	r.CPUPerGB = figure(func(s sample) float64 { return s.cpu })
	r.KPPS = figure(func(s sample) float64 { return s.kpps })
	r.P50 = figure(func(s sample) float64 { return s.p50 })
	r.P99 = figure(func(s sample) float64 { return s.p99 })
}

// bench is one run.
type bench struct {
	Options
	dir *directory
}

// row builds one kind of device, measures it and takes it down.
func (b *bench) row(ctx context.Context, k *kind, step Step) (s sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rowLimit+rowLimitFactor*b.Time,
		fmt.Errorf("the measurement took longer than %v", rowLimit+rowLimitFactor*b.Time))
	defer cancel()
	defer func() {
		if err != nil && context.Cause(ctx) != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	say := func(what string) {
		if b.Progress != nil {
			step.What = what
			b.Progress(step)
		}
	}
	say("building")
	st := &stage{dir: b.dir.path, tund: b.Tund}
	defer st.close()
	if err := k.build(ctx, st); err != nil {
		return s, err
	}
	s.mtu, s.claimed = st.device()
	if err := st.awaitAnswer(ctx); err != nil {
		return s, err
	}
	say("throughput")
	flow, err := st.tcp(ctx, b.Time)
	if err != nil {
		return s, fmt.Errorf("throughput: %w", err)
	}
	s.gbps, s.cpu = flow.gbps, flow.cpuPerGB
	say("small packets")
	if s.kpps, err = st.packetRate(ctx, b.Time); err != nil {
		return s, fmt.Errorf("small packets: %w", err)
	}
	say("round trips")
	trips, err := st.pings(ctx, b.Time)
	if err != nil {
		return s, fmt.Errorf("round trips: %w", err)
	}
	s.p50, s.p99 = result.Quantile(trips, 0.5), result.Quantile(trips, 0.99)
	return s, nil
}

// machine names what the figures belong to.
func machine() (result.Report, error) {
	r := result.Report{Schema: result.Schema, Time: time.Now(), CPUs: runtime.NumCPU(), Rows: []result.Row{}}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return r, fmt.Errorf("read the version of the kernel: %w", err)
	}
	r.Kernel = unix.ByteSliceToString(u.Release[:])
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return r, fmt.Errorf("name the processor: %w", err)
	}
	r.Processor = processor(string(text))
	return r, nil
}
