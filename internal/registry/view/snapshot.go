package view

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"tund/internal/registry/record"
)

// Entry is a part of what a view keeps across restarts: the list of revocations, what is known of
// one site, or a document about hosts. Documents are as they were signed. Grants and revocations
// are verified again when they are restored. What sites say is not, since their grants may have
// been replaced: entries are to be kept where nobody else can write.
type Entry struct {
	CRL []byte `json:"crl,omitempty"`

	Grant   []byte    `json:"grant,omitempty"` // with it, what follows is about its site
	Record  []byte    `json:"record,omitempty"`
	Absent  time.Time `json:"absent,omitzero"`
	InForce bool      `json:"in_force,omitempty"`
	Revoked uint64    `json:"revoked,omitempty"` // highest serial of its grants that was revoked

	Stations []byte `json:"stations,omitempty"` // of a site that an entry before has named
}

// saved is which state of a site was in an Entry last. Texts are compared by where they are: they
// are replaced, and never changed.
type saved struct {
	grant, rec *byte
	absent     time.Time
	inForce    bool
	revoked    uint64
}

func first(text []byte) *byte {
	if len(text) == 0 {
		return nil
	}
	return &text[0]
}

// Snapshot returns everything, in an order in which it can be restored. The slices of an Entry are
// not to be changed.
func (v *View) Snapshot() iter.Seq[Entry] { return v.entries(true) }

// Changes returns what has changed since the entries of Snapshot or Changes were taken last. Sites
// that are no longer known are not among them: they would be forgotten again. Whoever does not keep
// all of it has to take a Snapshot.
func (v *View) Changes() iter.Seq[Entry] { return v.entries(false) }

func (v *View) entries(all bool) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if now := first(v.crl); now != nil && (all || now != v.savedCRL) {
			if v.savedCRL = now; !yield(Entry{CRL: v.crl}) {
				return
			}
		}
		for id, s := range v.sites {
			now := saved{first(s.grantText), first(s.recText), s.absent, v.inForce[id], s.revoked}
			if all || now != s.saved {
				s.saved = now
				if !yield(Entry{Grant: s.grantText, Record: s.recText, Absent: s.absent, InForce: now.inForce, Revoked: s.revoked}) {
					return
				}
			}
			for _, p := range s.parts {
				if !all && p.saved {
					continue
				}
				if p.saved = true; !yield(Entry{Stations: p.text}) {
					return
				}
			}
		}
	}
}

// Unsaved reports whether there is a list of revocations that was in no Entry yet. Whoever acts
// upon it has to save it before: after a restart without it, those that were revoked would be back.
func (v *View) Unsaved() bool { return first(v.crl) != v.savedCRL }

// Restore takes entries into a view that knows nothing: all of a Snapshot, and what has changed
// since. Of several about the same the last one counts. Documents that are not signed as they have
// to be are left out; the error says which. What the store has shown before is not a complete list.
func (v *View) Restore(entries iter.Seq[Entry]) error {
	v.redo = true
	var errs []error
	for e := range entries {
		if err := v.restore(&e); err != nil && len(errs) < 8 {
			errs = append(errs, err)
		}
	}
	v.savedCRL = first(v.crl)
	if len(errs) > 0 {
		return fmt.Errorf("some of the saved state is not used: %w", errors.Join(errs...))
	}
	return nil
}

func (v *View) restore(e *Entry) error {
	switch {
	case len(e.CRL) > 0:
		return v.putRevocations("crl", e.CRL)
	case len(e.Stations) > 0:
		return v.restoreStations(e.Stations)
	case len(e.Grant) > 0:
		return v.restoreSite(e)
	}
	return nil
}

// restoreSite takes a saved site. A record that counted once still does: it expires for those who
// have not known it. So does a document about hosts, also when the grant was replaced since. An
// expired grant is taken, too, since the removal that follows is for Decide.
func (v *View) restoreSite(e *Entry) error {
	g, err := v.o.Trust.Signed(e.Grant)
	if err != nil {
		return err
	}
	known := v.sites[g.Site]
	if known == nil {
		if len(v.sites) >= maxSites {
			return nil
		}
		known = &site{}
		v.sites[g.Site] = known
	}
	known.grant, known.grantText, known.absent = g, e.Grant, e.Absent
	known.revoked = max(known.revoked, e.Revoked, v.revoked.Revoked[g.Site])
	if e.InForce {
		v.inForce[g.Site] = true
	} else {
		delete(v.inForce, g.Site)
	}
	if len(e.Record) == 0 {
		return nil
	}
	r, err := record.Kept(e.Record)
	if err != nil || r.Site != g.Site {
		return errors.Join(err, errors.New("record of another site"))
	}
	known.rec, known.recText = &r, e.Record
	return nil
}

func (v *View) restoreStations(text []byte) error {
	doc, err := record.KeptStations(text)
	if err != nil {
		return err
	}
	known, id := v.sites[doc.Site], partID{doc.VLAN, doc.Part}
	switch {
	case known == nil:
		return errors.New("a document about the hosts of an unknown site")
	case known.parts[id] == nil && len(known.parts) >= maxParts:
		return errors.New("too many documents about hosts of one site")
	case known.parts == nil:
		known.parts = make(map[partID]*part)
	}
	known.parts[id] = newPart(text, doc)
	return nil
}
