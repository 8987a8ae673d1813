package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/follow"
	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/screen"
)

// monitorOptions are the flags of monitor.
type monitorOptions struct {
	json  bool
	kinds []string
	after uint64
	all   bool // --after was given
	count int
}

func (a *app) monitorCommand() *cobra.Command {
	var o monitorOptions
	cmd := &cobra.Command{
		Use:   "monitor [PEER]",
		Short: "Show what happens in instances as it happens, until Ctrl-C",
		Long: `Show what happens as it happens: handshakes, peers that come up, go down (and why) or move, MAC
addresses that are learned or move, loops, and packets dropped at a high rate. With PEER (its name,
its public key, or the beginning of either) show only what concerns that peer. An instance that stops is followed again
once it runs.`,
		Example: `  tunctl monitor                              everything, of every instance
  tunctl monitor berlin                       what concerns one peer
  tunctl monitor --kinds peer-state,loop      some kinds of events
  tunctl monitor --json --after 0 | jq .      those remembered as well, for programs`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			o.all = cmd.Flags().Changed("after")
			return a.monitor(cmd.Context(), o, strings.Join(args, ""))
		}),
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "one JSON object a line")
	cmd.Flags().StringSliceVar(&o.kinds, "kinds", nil, "only these kinds of events, separated by commas")
	cmd.Flags().Uint64Var(&o.after, "after", 0, "begin after this number; 0: with the oldest that is remembered (default: what comes next)")
	cmd.Flags().IntVar(&o.count, "count", 0, "end after so many events (0: never)")
	return cmd
}

// monitor follows all instances, or the one chosen.
func (a *app) monitor(ctx context.Context, o monitorOptions, peer string) error {
	kinds, err := monitorKinds(o.kinds)
	if err != nil {
		return err
	}
	if o.count < 0 {
		return exit.Usage("--count %d is less than 0", o.count)
	}
	style, err := a.env.style(a.color)
	if err != nil {
		return exit.Usage("%v", err)
	}
	clients, err := a.clients()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wanted, err := a.monitored(ctx, clients, peer, o.all)
	if err != nil {
		return err
	}
	lines, failed := make(chan follow.Event), make(chan error, len(clients))
	for _, c := range clients {
		f := follow.Follower{
			Client: c, Kinds: kinds, Lines: lines, Now: a.env.now, Explain: func(err error) string { return a.explain(err).Text },
			Log: func(text string) { fmt.Fprintln(a.env.stderr, "tunctl: "+text) },
		}
		if o.all {
			f.After = &o.after
		}
		go func() { failed <- f.Run(ctx) }()
	}
	shown := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if err != nil {
				return err
			}
		case line := <-lines:
			if !wanted(&line) {
				continue
			}
			if err := a.printEvent(style, &line, o.json, len(clients) > 1); err != nil {
				return err
			}
			if shown++; shown == o.count {
				return nil
			}
		}
	}
}

// monitorKinds checks the kinds on the command line.
func monitorKinds(names []string) ([]events.Kind, error) {
	var kinds []events.Kind
	for _, name := range names {
		if !slices.Contains(events.Kinds(), events.Kind(name)) {
			all := make([]string, 0, len(events.Kinds()))
			for _, k := range events.Kinds() {
				all = append(all, string(k))
			}
			return nil, exit.Usage("--kinds: there is no kind %q (there are %s)", name, strings.Join(all, ", "))
		}
		kinds = append(kinds, events.Kind(name))
	}
	return kinds, nil
}

// printEvent prints one event: its time, the instance if there are several, its kind, and what
// happened.
func (a *app) printEvent(style screen.Style, e *follow.Event, asJSON, instance bool) error {
	if asJSON {
		return json.NewEncoder(a.env.stdout).Encode(e)
	}
	text := e.Time.Local().Format("2006-01-02 15:04:05.000")
	if instance {
		text += "  " + style.Clean(e.Instance)
	}
	text += fmt.Sprintf("  %-11s  ", e.Kind) + style.Paint(eventPaint(e), style.Clean(e.Message))
	if e.Reason != "" && !strings.Contains(e.Message, e.Reason) {
		text += ": " + style.Clean(e.Reason)
	}
	_, err := fmt.Fprintln(a.env.stdout, text)
	return err
}

// eventPaint is the colour of an event; its words say the same.
func eventPaint(e *follow.Event) screen.Paint {
	switch {
	case e.Kind == events.PeerState && e.State == "up":
		return screen.Green
	case e.State == "down", e.State == "failed", e.State == "refused", e.Kind == events.Loop, e.Kind == events.Drops:
		return screen.Red
	case e.Kind == events.Endpoint, e.Kind == events.Failover, e.Kind == events.MACMoved, e.Kind == events.Switch, e.Kind == control.LineGone:
		return screen.Yellow
	}
	return screen.Plain
}

// monitored finds out which events concern a peer, and says so if there is none yet.
func (a *app) monitored(ctx context.Context, clients []*control.Client, wanted string, past bool) (follow.Concerns, error) {
	if wanted == "" {
		return func(*follow.Event) bool { return true }, nil
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.Status, error) { return c.Status(ctx) })
	var instances []control.Instance
	for _, answer := range answers {
		instances = append(instances, answer.Instances...)
	}
	if len(instances) == 0 {
		return nil, a.report(failures)
	}
	concerns, waits, err := follow.About(instances, wanted, past)
	if waits != "" {
		fmt.Fprintf(a.env.stderr, "tunctl: no peer is called %q now: waiting for events about it, since %s\n", wanted, waits)
	}
	return concerns, err
}
