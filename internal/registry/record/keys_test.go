package record

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	t.Parallel()
	id := Site{1}.ID()
	for _, c := range []struct {
		key, group string
		limit      int
	}{
		{"crl", "", MaxRevocations},
		{"meta", "", MaxDocument},
		{"grant/" + id, "", MaxDocument},
		{"grant/" + id + "/x", "", 0},
		{"site/" + id + "/rec", "site/" + id + "/", MaxDocument},
		{"site/" + id + "/up", "site/" + id + "/", MaxDocument},
		{"site/" + id + "/other", "site/" + id + "/", 0},
		{"site/" + id + "/rec/x", "site/" + id + "/", 0},
		{"site/" + id + "/", "site/" + id + "/", 0},
		{StationsKey(Site{1}, 7, 255), "l2/7/" + id + "/", maxStationsDocument},
		{"l2/07/" + id + "/ff", "l2/07/" + id + "/", 0},
		{"l2/7/" + id + "/FF", "l2/7/" + id + "/", 0},
		{"l2/7/" + id + "/100", "l2/7/" + id + "/", 0},
		{"l2/4095/" + id + "/00", "l2/4095/" + id + "/", 0},
		{"l2/7/" + id, "", 0},
		{"l2/7/" + id + "/00/x", "l2/7/" + id + "/", 0},
		{"", "", 0},
		{"site", "", 0},
		{"../" + id + "/rec", "", 0},
	} {
		if group, limit := Place(c.key); group != c.group || limit != c.limit {
			t.Errorf("%s lies in %q, at most %d bytes: want %q and %d", c.key, group, limit, c.group, c.limit)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add("site/x/rec")
	f.Add("l2/0/x/00")
	f.Fuzz(func(t *testing.T, key string) {
		group, limit := Place(key)
		if !strings.HasPrefix(key, group) || limit < 0 || limit > MaxRevocations {
			t.Errorf("%q: %q, %d", key, group, limit)
		}
	})
}

// A site that fills its part of a registry costs others neither memory nor the rest.
func TestListing_whatOneSiteMayHave(t *testing.T) {
	t.Parallel()
	var l Listing
	for i := range 1000 {
		l.Add(fmt.Sprintf("site/a/%04d", i), make([]byte, 1<<20))
	}
	for i := range 256 {
		l.Add(fmt.Sprintf("l2/0/a/%02x", i), make([]byte, 1<<20))
	}
	l.Add("site/b/rec", []byte("b"))
	l.Add("site/c/rec", make([]byte, 1<<20))
	l.Add("grant/b", nil)
	total := 0
	for _, value := range l.Values {
		total += len(value)
	}
	if string(l.Values["site/b/rec"]) != "b" || len(l.Values["site/c/rec"]) != MaxDocument+2 || l.Values["grant/b"] == nil || total > maxGroupBytes+2*MaxDocument ||
		string(Clip("site/c/rec", l.Values["site/c/rec"])) != string(l.Values["site/c/rec"]) || Clip("site/c/x", []byte("x")) == nil {
		t.Errorf("%d values of %d bytes", len(l.Values), total)
	}
	if l.Surplus < 1000 || l.Whose != "site/a/" || l.Overrun("site/a/rec") != "site/a/" || l.Overrun("site/b/rec") != "" || l.Overrun("crl") != "" {
		t.Errorf("%d values passed over, the first of %q", l.Surplus, l.Whose)
	}
}
