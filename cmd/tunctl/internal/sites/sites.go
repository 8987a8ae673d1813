// Package sites has the verbs of `tunctl net`: they make and verify the signed documents by which
// the sites of a network know each other.
//
// What a document may say, and which one counts, is for internal/registry/record, and where it is
// kept for internal/registry/dirstore. Signing keys are read for one command and kept nowhere else.
// No instance is asked, and none needs to run.
//
// One verb runs at a time.
package sites

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/internal/registry/record"
)

// Verbs makes the verbs out of what they have from the rest of tunctl.
type Verbs struct {
	Out io.Writer        // standard output
	Now func() time.Time // the wall clock, for the validity of documents
	// Do wraps what a verb does with what every verb needs.
	Do func(func(*cobra.Command, []string) error) func(*cobra.Command, []string) error
	// OnlyVerbs refuses words that are no verb, as the arguments of a verb that only has others.
	OnlyVerbs cobra.PositionalArgs
}

// Net returns `tunctl net`.
func (v *Verbs) Net() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "net",
		Short: "Grant and revoke sites of a network, and verify its documents",
		Long: `Make and verify the signed documents by which the sites of a network know each other (tund-agent). The signing key
stays with whoever runs these commands, best on a computer that is not connected.`,
		Args:       v.OnlyVerbs,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestFor: []string{"network", "registry", "sites"},
	}
	cmd.AddCommand(v.initCommand(), v.grantCommand(), v.signCommand(), v.revokeCommand(), v.importCommand(), v.verifyCommand())
	return cmd
}

func (v *Verbs) initCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "init NETWORK",
		Short:   "Make a key that signs for a network",
		Long:    "Make a key that signs for a network, in NETWORK.signer, and print the lines that the file of each agent needs.",
		Example: "  tunctl net init acme",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVarP(&dir, "dir", "d", ".", "where to put NETWORK.signer")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		if err := record.CheckNetwork(args[0]); err != nil {
			return exit.Usage("%v", err)
		}
		path := filepath.Join(dir, args[0]+".signer")
		if _, err := os.Lstat(path); err == nil {
			return alreadyThere(path)
		}
		seed := make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // it never fails
		if err := secretfile.Write(path, []byte(base64.StdEncoding.EncodeToString(seed)+"\n"), false); err != nil {
			return err
		}
		_, err := fmt.Fprintf(v.Out, "network = %q\ntrust = [%q]\n", args[0], publicOf(ed25519.NewKeyFromSeed(seed)))
		return err
	})
	return cmd
}

// alreadyThere is the error for a signing key that would be replaced. It says what the agents need
// of it, for whoever has not written that down.
func alreadyThere(path string) error {
	trust := ""
	if key, err := readSigner(path); err == nil {
		trust = fmt.Sprintf(" (trust = [%q])", publicOf(key))
	}
	return exit.Errorf(exit.Failed, "%s exists already%s: it may be the only key that can revoke its grants", path, trust)
}

func publicOf(key ed25519.PrivateKey) record.Key { return record.Key(key.Public().(ed25519.PublicKey)) }

// readSigner reads the file of a signing key.
func readSigner(path string) (ed25519.PrivateKey, error) {
	if path == "" {
		return nil, exit.Usage("--signer FILE is missing: the key that tunctl net init has made")
	}
	text, err := secretfile.Read(path, secretfile.MaxKey)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, exit.Errorf(exit.Failed, "%s is not a signing key (make one: tunctl net init)", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (v *Verbs) signCommand() *cobra.Command {
	var signer string
	cmd := &cobra.Command{
		Use:   "sign FILE...",
		Short: "Add a signature to grants and lists of revocations, where several signers are needed",
		Long: `Add a signature to grants and lists of revocations, for networks that need several signers, and say what is in them.
Look at them before (tunctl net verify): who has signed first may not be who you think.`,
		Example: "  tunctl net sign oslo.grant --signer second.signer",
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVar(&signer, "signer", "", "file of the signing key")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		key, err := readSigner(signer)
		if err != nil {
			return err
		}
		return eachDocument(args, func(path string, data []byte) error {
			if kind, err := record.KindOf(data); err == nil && kind != record.KindGrant && kind != record.KindRevocations {
				return fmt.Errorf("is a document of the kind %q, which the site itself signs", kind)
			}
			data, err := record.AddSignature(data, key)
			if err != nil {
				return err
			}
			network, _, err := record.About(data)
			if err != nil {
				return err
			}
			text, err := describeSigned(record.Trust{Network: network, Signers: []record.Key{publicOf(key)}, Threshold: 1}, data)
			if err != nil {
				return err
			}
			if err := secretfile.Replace(path, data, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(v.Out, "%s: %s\n", path, text)
			return err
		})
	})
	return cmd
}
