package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(workerMain(os.Args[2:]))
	}
	os.Exit(benchMain())
}

// benchMain measures and reports. The exit code is 0 when every measurement worked, 1 when one
// failed, 2 for bad usage.
func benchMain() int {
	o, err := parseOptions(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = requireRoot()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := bench(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d measurements failed\n", failed)
		return 1
	}
	return 0
}

// bench runs everything and returns how many measurements failed.
func bench(ctx context.Context, o options) (failed int, err error) {
	if err := sweep(ctx); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "tund-bench-")
	if err != nil {
		return 0, err
	}
	if o.Keep {
		fmt.Fprintln(os.Stderr, "logs are kept in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	r := &runner{options: o, dir: dir, exe: exe, progress: &progress{w: os.Stderr, terminal: isTerminal(os.Stderr)}}
	for _, c := range allCases() {
		if slices.Contains(o.Cases, c.name) {
			r.cases = append(r.cases, c)
		}
	}
	if err := r.prepare(ctx); err != nil {
		return 0, err
	}
	runErr := r.all(ctx)
	if runErr != nil && len(r.results) == 0 {
		return 0, runErr
	}
	out := report{Schema: "tund.bench/v1", Time: time.Now().UTC().Truncate(time.Second), Options: o,
		Machine: thisMachine(context.WithoutCancel(ctx)), Complete: runErr == nil, Contenders: r.entries(),
		Rounds: r.guards, Results: r.results}
	if v, err := run(context.WithoutCancel(ctx), "git", "-C", o.Top, "describe", "--always", "--dirty"); err == nil {
		out.Version = firstLine(v)
	}
	out.Noisy = judge(out.Rounds)
	out.Summary = summarize(r.cases, r.entered, out.Rounds, out.Results, o.Seed)
	out.print(os.Stdout, r.cases)
	path := o.JSON
	if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(o.Top, path)
	}
	if err := out.save(path, o.Store); err != nil {
		return 0, err
	}
	fmt.Printf("\nAll figures: %s\n", path)
	for _, x := range out.Results {
		if x.Error != "" {
			failed++
		}
	}
	return failed, runErr
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
