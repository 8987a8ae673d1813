package record

import (
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/crypto/keys"
	"tund/internal/names"
)

// Bounds of what a document says.
const (
	maxPrefixes  = 64
	maxEndpoints = 8
	maxVLAN      = 4094
	maxMACs      = 64
)

// Site identifies a site: its WireGuard public key.
type Site keys.PublicKey

// ParseSite reads a site from the base64 of its key.
func ParseSite(text string) (Site, error) {
	k, err := keys.ParsePublic(text)
	if err != nil {
		return Site{}, fmt.Errorf("site: %w", err)
	}
	return Site(k), nil
}

// String returns the key in base64.
func (s Site) String() string { return keys.PublicKey(s).String() }

// MarshalText returns String.
func (s Site) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSite.
func (s *Site) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSite(string(text))
	return err
}

// ID returns the site as an element of a path: base32 without padding, in lower case.
func (s Site) ID() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s[:]))
}

// ParseID reads a site from its ID.
func ParseID(id string) (Site, error) {
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(id))
	if err != nil || len(b) != len(Site{}) || Site(b).ID() != id {
		return Site{}, errors.New("is not the id of a site")
	}
	return Site(b), nil
}

// Grant is what signers permit a site.
type Grant struct {
	Network  string `json:"network"`
	Site     Site   `json:"site"`
	Agent    Key    `json:"agent"` // signs the site's records
	Name     string `json:"name"`
	Serial   uint64 `json:"serial"`   // of this site's grants: a later grant has a higher one
	Priority int    `json:"priority"` // higher wins where two sites have a prefix

	// The most that a record may claim.
	Prefixes []netip.Prefix `json:"prefixes"`
	VLANs    []uint16       `json:"vlans,omitempty"` // 0: untagged frames
	MACs     []string       `json:"macs,omitempty"`  // the only ones behind the site; none: any
	MaxMACs  int            `json:"max_macs,omitempty"`
	Trust    []string       `json:"trust,omitempty"` // dhcp, ra
	// Anycast: other grants may have the same prefixes.
	Anycast bool `json:"anycast,omitempty"`

	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Record is what a site says of itself.
type Record struct {
	Network string `json:"network"`
	Site    Site   `json:"site"`
	Grant   uint64 `json:"grant"` // serial of the grant that it is based on
	// Epoch and Serial order the records of a site that are based on one grant: a higher epoch
	// wins, then a higher serial. A site that cannot go on with its serials begins an epoch.
	Epoch  uint64 `json:"epoch"`
	Serial uint64 `json:"serial"`

	Endpoints    []string       `json:"endpoints,omitempty"` // host:port, in order of preference
	Prefixes     []netip.Prefix `json:"prefixes,omitempty"`
	VLANs        []uint16       `json:"vlans,omitempty"`
	MTU          int            `json:"mtu,omitempty"` // bytes; 0: not said
	Capabilities []string       `json:"capabilities,omitempty"`
	NotAfter     time.Time      `json:"not_after"`
	// Gone: the site leaves the network; its peers may forget it at once.
	Gone bool `json:"gone,omitempty"`
}

// Revocations is what signers have taken back.
type Revocations struct {
	Network  string `json:"network"`
	Sequence uint64 `json:"sequence"` // a later list has a higher one
	// Revoked holds for each site the highest serial of the grants that no longer count. A site
	// whose keys are safe again gets a grant with a higher one; a list without it is not enough.
	Revoked map[Site]uint64 `json:"revoked"`
	// NextUpdate is when a newer list is expected; a later date is a warning, and no more.
	NextUpdate time.Time `json:"next_update"`
}

// CapEthernet is the capability of a site that carries frames.
const CapEthernet = "ethernet"

// CapReplicator is the capability of a site that passes on broadcasts, multicast and frames to
// unknown hosts for sites that send them to nobody else.
const CapReplicator = "replicator"

// SignGrant returns the document of a grant with the signature of one signer.
func SignGrant(g Grant, key ed25519.PrivateKey) ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("grant of %s: %w", g.Name, err)
	}
	return seal(KindGrant, g, key)
}

// SignRecord returns the document of a record, signed by the site's agent.
func SignRecord(r Record, key ed25519.PrivateKey) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return seal(KindRecord, r, key)
}

// SignRevocations returns the document of a list of revocations with the signature of one signer.
func SignRevocations(r Revocations, key ed25519.PrivateKey) ([]byte, error) {
	return seal(KindRevocations, r, key)
}

// Grant verifies a grant, and that it counts now.
func (t Trust) Grant(data []byte, now time.Time) (Grant, error) {
	g, err := t.Signed(data)
	if err != nil {
		return Grant{}, err
	}
	if now.Add(Slack).Before(g.NotBefore) {
		return Grant{}, fmt.Errorf("grant of %s: begins %s", g.Name, g.NotBefore.UTC().Format(time.RFC3339))
	}
	if g.Expired(now) {
		return Grant{}, fmt.Errorf("grant of %s: %w %s", g.Name, ErrExpired, g.NotAfter.UTC().Format(time.RFC3339))
	}
	return g, nil
}

// Signed verifies a grant, whenever it counts.
func (t Trust) Signed(data []byte) (Grant, error) {
	var g Grant
	e, err := open(data)
	if err == nil {
		err = e.payload(KindGrant, &g)
	}
	if err == nil {
		err = errors.Join(t.verify(e), t.network(g.Network))
	}
	if err == nil {
		err = g.check()
	}
	if err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	return g, nil
}

// ErrExpired is wrapped by the error for a document that no longer counts.
var ErrExpired = errors.New("ended")

// Expired reports whether the grant no longer counts.
func (g *Grant) Expired(now time.Time) bool { return now.Add(-Slack).After(g.NotAfter) }

// Expired reports whether the record no longer counts.
func (r *Record) Expired(now time.Time) bool { return now.Add(-Slack).After(r.NotAfter) }

// Newer reports whether r replaces a record of the same site. One that is based on a later grant
// does, whatever its count, as with Stations.
func (r *Record) Newer(than *Record) bool {
	if r.Grant != than.Grant {
		return r.Grant > than.Grant
	}
	return r.Epoch > than.Epoch || r.Epoch == than.Epoch && r.Serial > than.Serial
}

// SameClaims reports whether a record that replaces r, or is replaced by it, differs in nothing
// that concerns other sites, as one with another endpoint does.
func (r *Record) SameClaims(o *Record) bool {
	return r.Grant == o.Grant && r.Gone == o.Gone && slices.Equal(r.Prefixes, o.Prefixes) &&
		slices.Equal(r.VLANs, o.VLANs) && slices.Equal(r.Capabilities, o.Capabilities)
}

// Record verifies a record against the grant of its site, and that it counts now.
func (g *Grant) Record(data []byte, now time.Time) (Record, error) {
	var r Record
	e, err := open(data)
	if err == nil {
		err = e.payload(KindRecord, &r)
	}
	if err == nil && e.signers([]Key{g.Agent}) != 1 {
		err = errors.New("is not signed by the agent that the grant names")
	}
	if err == nil {
		err = errors.Join(r.Check(), g.covers(&r))
	}
	if err == nil && r.Expired(now) {
		err = fmt.Errorf("%w %s", ErrExpired, r.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Record{}, fmt.Errorf("record of %s: %w", g.Name, err)
	}
	return r, nil
}

// Revocations verifies a list of revocations.
func (t Trust) Revocations(data []byte) (Revocations, error) {
	var r Revocations
	e, err := open(data)
	if err == nil {
		err = e.payload(KindRevocations, &r)
	}
	if err == nil {
		err = errors.Join(t.verify(e), t.network(r.Network))
	}
	if err != nil {
		return Revocations{}, fmt.Errorf("revocations: %w", err)
	}
	return r, nil
}

// Revokes reports whether a grant no longer counts.
func (r *Revocations) Revokes(g *Grant) bool {
	serial, ok := r.Revoked[g.Site]
	return ok && g.Serial <= serial
}

// check returns what is wrong with a grant by itself.
func (g *Grant) check() error {
	switch {
	case CheckNetwork(g.Network) != nil:
		return CheckNetwork(g.Network)
	case names.Peer(g.Name) != nil:
		return fmt.Errorf("name %.70q %w", g.Name, names.Peer(g.Name))
	case g.Site == Site{}:
		return errors.New("has no site")
	case g.Agent == Key{}:
		return errors.New("has no key of an agent")
	case g.Serial == 0:
		return errors.New("has no serial")
	case g.NotBefore.IsZero() || !g.NotAfter.After(g.NotBefore):
		return errors.New("not_after is not after not_before")
	case len(g.MACs) > maxMACs:
		return fmt.Errorf("more than %d MACs", maxMACs)
	case g.MaxMACs < 0 || g.MaxMACs > 1<<20:
		return fmt.Errorf("max_macs %d is out of range", g.MaxMACs)
	}
	for _, m := range g.MACs {
		if _, err := names.Station(m); err != nil {
			return fmt.Errorf("MAC %.40q %w", m, err)
		}
	}
	for _, word := range g.Trust {
		if word != "dhcp" && word != "ra" {
			return fmt.Errorf("trust %.20q: want dhcp or ra", word)
		}
	}
	return errors.Join(checkPrefixes(g.Prefixes), checkVLANs(g.VLANs))
}

// CheckNetwork returns why a name cannot name a network, which is an element of paths.
func CheckNetwork(name string) error {
	if err := names.Instance(name); err != nil {
		return fmt.Errorf("network %.70q %w", name, err)
	}
	return nil
}

func checkPrefixes(list []netip.Prefix) error {
	if len(list) > maxPrefixes {
		return fmt.Errorf("more than %d prefixes", maxPrefixes)
	}
	for i, p := range list {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return fmt.Errorf("prefix %v: want a network without host bits", p)
		}
		if slices.Contains(list[:i], p) {
			return fmt.Errorf("prefix %v is given twice", p)
		}
	}
	return nil
}

func checkVLANs(list []uint16) error {
	for i, v := range list {
		if v > maxVLAN || slices.Contains(list[:i], v) {
			return fmt.Errorf("VLAN %d is out of range, or given twice", v)
		}
	}
	return nil
}

// Check returns what is wrong with a record by itself; nil: nothing is.
func (r *Record) Check() error {
	if len(r.Endpoints) > maxEndpoints {
		return fmt.Errorf("more than %d endpoints", maxEndpoints)
	}
	for _, e := range r.Endpoints {
		host, port, err := net.SplitHostPort(e)
		n, err2 := strconv.ParseUint(port, 10, 16)
		if err != nil || err2 != nil || n == 0 || host == "" || len(host) > 253 || strings.ContainsAny(host, " \t\r\n") {
			return fmt.Errorf("endpoint %.80q: want host:port", e)
		}
	}
	if len(r.Capabilities) > 16 {
		return errors.New("more than 16 capabilities")
	}
	return errors.Join(checkPrefixes(r.Prefixes), checkVLANs(r.VLANs))
}

// covers returns what a record claims beyond its grant.
func (g *Grant) covers(r *Record) error {
	switch {
	case r.Network != g.Network:
		return fmt.Errorf("is of the network %.40q, not %q", r.Network, g.Network)
	case r.Site != g.Site:
		return errors.New("is of another site")
	case r.Grant != g.Serial:
		return fmt.Errorf("is based on grant %d, and that in force is %d", r.Grant, g.Serial)
	}
	for _, p := range r.Prefixes {
		if !slices.ContainsFunc(g.Prefixes, func(w netip.Prefix) bool { return w.Bits() <= p.Bits() && w.Contains(p.Addr()) }) {
			return fmt.Errorf("claims %v, which is not granted", p)
		}
	}
	for _, v := range r.VLANs {
		if !slices.Contains(g.VLANs, v) {
			return fmt.Errorf("claims VLAN %d, which is not granted", v)
		}
	}
	return nil
}

// Overlap returns a grant among others that has a prefix in common with g, or one inside one of
// g's or the other way round, and that prefix; nil: none has. Signers refuse such a grant, unless
// both sites are anycast.
func (g *Grant) Overlap(others []Grant) (*Grant, netip.Prefix) {
	for i := range others {
		o := &others[i]
		if o.Site == g.Site || o.Anycast && g.Anycast {
			continue
		}
		for _, p := range g.Prefixes {
			for _, q := range o.Prefixes {
				if p.Overlaps(q) {
					return o, q
				}
			}
		}
	}
	return nil, netip.Prefix{}
}

// Precedes reports whether g wins over o where both sites have one prefix: by priority, then by the
// age of the grant, then by the site. It is the same at every site, because nothing but signed
// documents decides.
func (g *Grant) Precedes(o *Grant) bool {
	if g.Priority != o.Priority {
		return g.Priority > o.Priority
	}
	if !g.NotBefore.Equal(o.NotBefore) {
		return g.NotBefore.Before(o.NotBefore)
	}
	return slices.Compare(g.Site[:], o.Site[:]) < 0
}

// Kept reads a record without verifying it: one that was verified before, against a grant that may
// have been replaced since, and was kept where nobody else can write.
func Kept(data []byte) (Record, error) {
	var r Record
	e, err := open(data)
	if err == nil {
		err = e.payload(KindRecord, &r)
	}
	if err == nil {
		err = r.Check()
	}
	return r, err
}
