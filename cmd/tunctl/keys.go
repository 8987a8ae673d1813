package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/crypto/keys"
)

func (a *app) genkeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "genkey",
		Short:   "Print a new private key",
		Long:    "Print a new private key, in the form of wg genkey.",
		Example: "  (umask 077; tunctl genkey > /etc/tund/office.key)",
		Args:    noArgs,
		RunE: a.do(func(*cobra.Command, []string) error {
			key, err := keys.GeneratePrivate()
			if err != nil {
				return err
			}
			defer key.Zero()
			return a.printSecret(key.Base64())
		}),
	}
}

func (a *app) genpskCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "genpsk",
		Short: "Print a new preshared key",
		Long:  "Print a new preshared key, in the form of wg genpsk. Both peers of a pair need the same one.",
		Args:  noArgs,
		RunE: a.do(func(*cobra.Command, []string) error {
			key, err := keys.GeneratePreshared()
			if err != nil {
				return err
			}
			defer key.Zero()
			return a.printSecret(key.Base64())
		}),
	}
}

// printSecret prints a key, and warns when it went to a file that others can read.
func (a *app) printSecret(text string) error {
	a.streams().Warn()
	_, err := fmt.Fprintln(a.env.stdout, text)
	return err
}

func (a *app) pubkeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "pubkey",
		Short:   "Read a private key from standard input and print its public key",
		Example: "  tunctl pubkey < /etc/tund/office.key",
		Args:    noArgs,
		RunE: a.do(func(*cobra.Command, []string) error {
			text, err := io.ReadAll(io.LimitReader(a.env.stdin, secretfile.MaxKey+1))
			if err != nil {
				return fmt.Errorf("read private key from standard input: %w", err)
			}
			key, err := keys.ParsePrivate(strings.TrimSpace(string(text)))
			if err != nil {
				return exit.Errorf(exit.Failed, "standard input is not a private key: %v (make one: tunctl genkey)", err)
			}
			defer key.Zero()
			_, err = fmt.Fprintln(a.env.stdout, key.Public())
			return err
		}),
	}
}
