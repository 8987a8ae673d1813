package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/config"
	"tund/internal/screen"
)

// checkSchema is the name of the document of check --json.
const checkSchema = "tund.check/v1"

// checkDocument is what check --json prints.
type checkDocument struct {
	Schema   string    `json:"schema"` // checkSchema
	File     string    `json:"file"`
	OK       bool      `json:"ok"` // no errors; warnings do not count
	Peers    int       `json:"peers"`
	Errors   []finding `json:"errors"`
	Warnings []finding `json:"warnings"`
}

// finding is one thing that is to be said about a file.
type finding struct {
	Line    int    `json:"line"` // from 1; 0: the file as a whole
	Column  int    `json:"column"`
	Message string `json:"message"`
}

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration and report every error",
		Long: `Report every error in a configuration, with line and column, and warn of what is allowed but probably not intended.
Nothing is changed, and no instance is needed. Without FILE, check the configuration of the instance.`,
		Example:    "  sudo tunctl check /etc/tund/office.toml",
		SuggestFor: []string{"validate", "test", "verify", "lint"},
		Args:       cobra.MaximumNArgs(1),
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.check(args[0])
			}
			path, err := a.configPath(cmd.Context())
			if err != nil {
				return err
			}
			return a.check(path)
		}),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+checkSchema)
	return cmd
}

// check reports on one file: findings go to standard error, as those of a compiler, the verdict to
// standard output.
func (a *app) check(path string) error {
	c, err := config.LoadByHand(path)
	var faults config.Errors
	if err != nil && !errors.As(err, &faults) {
		return a.cannotCheck(path, a.explain(configfile.Failure(err)))
	}
	document := checkDocument{Schema: checkSchema, File: path, OK: c != nil, Errors: []finding{}, Warnings: []finding{}}
	for _, f := range faults {
		document.Errors = append(document.Errors, finding{f.Line, f.Col, f.Msg})
		a.printFinding(f.Error())
	}
	if c != nil {
		document.Peers = len(c.Peers)
		for _, w := range c.Warnings {
			document.Warnings = append(document.Warnings, finding{w.Line, w.Col, w.Msg})
			a.printFinding(w.String())
		}
	}
	if a.json {
		err = a.printJSON(document)
	} else if c != nil {
		_, err = fmt.Fprintf(a.env.stdout, "%s: ok, %s\n", path, screen.Plural(len(c.Peers), "peer"))
	} else {
		_, err = fmt.Fprintf(a.env.stdout, "%s: %s\n", path, screen.Plural(len(faults), "error"))
	}
	if err != nil || c != nil {
		return err
	}
	return &exit.Reported{Code: exit.Config}
}

// cannotCheck says why a file cannot be read: in the document as well, which a program waits for.
func (a *app) cannotCheck(path string, why *exit.Failure) error {
	if !a.json {
		return why
	}
	document := checkDocument{Schema: checkSchema, File: path, Errors: []finding{{Message: why.Text}}, Warnings: []finding{}}
	return errors.Join(a.printJSON(document), &exit.Reported{Code: why.Code})
}

// printFinding writes a line to standard error, unless a program reads the document.
func (a *app) printFinding(text string) {
	if !a.json {
		fmt.Fprintln(a.env.stderr, screen.Style{UTF8: true}.Clean(text))
	}
}
