package record

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Place returns whose part of a registry a key lies in, and how many bytes a document has there at
// most.
//
// group is the prefix below which one site may write: "site/<id>/", or "l2/<vlan>/<id>/" of one
// VLAN; "": the key is for the signers. limit is 0 if no document belongs at the key. Whether there
// is such a site is not looked at.
func Place(key string) (group string, limit int) {
	kind, rest, _ := strings.Cut(key, "/")
	parts := strings.Split(rest, "/")
	switch n := len(parts); {
	case key == "crl":
		return "", MaxRevocations
	case key == "meta", kind == "grant" && n == 1:
		return "", MaxDocument
	case kind == "site" && n > 1:
		if n == 2 && (parts[1] == "rec" || parts[1] == "up") {
			limit = MaxDocument
		}
		return "site/" + parts[0] + "/", limit
	case kind == "l2" && n > 2:
		vlan, err := strconv.ParseUint(parts[0], 10, 16)
		part, err2 := strconv.ParseUint(parts[2], 16, 8)
		if n == 3 && err == nil && err2 == nil && vlan <= maxVLAN && rest == fmt.Sprintf("%d/%s/%02x", vlan, parts[1], part) {
			limit = maxStationsDocument
		}
		return "l2/" + parts[0] + "/" + parts[1] + "/", limit
	}
	return "", 0
}

// What one site may have in a registry, in each of the groups of Place.
const (
	// maxGroupBytes is for 256 documents about hosts of usual size, 10 KB, and some.
	maxGroupBytes = 4 << 20
	// maxSurplus is how many values of a group are passed over one by one. Of a group with more of
	// them nothing further is looked at.
	maxSurplus = 64
)

// Listing gathers what a registry has, without what no site may have: whoever can write a part of a
// registry, as each site can, is not to keep others from reading the rest. The zero value is ready.
type Listing struct {
	// Values are those at keys where a document belongs, by key, none of them nil. Of one that is
	// too long there is as much as makes it no document.
	Values map[string][]byte
	// Surplus counts the values that were passed over, and Whose is the group of the first, or its
	// key if it is in none.
	Surplus int
	Whose   string

	groups map[string]*share
}

// share is what one group has had.
type share struct {
	bytes, surplus int
}

// Add takes a value, which is copied.
func (l *Listing) Add(key string, value []byte) { l.Take(key, Clip(key, value)) }

// Take is Add of a value that nobody writes to afterwards. It is kept, unless it is too long.
func (l *Listing) Take(key string, value []byte) {
	if l.Values == nil {
		l.Values = make(map[string][]byte)
	}
	group, limit := Place(key)
	s := l.share(group)
	if len(value) > longest(limit) {
		value = Clip(key, value)
	}
	if limit == 0 || group != "" && s.bytes+len(value) > maxGroupBytes {
		l.PassOver(key)
		return
	}
	s.bytes += len(value)
	l.Values[key] = value
}

// share returns what a group has had.
func (l *Listing) share(group string) *share {
	if l.groups == nil {
		l.groups = make(map[string]*share)
	}
	s := l.groups[group]
	if s == nil {
		s = &share{}
		l.groups[group] = s
	}
	return s
}

// PassOver counts a value that is no document, whatever its key is.
func (l *Listing) PassOver(key string) {
	group, _ := Place(key)
	l.share(group).surplus++
	if l.Surplus == 0 {
		l.Whose = cmp.Or(group, key)
	}
	l.Surplus++
}

// Unreadable notes that the value of a key cannot be read, and reports whether that is the affair
// of one site, which keeps nobody from the rest.
func (l *Listing) Unreadable(key string) bool {
	group, _ := Place(key)
	if group != "" {
		l.PassOver(key)
	}
	return group != ""
}

// longest is one byte more than a document with a limit and its newline may have.
func longest(limit int) int { return limit + 2 }

// Clip returns as much of the value of a key as is looked at, in memory of its own: a document, or
// as much of what is too long as makes it no document. It is never nil.
func Clip(key string, value []byte) []byte {
	_, limit := Place(key)
	value = value[:min(len(value), longest(limit))]
	return append(make([]byte, 0, len(value)), value...)
}

// Overrun returns the group that a key lies in if nothing further of it is to be looked at; "":
// something is, or the key is for the signers.
func (l *Listing) Overrun(key string) (group string) {
	group, _ = Place(key)
	if s := l.groups[group]; s == nil || s.surplus <= maxSurplus {
		return ""
	}
	return group
}
