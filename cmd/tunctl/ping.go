package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
)

// pinging is how tunctl ping was called.
type pinging struct {
	count    int
	interval time.Duration
	size     int
	wait     time.Duration
}

func (a *app) pingCommand() *cobra.Command {
	var p pinging
	cmd := &cobra.Command{
		Use:   "ping PEER",
		Short: "Measure round trip and loss inside the session with a peer",
		Long: `Send echo requests to a peer inside the session, and report how long the answers take. They show whether the peer is
there and how good the path is, whatever firewalls say about ICMP and whatever is behind the peer. The peer has to be tund.`,
		Example: `  tunctl ping berlin
  tunctl ping berlin --count 100 --interval 100ms --size 1400 --json`,
		SuggestFor:        []string{"echo", "latency", "rtt", "probe"},
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE:              a.do(func(cmd *cobra.Command, args []string) error { return a.ping(cmd.Context(), args[0], p) }),
	}
	f := cmd.Flags()
	f.IntVarP(&p.count, "count", "c", 5, "number of echo requests")
	f.DurationVar(&p.interval, "interval", time.Second, "time between two requests, at least 10ms")
	f.IntVarP(&p.size, "size", "s", control.MinPingSize, "bytes inside the session, 16 to 9000")
	f.DurationVar(&p.wait, "wait", 2*time.Second, "time to wait for each answer, at most 5s")
	f.BoolVar(&a.json, "json", false, "one JSON document, schema "+control.PingSchema)
	return cmd
}

// check reports what is wrong with the flags.
func (p pinging) check() error {
	switch {
	case p.count < 1 || p.count > 1_000_000:
		return exit.Usage("--count %d is out of range (1 to 1000000)", p.count)
	case p.interval < 10*time.Millisecond:
		return exit.Usage("--interval %v is too short: at least 10ms", p.interval)
	case p.size < control.MinPingSize || p.size > control.MaxPingSize:
		return exit.Usage("--size %d is out of range (%d to %d)", p.size, control.MinPingSize, control.MaxPingSize)
	case p.wait <= 0 || p.wait > control.MaxPingWait:
		return exit.Usage("--wait %v is out of range (more than 0, at most %v)", p.wait, control.MaxPingWait)
	}
	return nil
}

// ping sends echo requests to the one peer that fits, and fails if none is answered.
func (a *app) ping(ctx context.Context, wanted string, p pinging) error {
	if err := p.check(); err != nil {
		return err
	}
	document, failures, err := a.askStatus(ctx, wanted)
	if err != nil {
		return err
	}
	if len(document.Instances) == 0 {
		return a.report(failures)
	}
	if len(document.Instances) > 1 {
		return exit.Usage("several instances have the peer %s: choose one with -i", wanted)
	}
	instance := &document.Instances[0]
	target := &instance.Peers[0]
	report := control.PingReport{
		Schema: control.PingSchema, Instance: instance.Name, Peer: target.Name, PublicKey: target.PublicKey,
		Size: p.size, Echoes: []control.PingAnswer{},
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := a.pingAll(ctx, control.NewClient(a.env.runDir, instance.Name), &report, p); err != nil && ctx.Err() == nil {
		return err
	}
	summarize(&report)
	if err := a.showPing(&report); err != nil {
		return err
	}
	if report.Received == 0 {
		return &exit.Reported{Code: exit.Failed}
	}
	return nil
}

// pingAll sends the requests of a report, one after the other, and fills it in.
func (a *app) pingAll(ctx context.Context, c *control.Client, r *control.PingReport, p pinging) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for n := range p.count {
		if n > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		answer, err := c.Ping(ctx, control.PingRequest{Peer: r.PublicKey, Size: p.size, WaitS: p.wait.Seconds()})
		if err != nil {
			return err
		}
		r.Echoes = append(r.Echoes, answer)
		if !a.json {
			if err := a.showEcho(n+1, r, &answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// summarize counts and averages the echoes of a report.
func summarize(r *control.PingReport) {
	r.Sent = len(r.Echoes)
	var low, high, sum float64
	for _, e := range r.Echoes {
		if e.RTTS == nil {
			continue
		}
		if r.Received == 0 || *e.RTTS < low {
			low = *e.RTTS
		}
		high, sum = max(high, *e.RTTS), sum+*e.RTTS
		r.Received++
	}
	if r.Sent > 0 {
		r.Loss = 1 - float64(r.Received)/float64(r.Sent)
	}
	if r.Received > 0 {
		average := sum / float64(r.Received)
		r.RTTMinS, r.RTTAvgS, r.RTTMaxS = &low, &average, &high
	}
}

// showEcho writes a line about one request.
func (a *app) showEcho(number int, r *control.PingReport, e *control.PingAnswer) error {
	s, err := a.newPage()
	if err != nil {
		return err
	}
	what := e.Reason
	if e.RTTS != nil {
		what = "time=" + milliseconds(*e.RTTS)
	}
	fmt.Fprintf(s, "%d bytes to %s: echo=%d %s\n", r.Size, s.Clean(r.Peer), number, s.Clean(what))
	return a.show(s)
}

// showPing writes the result: the document, or a summary.
func (a *app) showPing(r *control.PingReport) error {
	if a.json {
		return a.printJSON(r)
	}
	s, err := a.newPage()
	if err != nil {
		return err
	}
	fmt.Fprintf(s, "%d sent, %d answered, %.0f%% lost", r.Sent, r.Received, 100*r.Loss)
	if r.Received > 0 {
		fmt.Fprintf(s, "; round trip min/avg/max %s/%s/%s", milliseconds(*r.RTTMinS), milliseconds(*r.RTTAvgS), milliseconds(*r.RTTMaxS))
	}
	s.WriteByte('\n')
	return a.show(s)
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.3g ms", 1000*seconds) }
