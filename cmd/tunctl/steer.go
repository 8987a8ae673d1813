package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/internal/buildinfo"
	"tund/internal/control"
)

func (a *app) reloadCommand() *cobra.Command {
	var confirm time.Duration
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Read the configuration again and apply what changed",
		Long: `Read the configuration again and apply what changed. Sessions of unchanged peers continue. If the file has
errors, all of them are printed, the old configuration stays in force, and the exit code is 78.

With --confirm 30s the old configuration comes back after that time unless "tunctl confirm" keeps the new one, and
at once if the kernel refuses a part of it: for a change that may cut off the host on which it is made.`,
		Args: noArgs,
	}
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after this `TIME` unless \"tunctl confirm\" is called")
	cmd.RunE = a.do(func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("confirm") {
			if err := control.CheckConfirm(confirm); err != nil {
				return exit.Usage("--confirm: %v", err)
			}
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), control.ReloadTimeout)
		defer cancel()
		if err := c.Reload(ctx, confirm); err != nil {
			return configfile.RefusedReload(c.Instance(), err)
		}
		what := "reloaded"
		if confirm > 0 {
			what += fmt.Sprintf("; the former configuration comes back in %v unless you run: tunctl -i %s confirm", confirm, c.Instance())
		}
		_, err = fmt.Fprintf(a.env.stdout, "%s: %s\n", c.Instance(), what)
		return err
	})
	return cmd
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep the configuration that \"reload --confirm\" has put in force",
		Long:  `Keep the configuration that "tunctl reload --confirm" has put in force, which otherwise ends after its time.`,
		Args:  noArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), control.AnswerTimeout)
			defer cancel()
			if err := c.Confirm(ctx); err != nil {
				return fmt.Errorf("%s: confirm: %w", c.Instance(), err)
			}
			_, err = fmt.Fprintf(a.env.stdout, "%s: confirmed\n", c.Instance())
			return err
		}),
	}
}

func (a *app) logLevelCommand() *cobra.Command {
	levels := []string{"debug", "info", "warn", "error"}
	return &cobra.Command{
		Use:       "log-level [LEVEL]",
		Short:     "Show or change the log level: debug, info, warn or error",
		Long:      "Show the log level, or change it until the instance ends: debug, info, warn or error.",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: levels,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.showLogLevel(cmd.Context())
			}
			if !control.ValidLogLevel(args[0]) {
				return exit.Usage("log level %q is not one of %s", args[0], strings.Join(levels, ", "))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), control.AnswerTimeout)
			defer cancel()
			if err := c.SetLogLevel(ctx, args[0]); err != nil {
				return fmt.Errorf("%s: log-level: %w", c.Instance(), err)
			}
			_, err = fmt.Fprintf(a.env.stdout, "%s: %s\n", c.Instance(), args[0])
			return err
		}),
	}
}

// showLogLevel prints the level of each instance.
func (a *app) showLogLevel(ctx context.Context) error {
	clients, err := a.clients()
	if err != nil {
		return err
	}
	lines, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (string, error) {
		level, err := c.LogLevel(ctx)
		return c.Instance() + ": " + level, err
	})
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.env.stdout, line); err != nil {
			return err
		}
	}
	return a.report(failures)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of tunctl, and of the instances that run",
		Args:  noArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintf(a.env.stdout, "tunctl %s %s\n", buildinfo.Version(version), runtime.Version()); err != nil {
				return err
			}
			clients, err := a.clients()
			if err != nil {
				if a.instance != "" {
					return err
				}
				return nil // nobody to ask, which is no failure here
			}
			lines, failures := gather(cmd.Context(), clients, func(ctx context.Context, c *control.Client) (string, error) {
				v, err := c.Version(ctx)
				return fmt.Sprintf("%s: tund %s %s", c.Instance(), v.Version, v.Go), err
			})
			for _, line := range lines {
				if _, err := fmt.Fprintln(a.env.stdout, line); err != nil {
					return err
				}
			}
			if a.instance != "" {
				return a.report(failures)
			}
			return nil
		}),
	}
}
