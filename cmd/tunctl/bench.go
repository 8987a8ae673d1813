package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/linkbench"
	"tund/internal/linkbench/picture"
	"tund/internal/linkbench/result"
)

// benching is how tunctl bench was called.
type benching struct {
	options linkbench.Options
	plots   []string
	list    bool
}

func (a *app) benchCommand() *cobra.Command {
	var b benching
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the kinds of virtual network devices, and tund, on this machine (root)",
		Long: `Measure what the kinds of virtual network devices that Linux has, and tund, reach on this machine: the throughput
of one TCP flow and the CPU time that it costs, the rate of small packets, and round trips. Everything is built in
network namespaces that vanish with the command; nothing of the host is changed. The figures are meaningful only on
a machine that has nothing else to do.`,
		Example: `  sudo tunctl bench
  sudo tunctl bench --rows veth,vxlan,tund-l2 --rounds 5 --time 2s
  sudo tunctl bench --plot devices.svg --plot devices.png --json > devices.json`,
		SuggestFor: []string{"benchmark", "speed", "perf", "measure", "iperf"},
		Args:       noArgs,
		RunE:       a.do(func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), b) }),
	}
	f := cmd.Flags()
	f.StringSliceVar(&b.options.Rows, "rows", nil, "rows to measure, separated by commas (default: all)")
	f.BoolVar(&b.list, "list", false, "print the names of the rows and what they are, and measure nothing")
	f.IntVar(&b.options.Rounds, "rounds", 3, fmt.Sprintf("how often each row is measured, 1 to %d", linkbench.MaxRounds))
	f.DurationVar(&b.options.Time, "time", time.Second, fmt.Sprintf("length of each measurement, %v to %v", linkbench.MinTime, linkbench.MaxTime))
	f.StringVar(&b.options.Tund, "tund", "", "the tund to measure (default: the one beside tunctl, or in the PATH)")
	f.StringArrayVar(&b.plots, "plot", nil, "also draw a picture: a file that ends in .svg or .png (repeatable)")
	f.BoolVar(&a.json, "json", false, "one JSON document, schema "+result.Schema)
	err := errors.Join(
		cmd.RegisterFlagCompletionFunc("rows", cobra.FixedCompletions(linkbench.Names(), cobra.ShellCompDirectiveNoFileComp)),
		cmd.MarkFlagFilename("plot", "svg", "png"), cmd.MarkFlagFilename("tund"))
	if err != nil {
		panic("cmd/tunctl: " + err.Error()) // the flags were defined above
	}
	return cmd
}

// bench measures, and shows and draws the result.
func (a *app) bench(ctx context.Context, b benching) error {
	if b.list {
		return a.listBench()
	}
	o := b.options
	if err := o.Check(); err != nil {
		return exit.Usage("%v", err)
	}
	for _, path := range b.plots {
		if _, err := drawing(path); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return exit.Errorf(exit.Permission, "network namespaces need root (try sudo)")
	}
	if o.Tund == "" {
		o.Tund = besides("tund")
	} else if _, err := exec.LookPath(o.Tund); err != nil {
		return exit.Usage("--tund: %v", err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	wipe := a.benchProgress(&o)
	report, err := linkbench.Run(ctx, o)
	wipe()
	if errors.Is(err, context.Canceled) {
		return exit.Errorf(exit.Failed, "interrupted; everything that was built has been removed")
	}
	if err != nil {
		return err
	}
	if err := a.showBench(&report); err != nil {
		return err
	}
	for _, path := range b.plots {
		if err := plot(path, &report); err != nil {
			return err
		}
	}
	return nil
}

// listBench prints what there is to measure.
func (a *app) listBench() error {
	for _, r := range linkbench.Rows() {
		fmt.Fprintf(a.env.stdout, "%-12s %s\n", r.Name, r.About)
	}
	return nil
}

// besides finds a program of tund's where tunctl is, where packages put it, or in the PATH.
func besides(name string) string {
	if self, err := os.Executable(); err == nil {
		for _, dir := range []string{".", "../sbin"} {
			if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), dir, name)); err == nil {
				return path
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// benchProgress keeps a line on the terminal at standard error, if there is one. The function that
// it returns clears the line.
func (a *app) benchProgress(o *linkbench.Options) (wipe func()) {
	columns := a.env.progress
	if columns == 0 {
		return func() {}
	}
	began := a.env.now()
	estimate := o.Estimate()
	o.Progress = func(s linkbench.Step) {
		left := estimate - a.env.now().Sub(began)
		if s.Done > 0 {
			left = a.env.now().Sub(began) / time.Duration(s.Done) * time.Duration(s.Total-s.Done)
		}
		text := fmt.Sprintf("[%d/%d] round %d of %d: %s, %s (about %v left)", s.Done+1, s.Total, s.Round, s.Rounds, s.Row, s.What,
			max(left, 0).Round(time.Second))
		fmt.Fprintf(a.env.stderr, "\r\x1b[K%.*s", columns-1, text)
	}
	return func() { fmt.Fprint(a.env.stderr, "\r\x1b[K") }
}

// showBench writes the result: the document, or a table.
func (a *app) showBench(r *result.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	s, err := a.newPage()
	if err != nil {
		return err
	}
	s.Bench(r)
	return a.show(s)
}

// drawing returns what draws a picture in the format of a file.
func drawing(path string) (func(*result.Report) ([]byte, error), error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".svg":
		return func(r *result.Report) ([]byte, error) { return picture.SVG(r), nil }, nil
	case ".png":
		return picture.PNG, nil
	}
	return nil, exit.Usage("--plot %s: the name has to end in .svg or .png", path)
}

// plot writes a picture.
func plot(path string, r *result.Report) error {
	draw, err := drawing(path)
	if err != nil {
		return err
	}
	data, err := draw(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}
