package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/rundir"
	"tund/internal/screen"
)

// app is one run of tunctl.
type app struct {
	env     *environment
	verb    string // with the names of those above it, for hints; "": not known yet
	started bool   // a command of ours runs: errors are no longer about the command line

	// Flags.
	instance string
	color    string
	json     bool
	all      bool
	config   string

	watch    bool
	interval time.Duration
	count    int
}

// commands builds the tree of verbs. Each verb is in the file named after it.
func (a *app) commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "tunctl",
		Short: "Query and control running tund instances",
		Long: `tunctl queries and controls running tund instances over their control sockets, and makes keys.
Without a verb it shows the status of every instance.`,
		Example: `  tunctl                         status of every instance
  tunctl status berlin           everything about one peer
  tunctl status --json | jq .    for programs
  sudo tunctl -i office reload   read /etc/tund/office.toml again
  (umask 077; tunctl genkey > office.key); tunctl pubkey < office.key`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          onlyVerbs,
		RunE:          a.do(func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), "") }),
	}
	root.PersistentFlags().StringVarP(&a.instance, "instance", "i", "", "instance to talk to (default: all, or the only one)")
	root.PersistentFlags().StringVar(&a.color, "color", "auto", "auto, always or never")
	a.statusFlags(root)
	if err := root.RegisterFlagCompletionFunc("instance", a.completeInstance); err != nil {
		panic("cmd/tunctl: " + err.Error()) // the flag was defined three lines above
	}
	root.SetFlagErrorFunc(plainFlag)
	root.AddCommand(a.statusCommand(), a.topCommand(), a.monitorCommand(), a.doctorCommand(), a.fdbCommand(), a.routesCommand(), a.sourcesCommand(), a.netCommand(), a.reloadCommand(), a.confirmCommand(), a.logLevelCommand(),
		a.exchange().Import(), a.exchange().Export(), a.peerCommand(), a.checkCommand(), a.pingCommand(), a.benchCommand(), a.captureCommand(),
		a.dnsCommand(), a.genkeyCommand(), a.pubkeyCommand(), a.genpskCommand(), a.versionCommand())
	root.SetIn(a.env.stdin)
	root.SetOut(a.env.stdout)
	root.SetErr(a.env.stderr)
	strictly(root)
	plainly(root)
	return root
}

// do marks that the command line was fine, and checks what every verb needs.
func (a *app) do(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		if a.instance != "" {
			if err := rundir.CheckName(a.instance); err != nil {
				return exit.Usage("-i: %v", err)
			}
		}
		return f(cmd, args)
	}
}

// clients returns a client per instance: the one chosen with -i, or all that run.
func (a *app) clients() ([]*control.Client, error) {
	if a.instance != "" {
		return []*control.Client{control.NewClient(a.env.runDir, a.instance)}, nil
	}
	names, err := control.Instances(a.env.runDir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, exit.Errorf(exit.Unreachable, "no instance is running: no control socket below %s"+
			" (start one: systemctl start tund@NAME, or: tund -c FILE)", a.env.runDir)
	}
	clients := make([]*control.Client, len(names))
	for n, name := range names {
		clients[n] = control.NewClient(a.env.runDir, name)
	}
	return clients, nil
}

// client returns the one instance a verb is for: changing something at all of them by accident is
// worse than having to name one.
func (a *app) client() (*control.Client, error) {
	clients, err := a.clients()
	if err != nil {
		return nil, err
	}
	if len(clients) > 1 {
		names := make([]string, len(clients))
		for n, c := range clients {
			names[n] = c.Instance()
		}
		return nil, exit.Usage("several instances are running: choose one with -i (%s)", strings.Join(names, ", "))
	}
	return clients[0], nil
}

// gather asks all clients at once and returns the answers in their order, without those that
// failed.
func gather[T any](ctx context.Context, clients []*control.Client, ask func(context.Context, *control.Client) (T, error)) ([]T, []error) {
	ctx, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	answers, failures := make([]T, len(clients)), make([]error, len(clients))
	var group sync.WaitGroup
	for n, c := range clients {
		group.Go(func() { answers[n], failures[n] = ask(ctx, c) })
	}
	group.Wait()
	var good []T
	var bad []error
	for n := range clients {
		if failures[n] == nil {
			good = append(good, answers[n])
		} else {
			bad = append(bad, failures[n])
		}
	}
	return good, bad
}

// report prints the errors of some instances beside the answers of the others; the exit code is the
// first one's.
func (a *app) report(failures []error) error {
	if len(failures) == 0 {
		return nil
	}
	if len(failures) == 1 {
		return failures[0]
	}
	code := 0
	for _, err := range failures {
		f := a.explain(err)
		if code == 0 {
			code = f.Code
		}
		fmt.Fprintln(a.env.stderr, "tunctl: "+f.Text)
	}
	return &exit.Reported{Code: code}
}

// printJSON writes one document.
func (a *app) printJSON(document any) error {
	encoder := json.NewEncoder(a.env.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// newPage starts the human form of an answer.
func (a *app) newPage() (*screen.Page, error) {
	s, err := a.env.style(a.color)
	if err != nil {
		return nil, exit.Usage("%v", err)
	}
	return screen.NewPage(s, a.env.now(), a.all), nil
}

// show writes a finished page.
func (a *app) show(s *screen.Page) error {
	_, err := a.env.stdout.Write(s.Bytes())
	return err
}

// completionTimeout bounds what pressing TAB may cost.
const completionTimeout = 200 * time.Millisecond

// completeInstance offers the running instances.
func (a *app) completeInstance(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, _ := control.Instances(a.env.runDir) // completion has no place for errors
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completePeer offers the peers of the instances asked.
func (a *app) completePeer(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	clients, err := a.clients()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	answers, _ := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.Status, error) { return c.Status(ctx) })
	var names []string
	for _, answer := range answers {
		for _, instance := range answer.Instances {
			for _, p := range instance.Peers {
				names = append(names, p.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
