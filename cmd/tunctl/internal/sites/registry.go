package sites

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

func (v *Verbs) revokeCommand() *cobra.Command {
	var signer, store, network, output string
	var days int
	cmd := &cobra.Command{
		Use:   "revoke SITE...",
		Short: "Revoke the grants of sites",
		Long: `Add sites, by name or public key, to the list of revocations in the registry. Agents that see the list drop these
sites at once. With no SITE, the list is signed again with a new date. By its key a site can be revoked although the registry
has no grant of it.`,
		Example: "  tunctl net revoke oslo --signer acme.signer --store /srv/registry --network acme",
	}
	cmd.Flags().StringVar(&signer, "signer", "", "file of the signing key")
	cmd.Flags().StringVar(&store, "store", "", "directory of the registry")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the list, in place of the registry, for others to sign it first")
	cmd.Flags().StringVar(&network, "network", "", "name of the network")
	cmd.Flags().IntVar(&days, "days", 30, "days until agents expect a newer list")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		if store == "" || record.CheckNetwork(network) != nil {
			return exit.Usage("give --store DIR and --network NAME")
		}
		if days < 1 || days > maxDays {
			return exit.Usage("--days %d: want 1 to %d", days, maxDays)
		}
		key, err := readSigner(signer)
		if err != nil {
			return err
		}
		return v.revoke(dirstore.New(store, network), network, output, key, args, days)
	})
	return cmd
}

// revoke replaces the list of revocations of a registry by one that has more sites, or writes that
// into a file.
func (v *Verbs) revoke(store *dirstore.Store, network, output string, key ed25519.PrivateKey, sites []string, days int) error {
	now := v.Now()
	known, err := readSigned(store, record.Trust{Network: network, Signers: []record.Key{publicOf(key)}, Threshold: 1})
	if err != nil {
		return err
	}
	// Counted by the clock: in a registry that was restored from a backup the last numbers are
	// lower than those that agents have seen. They would refuse the list, or keep a later grant.
	count := uint64(max(now.Unix(), 1))
	list := known.list
	for _, name := range sites {
		site, serial, err := known.find(name, now)
		if err != nil {
			return err
		}
		list.Revoked[site] = max(list.Revoked[site], serial, count)
	}
	list.Network, list.Sequence = network, max(list.Sequence+1, count)
	list.NextUpdate = now.AddDate(0, 0, days).UTC().Truncate(time.Second)
	data, err := record.SignRevocations(list, key)
	if err != nil {
		return err
	}
	if output != "" {
		err = secretfile.Replace(output, data, 0o644)
	} else {
		output, err = store.Path("crl"), store.Put("crl", data)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(v.Out, "%s: %s\n", output, listText(&list))
	return err
}

// trustFlags say whom to believe.
type trustFlags struct {
	network   string
	signers   []string
	threshold int
}

func (f *trustFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.network, "network", "", "name of the network")
	cmd.Flags().StringSliceVar(&f.signers, "trust", nil, "public keys of signers, as in the agent's file")
	cmd.Flags().IntVar(&f.threshold, "threshold", 1, "number of signers that have to agree")
}

func (f *trustFlags) trust() (record.Trust, error) {
	t := record.Trust{Network: f.network, Threshold: f.threshold}
	if record.CheckNetwork(f.network) != nil || len(f.signers) == 0 {
		return t, exit.Usage("give --network NAME and --trust KEY")
	}
	for _, text := range f.signers {
		k, err := record.ParseKey(text)
		if err != nil {
			return t, exit.Usage("--trust %q %v", text, err)
		}
		t.Signers = append(t.Signers, k)
	}
	return t, nil
}

func (v *Verbs) importCommand() *cobra.Command {
	var f trustFlags
	var store string
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Put documents into a registry, once they are verified",
		Long: `Put documents into a registry, once they are verified. One that is older than what the registry has is refused, and a
grant of what another site has.`,
		Example: "  tunctl net import oslo.grant --network acme --trust KEY --store /srv/registry",
		Args:    cobra.MinimumNArgs(1),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&store, "store", "", "directory of the registry")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		trust, err := f.trust()
		if err != nil {
			return err
		}
		if store == "" {
			return exit.Usage("give --store DIR")
		}
		s := dirstore.New(store, f.network)
		return eachDocument(args, func(path string, data []byte) error {
			key, text, err := describe(trust, s, data, v.Now())
			if err == nil {
				err = admits(trust, s, key, data, v.Now())
			}
			if err == nil {
				err = s.Put(key, data)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(v.Out, "%s: %s\n", path, text)
			return err
		})
	})
	return cmd
}

func (v *Verbs) verifyCommand() *cobra.Command {
	var f trustFlags
	var store string
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Verify documents and say what is in them",
		Long: `Verify documents and say what is in them. A record is verified against the grant of its site, which has to be in the
registry. The exit code is 1 if a document is not valid.`,
		Example: "  tunctl net verify oslo.grant --network acme --trust KEY",
		Args:    cobra.MinimumNArgs(1),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&store, "store", "", "directory of the registry, for the grants of records")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		trust, err := f.trust()
		if err != nil {
			return err
		}
		s := dirstore.New(store, f.network)
		return eachDocument(args, func(path string, data []byte) error {
			_, text, err := describe(trust, s, data, v.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(v.Out, "%s: %s\n", path, text)
			return err
		})
	})
	return cmd
}

// eachDocument calls f for each file, and goes on after errors, which it reports.
func eachDocument(paths []string, f func(path string, data []byte) error) error {
	var failed []string
	code := exit.Permission // if that is all that is lacking
	for _, path := range paths {
		data, err := secretfile.Read(path, record.MaxRevocations+1)
		if err == nil {
			err = f(path, data)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrPermission) {
			code = exit.Failed
		}
		failed = append(failed, path+": "+err.Error())
	}
	if failed != nil {
		return exit.Errorf(code, "%s", strings.Join(failed, "\n"))
	}
	return nil
}
