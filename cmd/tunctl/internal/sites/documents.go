package sites

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

// signed is what signers have put into a registry.
type signed struct {
	grants []record.Grant // by site
	list   record.Revocations
}

// readSigned returns what signers have put into a registry. One that is not there yet has nothing.
// What cannot be verified is an error.
func readSigned(store *dirstore.Store, trust record.Trust) (*signed, error) {
	return readAll(store, trust, foreign)
}

// readAll is readSigned, but asks what to do about a document that cannot be verified; nil:
// nothing.
func readAll(store *dirstore.Store, trust record.Trust, odd func(path string, err error) error) (*signed, error) {
	s := &signed{list: record.Revocations{Network: trust.Network}}
	values, err := store.List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		data := values[key]
		switch {
		case key == "crl":
			list, err := trust.Revocations(data)
			if err == nil {
				s.list = list
			} else if err = odd(store.Path(key), err); err != nil {
				return nil, err
			}
		case strings.HasPrefix(key, "grant/"):
			g, err := trust.Signed(data)
			if err == nil {
				s.grants = append(s.grants, g)
			} else if err = odd(store.Path(key), err); err != nil {
				return nil, err
			}
		}
	}
	if s.list.Revoked == nil {
		s.list.Revoked = map[record.Site]uint64{}
	}
	slices.SortFunc(s.grants, func(a, b record.Grant) int { return slices.Compare(a.Site[:], b.Site[:]) })
	return s, nil
}

// foreign is the error for a document in the place of one that the signer has signed.
func foreign(path string, err error) error {
	return exit.Errorf(exit.Failed, "%s: %v: if another signer has made it, sign it as well (tunctl net sign); "+
		"if nobody has, find out who put it there, and remove it", path, err)
}

// counts reports whether a grant has neither expired nor been revoked.
func (s *signed) counts(g *record.Grant, now time.Time) bool {
	return !g.Expired(now) && !s.list.Revokes(g)
}

// clash returns what a grant has that another site's grant, which counts, has already.
func (s *signed) clash(g *record.Grant, now time.Time) error {
	others := slices.DeleteFunc(slices.Clone(s.grants), func(o record.Grant) bool { return o.Site == g.Site || !s.counts(&o, now) })
	if i := slices.IndexFunc(others, func(o record.Grant) bool { return o.Name == g.Name }); i >= 0 {
		return exit.Errorf(exit.Failed, "%s is the name of another site already, with the key %v: "+
			"give this one another (name in the file of its agent), or revoke that one", g.Name, others[i].Site)
	}
	if o, p := g.Overlap(others); o != nil {
		return exit.Errorf(exit.Failed, "%v is granted to %s already (--anycast at both, if that is intended)", p, o.Name)
	}
	return nil
}

// find returns the site of a name or public key, and the serial of its grant; 0: there is none, as
// there may be of a key. Of several sites that have had a name it is the one whose grant counts.
func (s *signed) find(name string, now time.Time) (site record.Site, serial uint64, err error) {
	if site, err = record.ParseSite(name); err == nil {
		for i := range s.grants {
			if s.grants[i].Site == site {
				serial = s.grants[i].Serial
			}
		}
		return site, serial, nil
	}
	named := slices.DeleteFunc(slices.Clone(s.grants), func(g record.Grant) bool { return g.Name != name })
	if count := slices.DeleteFunc(slices.Clone(named), func(g record.Grant) bool { return !s.counts(&g, now) }); len(count) > 0 {
		named = count
	}
	switch len(named) {
	case 0:
		return site, 0, exit.Errorf(exit.Failed, "the registry has no grant of a site %q: give the public key, if there is one elsewhere", name)
	case 1:
		return named[0].Site, named[0].Serial, nil
	}
	var keys []string
	for i := range named {
		keys = append(keys, named[i].Site.String())
	}
	return site, 0, exit.Errorf(exit.Failed, "%d sites have the name %q: give the public key of the one that is meant: %s",
		len(named), name, strings.Join(keys, ", "))
}

// describeSigned verifies a document of signers, whenever it counts, and says what is in it.
func describeSigned(trust record.Trust, data []byte) (text string, err error) {
	kind, err := record.KindOf(data)
	if err == nil && kind == record.KindRevocations {
		r, err := trust.Revocations(data)
		return listText(&r), err
	}
	g, err := trust.Signed(data)
	return grantText(&g), err
}

func listText(r *record.Revocations) string {
	return fmt.Sprintf("revocations %d: %d sites, next before %s", r.Sequence, len(r.Revoked), r.NextUpdate.Format(time.RFC3339))
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
		return grantKey(g.Site), grantText(&g), err
	case record.KindRevocations:
		text, err = describeSigned(trust, data)
		return "crl", text, err
	}
	_, site, err := record.About(data) // says which grant to ask for
	if err != nil {
		return "", "", err
	}
	permit, err := store.Get(grantKey(site))
	if err != nil {
		return "", "", fmt.Errorf("the grant of its site: %w", err)
	}
	g, err := trust.Grant(permit, now)
	if err != nil {
		return "", "", err
	}
	if kind == record.KindStations {
		s, err := g.Stations(data, now)
		return record.StationsKey(site, s.VLAN, s.Part), fmt.Sprintf("%d hosts of %s in VLAN %d, until %s", len(s.Stations), g.Name, s.VLAN,
			s.NotAfter.Format(time.RFC3339)), err
	}
	r, err := g.Record(data, now)
	return "site/" + site.ID() + "/rec", fmt.Sprintf("record %d of epoch %d of %s: prefixes %v, endpoints %v, until %s", r.Serial, r.Epoch,
		g.Name, r.Prefixes, r.Endpoints, r.NotAfter.Format(time.RFC3339)), err
}

// admits refuses a document of signers in whose place the registry has a newer one, and a grant of
// what another site has. What the registry has in its place counts if it can be verified.
func admits(trust record.Trust, store *dirstore.Store, key string, data []byte, now time.Time) error {
	if key != "crl" && !strings.HasPrefix(key, "grant/") {
		return nil
	}
	has, err := store.Get(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if was := order(trust, has); was > order(trust, data) {
		return fmt.Errorf("the registry has a newer one, with the number %d", was)
	}
	g, err := trust.Signed(data)
	if err != nil {
		return nil // a list of revocations
	}
	passOver := func(string, error) error { return nil } // as agents do
	known, err := readAll(store, trust, passOver)
	if err != nil {
		return err
	}
	return known.clash(&g, now)
}

// order returns the number of a grant or of a list of revocations; 0: it cannot be verified.
func order(trust record.Trust, data []byte) uint64 {
	if g, err := trust.Signed(data); err == nil {
		return g.Serial
	}
	r, _ := trust.Revocations(data)
	return r.Sequence
}
