package view

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/registry/record"
)

// Snapshot is what a view keeps across restarts: documents as they were signed. Grants and
// revocations are verified again. What sites say is not, since their grants may have been replaced:
// it is to be kept where nobody else can write.
type Snapshot struct {
	CRL   []byte         `json:"crl,omitempty"`
	Sites []SiteSnapshot `json:"sites"`
}

// SiteSnapshot is one site.
type SiteSnapshot struct {
	Grant   []byte    `json:"grant"`
	Record  []byte    `json:"record,omitempty"`
	Absent  time.Time `json:"absent,omitzero"`
	InForce bool      `json:"in_force,omitempty"`
	// Documents about its hosts.
	Stations [][]byte `json:"stations,omitempty"`
}

// Snapshot returns the state. Its slices are not to be changed.
func (v *View) Snapshot() Snapshot {
	s := Snapshot{CRL: v.crl, Sites: make([]SiteSnapshot, 0, len(v.sites))}
	for id, known := range v.sites {
		saved := SiteSnapshot{Grant: known.grantText, Record: known.recText, Absent: known.absent, InForce: v.inForce[id]}
		for _, p := range known.parts {
			saved.Stations = append(saved.Stations, p.text)
		}
		s.Sites = append(s.Sites, saved)
	}
	return s
}

// Restore takes a state into a view that knows nothing. Documents that are not signed as they have
// to be are left out; the error says which. What the store has shown before is not a complete list.
func (v *View) Restore(s Snapshot) error {
	v.redo = true
	var errs []error
	if len(s.CRL) > 0 {
		if err := v.putRevocations("crl", s.CRL); err != nil {
			errs = append(errs, err)
		}
	}
	for _, saved := range s.Sites {
		if err := v.restore(saved); err != nil && len(errs) < 8 {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("some of the saved state does not count: %w", errors.Join(errs...))
	}
	return nil
}

// restore takes a saved site. A record that counted once still does: it expires for those who have
// not known it. So does a document about hosts, also when the grant was replaced since. An expired
// grant is taken, too, since the removal that follows is for Decide.
func (v *View) restore(saved SiteSnapshot) error {
	g, err := v.o.Trust.Signed(saved.Grant)
	if err != nil || len(v.sites) >= maxSites {
		return err
	}
	known := &site{grant: g, grantText: saved.Grant, absent: saved.Absent}
	v.sites[g.Site] = known
	if saved.InForce {
		v.inForce[g.Site] = true
	}
	if len(saved.Record) > 0 {
		r, err := record.Kept(saved.Record)
		if err != nil || r.Site != g.Site {
			return errors.Join(err, errors.New("record of another site"))
		}
		known.rec, known.recText = &r, saved.Record
	}
	for _, text := range saved.Stations {
		doc, err := record.KeptStations(text)
		if err != nil || doc.Site != g.Site || len(known.parts) >= maxParts {
			return errors.Join(err, errors.New("a document about hosts"))
		}
		if known.parts == nil {
			known.parts = make(map[partID]*part)
		}
		known.parts[partID{doc.VLAN, doc.Part}] = newPart(text, doc)
	}
	return nil
}
