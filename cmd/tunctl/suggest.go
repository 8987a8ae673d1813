package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tund/internal/screen"
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

// plainFlag says what is wrong with a flag: which one was probably meant, if there is none of that
// name, and what kind of value it takes.
func plainFlag(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		if wanted := kindOfValue(bad.GetFlag().Value.Type()); wanted != "" {
			return fmt.Errorf("--%s: %q is not %s", bad.GetFlag().Name, bad.GetValue(), wanted)
		}
	}
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

// kindOfValue says what a flag of a type takes, "" where nothing better than pflag's words is
// known.
func kindOfValue(flagType string) string {
	switch {
	case flagType == "bool":
		return "true or false"
	case flagType == "duration":
		return "a time with its unit, such as 500ms, 30s or 5m"
	case strings.HasPrefix(flagType, "int"), strings.HasPrefix(flagType, "uint"):
		return "a whole number that fits"
	}
	return ""
}

// plainly says of each verb below cmd, in place of cobra's words for a wrong number of arguments,
// which ones it takes.
func plainly(cmd *cobra.Command) {
	for _, child := range cmd.Commands() {
		plainly(child)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err != nil && (strings.HasPrefix(err.Error(), "accepts ") || strings.HasPrefix(err.Error(), "requires ")) {
			_, takes, _ := strings.Cut(cmd.Use, " ")
			given := screen.Plural(len(args), "argument")
			if len(args) == 0 {
				given = "none"
			}
			return fmt.Errorf("%s takes %s, and was given %s", strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), takes, given)
		}
		return err
	}
}

// strictly makes the verbs that cobra adds refuse what they do not know, instead of printing help
// with exit code 0. They write where root writes when this is called.
func strictly(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args = onlyVerbs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if about, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return onlyVerbs(cmp.Or(about, root), args[max(len(args)-max(len(rest), 1), 0):])
				}
				return nil
			}
		}
	}
}
