package main

import (
	"context"

	"github.com/spf13/cobra"

	"tund/internal/control"
)

func (a *app) sourcesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sources",
		Short: "Show which peers belong to the file, to an operator and to an agent",
		Long: `Show how many peers belong to the configuration file, to an operator who added them at run time (tunctl, wg), and to
an agent, and what the agent said last. A peer of the agent is shadowed if the file or an operator has the same key.`,
		SuggestFor: []string{"source", "agent", "origin", "owners"},
		Args:       noArgs,
		RunE:       a.do(func(cmd *cobra.Command, _ []string) error { return a.showSources(cmd.Context()) }),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.SourcesSchema)
	return cmd
}

// showSources shows all instances.
func (a *app) showSources(ctx context.Context) error {
	s, err := a.newPage()
	if err != nil {
		return err
	}
	document := control.SourceTables{Schema: control.SourcesSchema, Instances: []control.SourceTable{}}
	clients, err := a.clients()
	if err != nil {
		if a.json {
			_ = a.printJSON(document)
		}
		return err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.SourceTable, error) {
		return c.Sources(ctx)
	})
	document.Instances = append(document.Instances, answers...)
	if a.json {
		err = a.printJSON(document)
	} else {
		s.Sources(document.Instances)
		err = a.show(s)
	}
	if err != nil {
		return err
	}
	return a.report(failures)
}
