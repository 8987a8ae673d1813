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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/registry/dirstore"
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
		seed := make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // it never fails
		key := ed25519.NewKeyFromSeed(seed)
		path := filepath.Join(dir, args[0]+".signer")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return exit.Errorf(exit.Failed, "%s exists already: it may be the only key that can revoke its grants", path)
		}
		if err != nil {
			return err
		}
		_, err = f.WriteString(base64.StdEncoding.EncodeToString(seed) + "\n")
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(v.Out, "network = %q\ntrust = [%q]\n", args[0], record.Key(key.Public().(ed25519.PublicKey)))
		return err
	})
	return cmd
}

// readSigner reads the file of a signing key.
func readSigner(path string) (ed25519.PrivateKey, error) {
	if path == "" {
		return nil, exit.Usage("--signer FILE is missing: the key that tunctl net init has made")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, exit.Errorf(exit.Failed, "%s is not a signing key (make one: tunctl net init)", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// Request is what a site asks to be granted: the output of tund-agent --request.
type Request struct {
	Network string      `json:"network"`
	Site    record.Site `json:"site"`
	Agent   record.Key  `json:"agent"`
	Name    string      `json:"name"`
}

// grantFlags are those of net grant.
type grantFlags struct {
	signer, store, output  string
	prefixes, vlans, trust []string
	macs                   []string
	maxMACs, priority      int
	days                   int
	anycast                bool
}

func (v *Verbs) grantCommand() *cobra.Command {
	var f grantFlags
	cmd := &cobra.Command{
		Use:   "grant REQUEST",
		Short: "Sign what a site may claim",
		Long: `Sign a grant for the site that made REQUEST (tund-agent --request), with the most that it may claim. With --store, its
serial follows that of the site's grant there, and a prefix that overlaps with another site's is refused.`,
		Example: "  tunctl net grant oslo.request --signer acme.signer --prefix 10.30.0.0/16 --store /srv/registry",
		Args:    cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.signer, "signer", "", "file of the signing key")
	flags.StringVar(&f.store, "store", "", "directory of the registry, into which the grant goes")
	flags.StringVarP(&f.output, "output", "o", "", "file for the grant")
	flags.StringSliceVar(&f.prefixes, "prefix", nil, "networks behind the site, as a list")
	flags.StringSliceVar(&f.vlans, "vlan", nil, "VLANs of the site, as a list; 0: untagged frames")
	flags.StringSliceVar(&f.trust, "trust", nil, "what the site may send beside ordinary frames: dhcp, ra")
	flags.StringSliceVar(&f.macs, "mac", nil, "the only MAC addresses behind the site")
	flags.IntVar(&f.maxMACs, "max-macs", 0, "number of MAC addresses behind the site; 0: no limit")
	flags.IntVar(&f.priority, "priority", 0, "the higher wins where two sites have a prefix")
	flags.IntVar(&f.days, "days", 365, "days until the grant ends")
	flags.BoolVar(&f.anycast, "anycast", false, "other sites may have the same prefixes, if they are anycast, too")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error { return v.grant(args[0], &f) })
	return cmd
}

func (v *Verbs) grant(path string, f *grantFlags) error {
	if (f.store == "") == (f.output == "") {
		return exit.Usage("give --store DIR or --output FILE")
	}
	key, err := readSigner(f.signer)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r Request
	if err := json.Unmarshal(text, &r); err != nil {
		return exit.Errorf(exit.Failed, "%s is not a request of a site: %v", path, err)
	}
	if err := record.CheckNetwork(r.Network); err != nil {
		return exit.Errorf(exit.Failed, "%s: %v", path, err)
	}
	now := v.Now()
	g := record.Grant{
		Network: r.Network, Site: r.Site, Agent: r.Agent, Name: r.Name, Serial: 1, Priority: f.priority, MACs: f.macs,
		MaxMACs: f.maxMACs, Trust: f.trust, Anycast: f.anycast,
		NotBefore: now.UTC().Truncate(time.Second), NotAfter: now.AddDate(0, 0, f.days).UTC().Truncate(time.Second),
	}
	if err := f.lists(&g); err != nil {
		return err
	}
	if f.store == "" {
		return writeGrant(g, key, func(data []byte) error { return os.WriteFile(f.output, data, 0o644) })
	}
	store := dirstore.New(f.store, r.Network)
	trust := record.Trust{Network: r.Network, Signers: []record.Key{record.Key(key.Public().(ed25519.PublicKey))}, Threshold: 1}
	others, err := grantsIn(store, trust)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Site == g.Site {
			g.Serial = o.Serial + 1
		}
	}
	if o, p := g.Overlap(others); o != nil {
		return exit.Errorf(exit.Failed, "%v is granted to %s already (--anycast at both, if that is intended)", p, o.Name)
	}
	return writeGrant(g, key, func(data []byte) error { return store.Put("grant/"+g.Site.ID(), data) })
}

// lists reads the lists of the flags into a grant.
func (f *grantFlags) lists(g *record.Grant) error {
	for _, text := range f.prefixes {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return exit.Usage("--prefix %q: want a network like 10.30.0.0/16", text)
		}
		g.Prefixes = append(g.Prefixes, p)
	}
	for _, text := range f.vlans {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return exit.Usage("--vlan %q: want a number from 0 to 4094", text)
		}
		g.VLANs = append(g.VLANs, uint16(n))
	}
	return nil
}

func writeGrant(g record.Grant, key ed25519.PrivateKey, write func([]byte) error) error {
	data, err := record.SignGrant(g, key)
	if err != nil {
		return exit.Errorf(exit.Failed, "%v", err)
	}
	return write(data)
}

// grantsIn returns the grants of a registry that the signer can verify. A registry that is not
// there yet has none.
func grantsIn(store *dirstore.Store, trust record.Trust) ([]record.Grant, error) {
	values, err := store.List()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []record.Grant
	for key, data := range values {
		if !strings.HasPrefix(key, "grant/") {
			continue
		}
		g, err := trust.Signed(data)
		if err != nil {
			return nil, exit.Errorf(exit.Failed, "the registry has a %s: %v: remove it, or verify where it comes from", key, err)
		}
		list = append(list, g)
	}
	return list, err
}

func (v *Verbs) signCommand() *cobra.Command {
	var signer string
	cmd := &cobra.Command{
		Use:     "sign FILE...",
		Short:   "Add a signature to documents, where several signers are needed",
		Example: "  tunctl net sign oslo.grant --signer second.signer",
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVar(&signer, "signer", "", "file of the signing key")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error {
		key, err := readSigner(signer)
		if err != nil {
			return err
		}
		for _, path := range args {
			data, err := os.ReadFile(path)
			if err == nil {
				data, err = record.AddSignature(data, key)
			}
			if err == nil {
				err = os.WriteFile(path, data, 0o644)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	})
	return cmd
}
