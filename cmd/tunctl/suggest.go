package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// onlyVerbs refuses arguments of a command that has verbs below it, and says which one was probably
// meant.
func onlyVerbs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if meant := suggestions(cmd, args[0]); meant != "" {
		return fmt.Errorf("unknown command %q for %q: did you mean %s?", args[0], cmd.CommandPath(), meant)
	}
	return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
}

// noArgs refuses arguments of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q: %s takes none", args[0], cmd.CommandPath())
}

// suggestions returns the verbs below cmd that are like what was typed: "status" or "peer".
func suggestions(cmd *cobra.Command, typed string) string {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2 // letters
	}
	var quoted []string
	names := cmd.SuggestionsFor(typed) // one that is like it in two ways comes twice
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, " or ")
}

// suggestFlag adds to the error of an unknown flag the one that was probably meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	typed, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return err
	}
	flags := &cobra.Command{} // cobra compares names of commands
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: "--" + f.Name, Run: func(*cobra.Command, []string) {}})
	})
	if meant := suggestions(flags, "--"+typed); meant != "" {
		return fmt.Errorf("%w: did you mean %s?", err, meant)
	}
	return err
}
