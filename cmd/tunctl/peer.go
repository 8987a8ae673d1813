package main

import "github.com/spf13/cobra"

func (a *app) peerCommand() *cobra.Command {
	peer := &cobra.Command{Use: "peer", Short: "Show and change peers", Args: cobra.NoArgs}
	peer.AddCommand(a.inviteCommand())
	return peer
}
