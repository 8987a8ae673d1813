package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/choose"
	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/doctor"
)

// Exit codes of doctor, beyond those that every verb has.
const (
	exitWarnings = 4
	exitProblems = 5
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [PEER]",
		Short: "Explain what is wrong: cause, evidence and remedy",
		Long: `Run every check of instances, of this host and of the paths to peers that are up, and explain what is wrong: the cause, what
was seen, and what to do about it. With PEER, look at that peer only. Root sees more; what could not be examined is listed.
The exit code is 0 if all is well, 4 for warnings, 5 for problems.`,
		Example: `  sudo tunctl doctor
  sudo tunctl doctor berlin
  tunctl doctor --json | jq '.instances[].findings[] | select(.severity == "problem")'`,
		SuggestFor:        []string{"diagnose", "why", "health", "troubleshoot", "debug"},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			return a.doctor(cmd.Context(), strings.Join(args, ""))
		}),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+doctor.Schema)
	cmd.Flags().BoolVarP(&a.all, "all", "a", false, "also show the checks that found nothing")
	return cmd
}

// doctor examines all instances, or those with the peer.
func (a *app) doctor(ctx context.Context, peer string) error {
	page, err := a.newPage()
	if err != nil {
		return err
	}
	document := doctor.Document{Schema: doctor.Schema, Instances: []doctor.Report{}}
	clients, err := a.clients()
	if err != nil {
		if a.json { // a program that asks for a document gets one
			_ = a.printJSON(document)
		}
		return err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.Status, error) { return c.Status(ctx) })
	var instances []control.Instance
	for _, answer := range answers {
		instances = append(instances, answer.Instances...)
	}
	names := make([]string, len(instances)) // the peer of interest in each
	if peer != "" && len(instances) > 0 {
		found, err := choose.Peer(instances, peer)
		if err != nil {
			return err
		}
		// The whole instance is examined, and what is about other peers is left out.
		instances = slices.DeleteFunc(instances, func(i control.Instance) bool {
			return !slices.ContainsFunc(found, func(f control.Instance) bool { return f.Name == i.Name })
		})
		for n := range found {
			names[n] = found[n].Peers[0].Name
		}
	}
	worst := doctor.OK
	for n := range instances {
		r := doctor.Examine(a.evidence(ctx, &instances[n], names[n]))
		document.Instances = append(document.Instances, r)
		if r.Worst.Worse(worst) {
			worst = r.Worst
		}
	}
	if a.json {
		err = a.printJSON(document)
	} else {
		page.Doctor(document.Instances)
		err = a.show(page)
	}
	if err != nil {
		return err
	}
	if err := a.report(failures); err != nil {
		return err
	}
	switch worst {
	case doctor.Problem:
		return &exit.Reported{Code: exitProblems}
	case doctor.Warning:
		return &exit.Reported{Code: exitWarnings}
	}
	return nil
}

// evidence collects what there is to know about an instance.
func (a *app) evidence(ctx context.Context, i *control.Instance, peer string) *doctor.Evidence {
	return doctor.Collect(ctx, control.NewClient(a.env.runDir, i.Name), i, peer, a.env.now(), version)
}
