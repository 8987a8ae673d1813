// Package view turns what a registry holds into the peers that a site is to have.
//
// It is built for a registry that may fail, lie, or be controlled by an attacker. Only documents
// that signers have signed, and records within their grants, count (package record). Of each site
// the newest is kept, whatever the store shows later: the store cannot turn anything back.
//
// Absence is never a command. A peer goes for one of these reasons alone: its grant was revoked, or
// has expired; its own record says that it leaves; or a store that answers has not had the site's
// record for seven days. Of removals that no revocation names, at most a fifth of the peers, or
// ten, happen in five minutes; the others are held for an hour, with a warning.
//
// What follows depends on the documents and the time only, so all sites that know the same decide
// the same, for instance who of two sites has a prefix that both claim.
//
// The package computes, and has no lock, clock or file. Snapshot, Changes and Restore are for
// whoever keeps the state across restarts.
package view

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"tund/internal/registry/record"
)

// Times and bounds of removals.
const (
	// Silence is for how long a store may lack a site's record until the site is given up.
	Silence = 7 * 24 * time.Hour
	// rewrite is for how long a store must have been readable then: sites whose records it has
	// lost, perhaps long ago, write them again once they can.
	rewrite = time.Hour
	// At most guardShare of the peers, but no fewer than guardLeast, go within guardWindow.
	guardWindow = 5 * time.Minute
	guardLeast  = 10
	guardShare  = 5 // one in this number
	// GuardHold is for how long further removals are held.
	GuardHold = time.Hour
	// maxSites bounds the sites, each of which takes about 3 KB. Only signers make sites.
	maxSites = 20_000
)

// Options is what a view depends on beside the registry.
type Options struct {
	Trust     record.Trust
	Self      record.Site // our own site, which is no peer
	Keepalive int         // seconds, of every peer; 0: off
	Ethernet  bool        // peers that are able to carry frames, and we, do so
	// VLANs whose hosts are of interest; none: all.
	VLANs []uint16
	// Leases: the store shows who is present (keys site/<id>/up that go when a site does).
	Leases bool
	// Leaf: broadcasts, multicast and frames to unknown hosts are sent to sites with the capability
	// record.CapReplicator alone.
	Leaf bool
	// Replicator: we pass on what leaves send us, while we are elected for that.
	Replicator bool
}

// View is what is known of a network. See New.
type View struct {
	o       Options
	sites   map[record.Site]*site
	crl     []byte
	revoked record.Revocations

	savedCRL *byte // which list was in an Entry last
	ups      int   // sites that the store shows as present
	// readable is since when the store can be read; zero: it cannot.
	readable time.Time
	// unshown: the store lacks our own newest record, or shows something else in its place.
	unshown bool

	inForce  map[record.Site]bool
	removals []time.Time               // of the last guardWindow, which count for the guard
	held     map[record.Site]time.Time // when a removal was first due
	counts   map[Refusal]uint64

	// The last decision about peers, and what has become known since: records that concern their
	// own peers alone, or anything else, after which all has to be decided again.
	base    Decision
	baseAt  time.Time
	touched []record.Site
	redo    bool

	relays map[record.Site]bool // replicators of the last decision
	leaf   bool                 // what we flood is sent to them alone

	lan       lan // the last decision about hosts
	lanAt     time.Time
	redoHosts bool             // something about them may have changed since
	lastAt    map[HostID]place // where hosts were at the last decision
	moved     map[HostID]*moves
}

// site is what is known of one site.
type site struct {
	grantText, recText []byte
	grant              record.Grant
	rec                *record.Record // nil: none yet
	absent             time.Time      // since when the store lacks its record; zero: it has it
	revoked            uint64         // highest serial of its grants that any list has revoked
	parts              map[partID]*part
	up                 bool // the store shows it as present
	saved              saved

	// The peer of the last decision, with these prefixes; without a key: to be described again.
	described Peer
	owned     []netip.Prefix
}

// Refusal is why a value of the store was not believed.
type Refusal string

// The refusals.
const (
	BadKey     Refusal = "bad-key"   // no document belongs at this key
	BadValue   Refusal = "bad-value" // forged, malformed, expired, or not of the site of the key
	Replayed   Refusal = "replayed"  // older than what is known
	NoGrant    Refusal = "no-grant"  // a record of a site without a grant
	TooMany    Refusal = "too-many"  // more sites than maxSites
	Misplaced  Refusal = "misplaced" // a document of another site than the key says
	Superseded Refusal = "changed"   // says something else, with the serial of a known one
)

// New returns a view that knows nothing.
func New(o Options) *View {
	return &View{
		o: o, sites: make(map[record.Site]*site), inForce: make(map[record.Site]bool),
		held: make(map[record.Site]time.Time), counts: make(map[Refusal]uint64),
		redo: true, lastAt: make(map[HostID]place), moved: make(map[HostID]*moves),
	}
}

// Refused returns how many values were not believed, by reason. The map is the caller's.
func (v *View) Refused() map[Refusal]uint64 { return maps.Clone(v.counts) }

// Sites returns the number of sites with a grant.
func (v *View) Sites() int { return len(v.sites) }

// refuse counts a refusal and returns the error that says why.
func (v *View) refuse(r Refusal, key string, why error) error {
	v.counts[r]++
	if why == nil {
		return fmt.Errorf("%.100s: %s", key, r)
	}
	return fmt.Errorf("%.100s: %s: %w", key, r, why)
}

// List takes everything that the store has, by key, at one moment; values as Put, the map is the
// caller's. It returns why values were refused, the first few.
func (v *View) List(values map[string][]byte, now time.Time) error {
	v.redo = true
	keys := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var errs []error
	for _, key := range keys {
		if err := v.Put(key, values[key], now); err != nil && len(errs) < 8 {
			errs = append(errs, err)
		}
	}
	for s, known := range v.sites {
		if _, there := values["site/"+s.ID()+"/rec"]; there {
			known.absent = time.Time{}
		} else if known.absent.IsZero() {
			known.absent = now
		}
		_, up := values["site/"+s.ID()+"/up"]
		v.setPresent(known, up)
	}
	if _, there := values["site/"+v.o.Self.ID()+"/rec"]; !there {
		v.unshown = true
	}
	if v.readable.IsZero() || v.readable.After(now) {
		v.readable = now
	}
	return errors.Join(errs...)
}

// Unreadable notes that the store cannot be read, until it shows everything again.
func (v *View) Unreadable() { v.readable = time.Time{} }

// rank orders keys such that each document comes after those that it depends on.
func rank(key string) int {
	switch {
	case key == "crl":
		return 0
	case strings.HasPrefix(key, "grant/"):
		return 1
	}
	return 2
}

// Put takes one value, which is kept, and which nobody may write to afterwards. An error says why
// it was refused; nothing has changed then.
func (v *View) Put(key string, value []byte, now time.Time) error {
	switch parts := strings.Split(key, "/"); {
	case key == "crl":
		return v.putRevocations(key, value)
	case len(parts) == 2 && parts[0] == "grant":
		return v.putGrant(key, parts[1], value, now)
	case len(parts) == 3 && parts[0] == "site" && parts[2] == "rec":
		return v.putRecord(key, parts[1], value, now)
	case len(parts) == 4 && parts[0] == "l2":
		return v.putStations(key, parts, value, now)
	case len(parts) == 3 && parts[0] == "site" && parts[2] == "up":
		v.setUp(parts[1], true)
		return nil
	case key == "meta":
		return nil
	}
	return v.refuse(BadKey, key, nil)
}

// setUp notes whether the store shows a site as present. That says nothing about the peers that are
// to be there.
func (v *View) setUp(id string, up bool) {
	if where, err := record.ParseID(id); err == nil && v.sites[where] != nil {
		v.setPresent(v.sites[where], up)
	}
}

func (v *View) setPresent(s *site, up bool) {
	if s.up == up {
		return
	}
	v.redo = v.redo || s.replicates() || v.o.Replicator || v.leaf
	if s.up, v.redoHosts = up, true; up {
		v.ups++
	} else {
		v.ups--
	}
}

// Gone notes that the store no longer has a key. That is no reason to remove anything: the site of
// a record is given up after Silence.
func (v *View) Gone(key string, now time.Time) {
	parts := strings.Split(key, "/")
	if len(parts) == 3 && parts[0] == "site" && parts[2] == "up" {
		v.setUp(parts[1], false)
		return
	}
	if len(parts) != 3 || parts[0] != "site" || parts[2] != "rec" {
		return
	}
	id, err := record.ParseID(parts[1])
	if err == nil && id == v.o.Self {
		v.unshown = true
	}
	if s := v.sites[id]; err == nil && s != nil && s.absent.IsZero() {
		s.absent = now // all is decided again in every GuardHold, which is long before Silence
	}
}

// adopt keeps a document where the store has it, instead of a copy: that of a saved state, or of a
// list before. saved is by what it is recognised as written to the disk.
func adopt(text *[]byte, value []byte, saved **byte) {
	if *saved == first(*text) {
		*saved = first(value)
	}
	*text = value
}

func (v *View) putRevocations(key string, value []byte) error {
	if v.crl != nil && bytes.Equal(value, v.crl) {
		adopt(&v.crl, value, &v.savedCRL)
		return nil
	}
	r, err := v.o.Trust.Revocations(value)
	switch {
	case err != nil:
		return v.refuse(BadValue, key, err)
	case r.Sequence < v.revoked.Sequence:
		return v.refuse(Replayed, key, fmt.Errorf("sequence %d, after %d", r.Sequence, v.revoked.Sequence))
	case r.Sequence == v.revoked.Sequence && v.crl != nil && !reflect.DeepEqual(r, v.revoked):
		return v.refuse(Superseded, key, nil)
	}
	v.crl, v.revoked, v.redo = value, r, true
	for id, serial := range r.Revoked {
		if s := v.sites[id]; s != nil {
			s.revoked = max(s.revoked, serial)
		}
	}
	return nil
}

// isRevoked reports whether the grant of the site was revoked. A later list that lacks the site
// does not take that back: it was perhaps signed by someone who had lost the one before. A grant
// with a higher serial does.
func (s *site) isRevoked() bool { return s.grant.Serial <= s.revoked }

func (v *View) putGrant(key, id string, value []byte, now time.Time) error {
	where, err := record.ParseID(id)
	if err != nil {
		return v.refuse(BadKey, key, err)
	}
	known := v.sites[where]
	if known != nil && bytes.Equal(value, known.grantText) {
		adopt(&known.grantText, value, &known.saved.grant)
		return nil
	}
	g, err := v.o.Trust.Grant(value, now)
	switch {
	case err != nil:
		return v.refuse(BadValue, key, err)
	case g.Site != where:
		return v.refuse(Misplaced, key, nil)
	case known != nil && g.Serial < known.grant.Serial:
		return v.refuse(Replayed, key, fmt.Errorf("serial %d, after %d", g.Serial, known.grant.Serial))
	case known != nil && g.Serial == known.grant.Serial && !reflect.DeepEqual(g, known.grant):
		return v.refuse(Superseded, key, nil)
	case known == nil && len(v.sites) >= maxSites:
		return v.refuse(TooMany, key, nil)
	case known == nil:
		known = &site{absent: now, revoked: v.revoked.Revoked[where]}
		v.sites[where] = known
	}
	known.grant, known.grantText, known.described, v.redo = g, value, Peer{}, true
	return nil
}

func (v *View) putRecord(key, id string, value []byte, now time.Time) error {
	where, err := record.ParseID(id)
	if err != nil {
		return v.refuse(BadKey, key, err)
	}
	known := v.sites[where]
	if known == nil {
		return v.refuse(NoGrant, key, nil)
	}
	own := where == v.o.Self
	if known.rec != nil && bytes.Equal(value, known.recText) {
		adopt(&known.recText, value, &known.saved.rec)
		known.absent, v.unshown = time.Time{}, v.unshown && !own
		return nil
	}
	v.unshown = v.unshown || own
	r, err := known.grant.Record(value, now)
	switch {
	case err != nil:
		return v.refuse(BadValue, key, err)
	case known.rec != nil && !r.Newer(known.rec):
		return v.refuse(Replayed, key, fmt.Errorf("epoch %d serial %d, after %d and %d", r.Epoch, r.Serial, known.rec.Epoch, known.rec.Serial))
	}
	if known.rec != nil && v.inForce[where] && known.rec.SameClaims(&r) {
		v.touched = append(v.touched, where)
	} else {
		v.redo = true
	}
	known.rec, known.recText, known.absent, known.described = &r, value, time.Time{}, Peer{}
	v.unshown = v.unshown && !own
	return nil
}

// Own returns our own grant, if there is one that counts.
func (v *View) Own(now time.Time) (record.Grant, bool) {
	if v.Standing(now) != Granted {
		return record.Grant{}, false
	}
	return v.sites[v.o.Self].grant, true
}

// OwnRecord returns the newest record of ours that the store has shown, or nil, its document, and
// whether the store still has it: one that was emptied or restored lacks it, or has an older one.
// The document is not to be changed.
func (v *View) OwnRecord() (r *record.Record, document []byte, shown bool) {
	if s := v.sites[v.o.Self]; s != nil {
		r, document = s.rec, s.recText
	}
	return r, document, r != nil && !v.unshown
}

// claimed returns what the site claims of its prefixes within its newest grant.
func (s *site) claimed() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s.rec.Prefixes {
		if slices.ContainsFunc(s.grant.Prefixes, func(w netip.Prefix) bool { return w.Bits() <= p.Bits() && w.Contains(p.Addr()) }) {
			list = append(list, p)
		}
	}
	return list
}
