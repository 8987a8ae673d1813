package view

import (
	"time"

	"tund/internal/registry/record"
)

// Standing is what has become of our own grant.
type Standing string

// The standings.
const (
	Granted    Standing = "valid"
	NotGranted Standing = "none" // no store has shown one yet
	Revoked    Standing = "revoked"
	Ended      Standing = "expired"
)

// Standing returns what has become of our own grant, as far as we know.
func (v *View) Standing(now time.Time) Standing {
	s := v.sites[v.o.Self]
	switch {
	case s == nil:
		return NotGranted
	case s.isRevoked():
		return Revoked
	case s.grant.Expired(now):
		return Ended
	}
	return Granted
}

// Judged reports whether enough is known of a site to decide whether it is a peer: that it is none
// then follows from signed documents, and not from ignorance.
func (v *View) Judged(id record.Site) bool {
	s := v.sites[id]
	return id == v.o.Self || s != nil && s.rec != nil || v.Revoked(id)
}

// Revoked reports whether the grant that is known of a site was revoked, or any, if none is known.
func (v *View) Revoked(id record.Site) bool {
	if s := v.sites[id]; s != nil {
		return s.isRevoked()
	}
	_, revoked := v.revoked.Revoked[id]
	return revoked
}

// Name returns the name of a site; "": it is not known.
func (v *View) Name(id record.Site) string {
	if s := v.sites[id]; s != nil {
		return s.grant.Name
	}
	return ""
}

// OwnStations returns our own documents about hosts, by key, as they are known.
func (v *View) OwnStations() map[string]*record.Stations {
	docs := make(map[string]*record.Stations)
	if s := v.sites[v.o.Self]; s != nil {
		for id, p := range s.parts {
			docs[record.StationsKey(v.o.Self, id.vlan, id.part)] = &p.doc
		}
	}
	return docs
}

// OwnDocuments returns our own documents about hosts as they were signed, by key. The texts are not
// to be changed.
func (v *View) OwnDocuments() map[string][]byte {
	texts := make(map[string][]byte)
	if s := v.sites[v.o.Self]; s != nil {
		for id, p := range s.parts {
			texts[record.StationsKey(v.o.Self, id.vlan, id.part)] = p.text
		}
	}
	return texts
}

// Up returns how many sites the store shows as present, and whether it shows us.
func (v *View) Up() (sites int, self bool) {
	s := v.sites[v.o.Self]
	return v.ups, s != nil && s.up
}
