package main

import (
	"context"

	"github.com/spf13/cobra"

	"tund/internal/control"
)

func (a *app) routesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "routes",
		Short: "Compare the routes that instances want with those that the kernel has",
		Long: `Compare what instances want in the kernel's network configuration (routes, rules, addresses, links, bridge, firewall
table) with what is there now. What is missing, refused or too much comes first.`,
		SuggestFor: []string{"route", "network", "netlink", "addresses"},
		Args:       noArgs,
		RunE:       a.do(func(cmd *cobra.Command, _ []string) error { return a.showRoutes(cmd.Context()) }),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.RoutesSchema)
	return cmd
}

// showRoutes shows all instances.
func (a *app) showRoutes(ctx context.Context) error {
	s, err := a.newPage()
	if err != nil {
		return err
	}
	document := control.RouteTable{Schema: control.RoutesSchema, Instances: []control.RouteInstance{}}
	clients, err := a.clients()
	if err != nil {
		if a.json {
			_ = a.printJSON(document)
		}
		return err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.RouteTable, error) {
		return c.Routes(ctx)
	})
	for _, answer := range answers {
		document.Instances = append(document.Instances, answer.Instances...)
	}
	if a.json {
		err = a.printJSON(document)
	} else {
		for n := range document.Instances {
			s.Routes(&document.Instances[n])
		}
		err = a.show(s)
	}
	if err != nil {
		return err
	}
	return a.report(failures)
}
