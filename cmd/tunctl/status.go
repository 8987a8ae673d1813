package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/choose"
	"tund/cmd/tunctl/internal/display"
	"tund/internal/control"
	"tund/internal/screen"
)

func (a *app) statusFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.StatusSchema)
	cmd.Flags().BoolVarP(&a.all, "all", "a", false, "show every peer and warning, however many")
	cmd.Flags().BoolVarP(&a.watch, "watch", "w", false, "show it again and again, until Ctrl-C; with --json one document a line")
	cmd.Flags().DurationVar(&a.interval, "interval", 2*time.Second, "time between two looks of --watch")
	cmd.Flags().IntVar(&a.count, "count", 0, "end --watch after so many looks (0: never)")
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [PEER]",
		Short: "Show the health of instances, or everything about one peer",
		Long: `Show the health of instances: problems first, then devices, peers and counters.
With PEER (its name, its public key, or the beginning of either), show everything about that peer.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			return a.status(cmd.Context(), strings.Join(args, ""))
		}),
	}
	a.statusFlags(cmd)
	return cmd
}

// status shows all instances, or one peer in them, once or again and again.
func (a *app) status(ctx context.Context, peer string) error {
	page, err := a.newPage() // checks flags before anything is asked
	if err != nil {
		return err
	}
	if a.watch {
		if err := display.CheckPace(a.interval, a.count); err != nil {
			return err
		}
		return a.display(page.Style, peer).Watch(ctx, func(style screen.Style, document control.Status) []byte {
			return a.drawStatus(style, document, peer).Bytes()
		})
	}
	document, failures, err := a.askStatus(ctx, peer)
	if err != nil {
		if a.json { // a program that asks for a document gets one
			_ = a.printJSON(document)
		}
		return err
	}
	switch {
	case a.json && (peer == "" || len(document.Instances) > 0):
		err = a.printJSON(document)
	case !a.json:
		err = a.show(a.drawStatus(page.Style, document, peer))
	}
	if err != nil {
		return err
	}
	return a.report(failures)
}

// askStatus asks all instances. The failures are of some of them, or that none has the peer; err is
// that nobody can be asked.
func (a *app) askStatus(ctx context.Context, peer string) (document control.Status, failures []error, err error) {
	document = control.Status{Schema: control.StatusSchema, Instances: []control.Instance{}}
	clients, err := a.clients()
	if err != nil {
		return document, nil, err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.Status, error) {
		return c.Status(ctx)
	})
	for _, answer := range answers {
		document.Instances = append(document.Instances, answer.Instances...)
	}
	if peer != "" && len(document.Instances) > 0 {
		found, err := choose.Peer(document.Instances, peer)
		if err != nil {
			failures = append(failures, err)
		}
		document.Instances = append([]control.Instance{}, found...)
	}
	return document, failures, nil
}

// drawStatus is the human form of a document. Without instances there is nothing: the failures say
// it all.
func (a *app) drawStatus(style screen.Style, document control.Status, peer string) *screen.Page {
	s := screen.NewPage(style, a.env.now(), a.all)
	switch {
	case len(document.Instances) == 0:
	case peer != "":
		for n := range document.Instances {
			if n > 0 {
				s.WriteByte('\n')
			}
			s.Peer(document.Instances[n].Name, &document.Instances[n].Peers[0])
		}
	default:
		s.Status(document.Instances)
	}
	return s
}
