package main

import (
	"context"

	"github.com/spf13/cobra"

	"tund/internal/control"
)

func (a *app) peerCommand() *cobra.Command {
	list := a.do(func(cmd *cobra.Command, _ []string) error { return a.listPeers(cmd.Context()) })
	peer := &cobra.Command{
		Use:   "peer",
		Short: "Show and change peers",
		Long: `Show and change peers of running instances. Changes are in force at once, with their routes. Changes of peers of the
configuration last until the next reload, and peers that are added until a restart; with --save both are written to the
configuration, whose comments and order stay.`,
		Args: onlyVerbs, RunE: list, SuggestFor: []string{"peers", "client", "user"},
	}
	listPeers := &cobra.Command{Use: "list", Short: "Show all peers (the default)", Args: noArgs, RunE: list,
		SuggestFor: []string{"ls", "dump"}}
	for _, cmd := range []*cobra.Command{peer, listPeers} {
		cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.StatusSchema)
	}
	show := &cobra.Command{
		Use: "show PEER", Short: "Show everything about one peer, as status PEER does", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completePeer, SuggestFor: []string{"get", "info"},
		RunE: a.do(func(cmd *cobra.Command, args []string) error { return a.status(cmd.Context(), args[0]) }),
	}
	show.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.StatusSchema)
	peer.AddCommand(listPeers, show, a.peerAddCommand(), a.peerSetCommand(), a.peerRemoveCommand(), a.exchange().Invite())
	return peer
}

// listPeers shows the peers of all instances, every one of them.
func (a *app) listPeers(ctx context.Context) error {
	if a.json {
		return a.status(ctx, "")
	}
	a.all = true
	s, err := a.newPage()
	if err != nil {
		return err
	}
	document, failures, err := a.askStatus(ctx, "")
	if err != nil {
		return err
	}
	s.Peers(document.Instances)
	if err := a.show(s); err != nil {
		return err
	}
	return a.report(failures)
}
