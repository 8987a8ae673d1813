package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
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

// reconnectPause is the time between two attempts to follow an instance that has stopped.
const reconnectPause = time.Second

func (a *app) monitorCommand() *cobra.Command {
	var o monitorOptions
	cmd := &cobra.Command{
		Use:   "monitor [PEER]",
		Short: "Show what happens in instances as it happens, until Ctrl-C",
		Long: `Show what happens as it happens: handshakes, peers that come up, go down (and why) or move, MAC
addresses that are learned or move, loops, and packets dropped at a high rate. With PEER (its name
or its public key) show only what concerns that peer. An instance that stops is followed again
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

// followed is an event of an instance, as --json prints it.
type followed struct {
	Instance string `json:"instance"`
	events.Event
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
	lines, failed := make(chan followed), make(chan error, len(clients))
	for _, c := range clients {
		f := follower{client: c, kinds: kinds, lines: lines, log: func(text string) { fmt.Fprintln(a.env.stderr, "tunctl: "+text) }}
		if o.all {
			f.after = &o.after
		}
		go func() { failed <- f.run(ctx, a) }()
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
			if peer != "" && line.Peer != peer && line.PublicKey != peer && line.Port != peer && line.Kind != control.LineGone {
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
func (a *app) printEvent(style screen.Style, e *followed, asJSON, instance bool) error {
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
func eventPaint(e *followed) screen.Paint {
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

// follower follows one instance, and again after it was restarted.
type follower struct {
	client *control.Client
	kinds  []events.Kind
	after  *uint64 // continue after; nil: with what comes next
	lines  chan<- followed
	log    func(text string)
}

// run follows the instance until ctx ends. The error is that it could not be followed at first.
func (f *follower) run(ctx context.Context, a *app) error {
	connected, lost := false, false
	for {
		err := f.client.Follow(ctx, f.after, f.kinds, func(e *events.Event, _ []byte) error {
			if lost {
				f.log(f.client.Instance() + " runs again")
			}
			connected, lost = true, false
			f.after = &e.N
			if e.Kind == control.LineHeartbeat {
				return nil
			}
			return f.pass(ctx, *e)
		})
		var answer *control.Error
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &answer) && answer.Code == control.CodeGone:
			f.after = new(uint64) // with the oldest that is remembered
			gap := events.Event{Time: a.env.now(), Kind: control.LineGone, Message: "events are missing here: " + f.client.Instance() + " was restarted, or had too many to remember"}
			if err := f.pass(ctx, gap); err != nil {
				return nil
			}
			continue
		case !connected:
			return err
		case !lost:
			f.log(a.explain(err).Text)
			lost = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnectPause):
		}
	}
}

// pass hands an event over to be printed.
func (f *follower) pass(ctx context.Context, e events.Event) error {
	select {
	case f.lines <- followed{f.client.Instance(), e}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
