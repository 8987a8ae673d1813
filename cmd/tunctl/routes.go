package main

import (
	"context"
	"fmt"
	"slices"

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
		Args:       cobra.NoArgs,
		RunE:       a.do(func(cmd *cobra.Command, _ []string) error { return a.showRoutes(cmd.Context()) }),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.RoutesSchema)
	return cmd
}

// showRoutes shows all instances.
func (a *app) showRoutes(ctx context.Context) error {
	s, err := a.newScreen()
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
			s.routes(&document.Instances[n])
		}
		err = a.show(s)
	}
	if err != nil {
		return err
	}
	return a.report(failures)
}

// routes writes the verdict on one instance, what is wrong, and the rest.
func (s *screen) routes(i *control.RouteInstance) {
	if s.Len() > 0 {
		s.WriteByte('\n')
	}
	wrong := 0
	for _, o := range i.Objects {
		if o.State != "present" {
			wrong++
		}
	}
	verdict := s.paint(green, s.glyph("✓", "ok")+" all there")
	if wrong > 0 {
		verdict = s.paint(red, s.glyph("✗", "x")+" "+plural(wrong, "difference"))
	}
	fmt.Fprintf(s, "%s  %s - %s\n", s.paint(bold, s.clean(i.Name)), verdict, plural(len(i.Objects), "object"))
	for _, w := range i.Warnings {
		s.WriteString("  ")
		s.line(2, 4, s.paint(yellow, "!")+" "+s.clean(w))
	}
	if len(i.Objects) == 0 {
		return
	}
	t := table{columns: []column{{title: "STATE"}, {title: "KIND"}, {title: "OBJECT", min: 20}}}
	list := slices.Clone(i.Objects)
	slices.SortStableFunc(list, func(x, y control.RouteObject) int { return calm(x) - calm(y) })
	for _, o := range list {
		colour := plain
		if calm(o) == 0 {
			colour = red
		}
		t.add(cell{text: s.clean(o.State), paint: colour}, cell{text: s.clean(o.Kind)}, cell{text: s.clean(o.Object)})
	}
	t.write(&s.Buffer, s.style, 2)
}

// calm is 0 for what needs an eye, and 1 for the rest.
func calm(o control.RouteObject) int {
	if o.State == "present" {
		return 1
	}
	return 0
}
