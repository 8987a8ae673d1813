package sites

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

// Request is what a site asks to be granted: the output of tund-agent --request.
type Request struct {
	Network string      `json:"network"`
	Site    record.Site `json:"site"`
	Agent   record.Key  `json:"agent"`
	Name    string      `json:"name"`
}

const (
	// maxRequest bounds a request in bytes: two keys and two names.
	maxRequest = 4 << 10
	// maxDays bounds how long documents may count: a hundred years.
	maxDays = 36_500
	// maxPriority and maxMACs are the highest values that tund takes for a peer.
	maxPriority, maxMACs = 65_535, 1 << 20
)

// grantFlags are those of net grant.
type grantFlags struct {
	signer, store, output  string
	prefixes, vlans, trust []string
	macs                   []string
	maxMACs, priority      int
	days                   int
	anycast, newAgent      bool
}

func (v *Verbs) grantCommand() *cobra.Command {
	var f grantFlags
	cmd := &cobra.Command{
		Use:   "grant REQUEST",
		Short: "Sign what a site may claim",
		Long: `Sign a grant for the site that made REQUEST (tund-agent --request), with the most that it may claim. It replaces the
grant that the site has had. With --store, a name or a prefix that another site of the registry has is refused.`,
		Example: "  tunctl net grant oslo.request --signer acme.signer --prefix 10.30.0.0/16 --store /srv/registry",
		Args:    cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.signer, "signer", "", "file of the signing key")
	flags.StringVar(&f.store, "store", "", "directory of the registry, into which the grant goes unless --output is given")
	flags.StringVarP(&f.output, "output", "o", "", "file for the grant")
	flags.StringSliceVar(&f.prefixes, "prefix", nil, "networks behind the site, as a list")
	flags.StringSliceVar(&f.vlans, "vlan", nil, "VLANs of the site, as a list; 0: untagged frames")
	flags.StringSliceVar(&f.trust, "trust", nil, "what the site may send beside ordinary frames: dhcp, ra")
	flags.StringSliceVar(&f.macs, "mac", nil, "the only MAC addresses behind the site")
	flags.IntVar(&f.maxMACs, "max-macs", 0, "number of MAC addresses behind the site; 0: any number, of which 1024 are published")
	flags.IntVar(&f.priority, "priority", 0, "the higher wins where two sites have a prefix")
	flags.IntVar(&f.days, "days", 365, "days until the grant ends")
	flags.BoolVar(&f.anycast, "anycast", false, "other sites may have the same prefixes, if they are anycast, too")
	flags.BoolVar(&f.newAgent, "new-agent", false, "the agent of the site has lost its key and made another one")
	cmd.RunE = v.Do(func(_ *cobra.Command, args []string) error { return v.grant(args[0], &f) })
	return cmd
}

func (v *Verbs) grant(path string, f *grantFlags) error {
	if f.store == "" && f.output == "" {
		return exit.Usage("give --store DIR or --output FILE")
	}
	key, err := readSigner(f.signer)
	if err != nil {
		return err
	}
	r, err := readRequest(path)
	if err != nil {
		return err
	}
	now := v.Now()
	g := record.Grant{
		Network: r.Network, Site: r.Site, Agent: r.Agent, Name: r.Name, Priority: f.priority, MACs: f.macs,
		MaxMACs: f.maxMACs, Trust: f.trust, Anycast: f.anycast,
		// Counted by the clock: the registry may have been restored from a backup, or not be here,
		// and agents refuse a grant with a number that they have seen.
		Serial:    uint64(max(now.Unix(), 1)),
		NotBefore: now.UTC().Truncate(time.Second), NotAfter: now.AddDate(0, 0, f.days).UTC().Truncate(time.Second),
	}
	if err := f.values(&g); err != nil {
		return err
	}
	var store *dirstore.Store
	if f.store != "" {
		store = dirstore.New(f.store, r.Network)
		if err := f.fits(&g, store, publicOf(key), now); err != nil {
			return err
		}
	}
	data, err := record.SignGrant(g, key)
	if err != nil {
		return exit.Errorf(exit.Failed, "%v", err)
	}
	where := f.output
	if where != "" {
		err = secretfile.Replace(where, data, 0o644)
	} else {
		where = store.Path(grantKey(g.Site))
		err = store.Put(grantKey(g.Site), data)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(v.Out, "%s: %s\n", where, grantText(&g))
	return err
}

func grantKey(site record.Site) string { return "grant/" + site.ID() }

func readRequest(path string) (r Request, err error) {
	text, err := secretfile.Read(path, maxRequest)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, exit.Errorf(exit.Failed, "%s is not a request of a site: %v", path, err)
	}
	if err := record.CheckNetwork(r.Network); err != nil {
		return r, exit.Errorf(exit.Failed, "%s: %v", path, err)
	}
	if _, err := record.ParseSite(r.Name); err == nil {
		return r, exit.Errorf(exit.Failed, "%s: the name of the site is a public key, and would be taken for that of another site", path)
	}
	return r, nil
}

// values reads the values of the flags into a grant.
func (f *grantFlags) values(g *record.Grant) error {
	switch {
	case f.days < 1 || f.days > maxDays:
		return exit.Usage("--days %d: want 1 to %d", f.days, maxDays)
	case f.priority < 0 || f.priority > maxPriority:
		return exit.Usage("--priority %d: want 0 to %d", f.priority, maxPriority)
	case f.maxMACs < 0 || f.maxMACs > maxMACs:
		return exit.Usage("--max-macs %d: want 0 to %d", f.maxMACs, maxMACs)
	}
	for _, text := range f.prefixes {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return exit.Usage("--prefix %q: want a network like 10.30.0.0/16", text)
		}
		if p != p.Masked() {
			return exit.Usage("--prefix %v: is an address in the network %v: give the network", p, p.Masked())
		}
		g.Prefixes = append(g.Prefixes, p)
	}
	for _, text := range f.vlans {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n > 4094 {
			return exit.Usage("--vlan %q: want a number from 0 to 4094", text)
		}
		g.VLANs = append(g.VLANs, uint16(n))
	}
	return nil
}

// fits compares a grant with the others of a registry, and gives it a serial above all that its
// site has had. Grants that have expired or were revoked are in nobody's way.
func (f *grantFlags) fits(g *record.Grant, store *dirstore.Store, signer record.Key, now time.Time) error {
	known, err := readSigned(store, record.Trust{Network: g.Network, Signers: []record.Key{signer}, Threshold: 1})
	if err != nil {
		return err
	}
	for i := range known.grants {
		if o := &known.grants[i]; o.Site == g.Site {
			g.Serial = max(g.Serial, o.Serial+1)
			if o.Agent != g.Agent && known.counts(o, now) && !f.newAgent {
				return exit.Errorf(exit.Failed, "the agent of %s has another key than in its present grant: if it has lost that, give --new-agent; "+
					"if not, somebody else asks for the grant", o.Name)
			}
		}
	}
	g.Serial = max(g.Serial, known.list.Revoked[g.Site]+1)
	return known.clash(g, now)
}

// grantText says what a grant permits.
func grantText(g *record.Grant) string {
	return fmt.Sprintf("grant %d of %s (%s): prefixes %v, VLANs %v, until %s", g.Serial, g.Name, g.Site,
		g.Prefixes, g.VLANs, g.NotAfter.Format(time.RFC3339))
}
