package main

import (
	"context"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/secretfile"
)

// configFlag adds the flag by which verbs on a file find it.
func (a *app) configFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.config, "config", "c", "", "configuration file (default: that of the instance)")
}

// configPath returns the configuration that a verb is about.
func (a *app) configPath(ctx context.Context) (string, error) {
	return a.finder().Path(ctx, a.config, a.instance)
}

func (a *app) finder() configfile.Finder {
	return configfile.Finder{RunDir: a.env.runDir, ConfigDir: a.env.configDir}
}

// streams are the standard streams, for verbs that read or make secrets.
func (a *app) streams() *secretfile.Streams {
	return &secretfile.Streams{In: a.env.stdin, Out: a.env.stdout, Err: a.env.stderr, Exposed: a.env.exposed}
}
