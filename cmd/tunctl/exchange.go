package main

import (
	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exchange"
	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/sites"
	"tund/internal/screen"
)

// netCommand has the verbs of a registry's signer.
func (a *app) netCommand() *cobra.Command {
	v := sites.Verbs{Out: a.env.stdout, Now: a.env.now, Do: a.do, OnlyVerbs: onlyVerbs}
	return v.Net()
}

// exchange makes the verbs that translate from and to files of wg-quick.
func (a *app) exchange() *exchange.Verbs {
	return &exchange.Verbs{
		Streams: a.streams(), Width: a.env.width, Do: a.do, CompletePeer: a.completePeer,
		Style: func() (screen.Style, error) {
			s, err := a.env.style(a.color)
			if err != nil {
				return s, exit.Usage("%v", err)
			}
			return s, nil
		},
		ConfigFlag: a.configFlag, ConfigPath: a.configPath, Replace: a.finder().Replace,
	}
}
