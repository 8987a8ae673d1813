package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/display"
	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/live"
	"tund/internal/screen"
)

func (a *app) topCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "top [PEER]",
		Short: "Show live rates of peers, with keys to sort and to pick one",
		Long: `Show the rates of peers again and again: traffic, round trip, age of the handshake, and drops, with a graph of the last looks.
Keys: arrows or j and k pick a peer, Enter shows its details and returns, s and S change the order and r reverses it, /
filters by name, Space pauses, q ends. Without a terminal, one table follows the other, the first as soon as there are rates.`,
		Example: `  tunctl top
  tunctl top --sort drops
  tunctl top --count 1 | head -20      the busiest peers now`,
		SuggestFor:        []string{"rates", "bandwidth", "live", "iftop", "htop", "traffic"},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			return a.top(cmd.Context(), strings.Join(args, ""), key)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&key, "sort", live.Keys[0], "order: "+strings.Join(live.Keys, ", "))
	f.DurationVar(&a.interval, "interval", 2*time.Second, "time between two looks")
	f.IntVar(&a.count, "count", 0, "end after so many tables (0: never)")
	f.BoolVar(&a.json, "json", false, "one JSON object a line, schema "+display.TopSchema)
	return cmd
}

// top shows rates, on the whole terminal if there is one.
func (a *app) top(ctx context.Context, filter, key string) error {
	page, err := a.newPage()
	if err != nil {
		return err
	}
	if !slices.Contains(live.Keys, key) {
		return exit.Usage("--sort %q is not one of %s", key, strings.Join(live.Keys, ", "))
	}
	if err := display.CheckPace(a.interval, a.count); err != nil {
		return err
	}
	if _, err := a.clients(); err != nil {
		return err
	}
	return a.display(page.Style, "").Top(ctx, filter, key)
}

// display is the terminal, or what stands for one, for a verb that shows instances again and again.
func (a *app) display(style screen.Style, peer string) *display.Screen {
	return &display.Screen{
		In: a.env.stdin, Out: a.env.stdout, Err: a.env.stderr, Now: a.env.now, Measure: a.env.measure,
		Style: style, Height: a.env.height, Dumb: a.env.getenv("TERM") == "dumb", JSON: a.json, Interval: a.interval, Count: a.count,
		Ask: func(ctx context.Context) (control.Status, []error) {
			document, failures, err := a.askStatus(ctx, peer)
			if err != nil {
				failures = append(failures, err)
			}
			return document, failures
		},
		Explain: func(err error) string { return a.explain(err).Text },
	}
}
