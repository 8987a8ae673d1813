package sites

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

func (v *Verbs) revokeCommand() *cobra.Command {
	var signer, store, network string
	var days int
	cmd := &cobra.Command{
		Use:   "revoke SITE...",
		Short: "Revoke the grants of sites",
		Long: `Add sites, by name or public key, to the list of revocations in the registry. Agents that see the list drop these
sites at once. With no SITE, the list is signed again with a new date.`,
		Example: "  tunctl net revoke oslo --signer acme.signer --store /srv/registry --network acme",
	}
	cmd.Flags().StringVar(&signer, "signer", "", "file of the signing key")
	cmd.Flags().StringVar(&store, "store", "", "directory of the registry")
	cmd.Flags().StringVar(&network, "network", "", "name of the network")
	cmd.Flags().IntVar(&days, "days", 30, "days until agents expect a newer list")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		key, err := readSigner(signer)
		if err != nil {
			return err
		}
		if store == "" || record.CheckNetwork(network) != nil {
			return exit.Usage("give --store DIR and --network NAME")
		}
		return v.revoke(dirstore.New(store, network), network, key, args, v.Now().AddDate(0, 0, days))
	})
	return cmd
}

// revoke replaces the list of revocations of a registry by one that has more sites.
func (v *Verbs) revoke(store *dirstore.Store, network string, key ed25519.PrivateKey, sites []string, next time.Time) error {
	trust := record.Trust{Network: network, Signers: []record.Key{record.Key(key.Public().(ed25519.PublicKey))}, Threshold: 1}
	list := record.Revocations{Network: network, Revoked: map[record.Site]uint64{}}
	data, err := store.Get("crl")
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if list, err = trust.Revocations(data); err != nil {
			return exit.Errorf(exit.Failed, "the registry's list of revocations: %v", err)
		}
		if list.Revoked == nil {
			list.Revoked = map[record.Site]uint64{}
		}
	}
	grants, err := grantsIn(store, trust)
	if err != nil {
		return err
	}
	for _, name := range sites {
		i := slices.IndexFunc(grants, func(g record.Grant) bool { return g.Name == name || g.Site.String() == name })
		if i < 0 {
			return exit.Errorf(exit.Failed, "the registry has no grant of a site %q", name)
		}
		list.Revoked[grants[i].Site] = max(list.Revoked[grants[i].Site], grants[i].Serial)
	}
	// Counted by the clock: in a registry that was restored from a backup the last number is lower
	// than the one that agents have seen, and they would refuse the list.
	list.Sequence = max(list.Sequence+1, uint64(max(v.Now().Unix(), 0)))
	list.NextUpdate = next.UTC().Truncate(time.Second)
	if data, err = record.SignRevocations(list, key); err != nil {
		return err
	}
	return store.Put("crl", data)
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
		Use:     "import FILE...",
		Short:   "Put documents into a registry, once they are verified",
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
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil {
			err = f(path, data)
		}
		if err != nil {
			failed = append(failed, path+": "+err.Error())
		}
	}
	if failed != nil {
		return exit.Errorf(exit.Failed, "%s", strings.Join(failed, "\n"))
	}
	return nil
}

// describe verifies a document and returns its key in the registry and what it says.
func describe(trust record.Trust, store *dirstore.Store, data []byte, now time.Time) (key, text string, err error) {
	kind, err := record.KindOf(data)
	if err != nil {
		return "", "", err
	}
	switch kind {
	case record.KindGrant:
		g, err := trust.Grant(data, now)
		return "grant/" + g.Site.ID(), fmt.Sprintf("grant %d of %s (%s): prefixes %v, VLANs %v, until %s", g.Serial, g.Name, g.Site,
			g.Prefixes, g.VLANs, g.NotAfter.Format(time.RFC3339)), err
	case record.KindRevocations:
		r, err := trust.Revocations(data)
		return "crl", fmt.Sprintf("revocations %d: %d sites, next before %s", r.Sequence, len(r.Revoked), r.NextUpdate.Format(time.RFC3339)), err
	}
	r, err := record.Kept(data) // says which grant to ask for
	if err != nil {
		return "", "", err
	}
	signed, err := store.Get("grant/" + r.Site.ID())
	if err != nil {
		return "", "", fmt.Errorf("the grant of its site: %w", err)
	}
	g, err := trust.Grant(signed, now)
	if err == nil {
		r, err = g.Record(data, now)
	}
	return "site/" + r.Site.ID() + "/rec", fmt.Sprintf("record %d of epoch %d of %s: prefixes %v, endpoints %v, until %s", r.Serial, r.Epoch,
		g.Name, r.Prefixes, r.Endpoints, r.NotAfter.Format(time.RFC3339)), err
}
