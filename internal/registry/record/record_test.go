package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// signer returns a key pair that depends on n alone.
func signer(n byte) (ed25519.PrivateKey, Key) {
	seed := [ed25519.SeedSize]byte{n}
	k := ed25519.NewKeyFromSeed(seed[:])
	return k, Key(k.Public().(ed25519.PublicKey))
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func oslo() (Grant, Record) {
	_, agent := signer(9)
	g := Grant{
		Network: "acme", Site: Site{7}, Agent: agent, Name: "oslo", Serial: 3, Prefixes: prefixes("10.30.0.0/16", "fd00:30::/48"),
		VLANs: []uint16{0, 7}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
	}
	return g, Record{
		Network: "acme", Site: g.Site, Grant: 3, Epoch: 1, Serial: 1, Endpoints: []string{"oslo.example.org:51820", "[2001:db8::1]:51820"},
		Prefixes: prefixes("10.30.1.0/24"), VLANs: []uint16{7}, NotAfter: noon.Add(time.Hour),
	}
}

func TestGrant_isBelievedOnlyWithTheSignersOfTheSite(t *testing.T) {
	t.Parallel()
	k1, p1 := signer(1)
	k2, p2 := signer(2)
	k3, _ := signer(3)
	g, _ := oslo()
	one, err := SignGrant(g, k1)
	if err != nil {
		t.Fatal(err)
	}
	twice, _ := AddSignature(one, k1)
	stranger, _ := AddSignature(one, k3)
	both, _ := AddSignature(one, k2)
	for what, test := range map[string]struct {
		data  []byte
		trust Trust
		good  bool
	}{
		"one of one":               {one, Trust{"acme", []Key{p1}, 1}, true},
		"one of two":               {one, Trust{"acme", []Key{p1, p2}, 1}, true},
		"both of two":              {both, Trust{"acme", []Key{p1, p2}, 2}, true},
		"one where two are needed": {one, Trust{"acme", []Key{p1, p2}, 2}, false},
		"one twice":                {twice, Trust{"acme", []Key{p1, p2}, 2}, false},
		"one pinned twice":         {one, Trust{"acme", []Key{p1, p1}, 2}, false},
		"a stranger beside it":     {stranger, Trust{"acme", []Key{p1, p2}, 2}, false},
		"the other signer":         {one, Trust{"acme", []Key{p2}, 1}, false},
		"no signer":                {one, Trust{"acme", nil, 0}, false},
		"another network":          {one, Trust{"other", []Key{p1}, 1}, false},
	} {
		got, err := test.trust.Grant(test.data, noon)
		if (err == nil) != test.good {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil && (got.Name != "oslo" || got.Site != g.Site || len(got.Prefixes) != 2) {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

func TestDocuments_countForALimitedTime(t *testing.T) {
	t.Parallel()
	k, p := signer(1)
	agent, _ := signer(9)
	trust := Trust{"acme", []Key{p}, 1}
	g, r := oslo()
	grant, _ := SignGrant(g, k)
	rec, _ := SignRecord(r, agent)
	for _, test := range []struct {
		at          time.Duration // after noon
		grant, both bool
	}{{0, true, true}, {-time.Hour - 9*time.Minute, true, true}, {-time.Hour - 11*time.Minute, false, true}, {time.Hour + 9*time.Minute, true, true}, {time.Hour + 11*time.Minute, false, false}} {
		_, err := trust.Grant(grant, noon.Add(test.at))
		_, err2 := g.Record(rec, noon.Add(test.at))
		if (err == nil) != test.grant || (err2 == nil) != test.both {
			t.Errorf("%v after noon: %v, %v", test.at, err, err2)
		}
		if test.at > time.Hour+Slack && !errors.Is(err, ErrExpired) {
			t.Errorf("%v after noon: %v is not ErrExpired", test.at, err)
		}
	}
}

// A site can claim nothing that it was not granted, and nobody can speak for it.
func TestRecord_staysWithinItsGrant(t *testing.T) {
	t.Parallel()
	agent, _ := signer(9)
	other, _ := signer(8)
	for what, test := range map[string]struct {
		change func(*Record)
		key    ed25519.PrivateKey
		want   string // in the error; "": none
	}{
		"as granted":       {func(*Record) {}, agent, ""},
		"all of it":        {func(r *Record) { r.Prefixes = prefixes("10.30.0.0/16", "fd00:30:0:7::/64") }, agent, ""},
		"a wider prefix":   {func(r *Record) { r.Prefixes = prefixes("10.0.0.0/8") }, agent, "claims 10.0.0.0/8, which is not granted"},
		"a default route":  {func(r *Record) { r.Prefixes = prefixes("0.0.0.0/0") }, agent, "claims 0.0.0.0/0"},
		"a VLAN":           {func(r *Record) { r.VLANs = []uint16{8} }, agent, "claims VLAN 8"},
		"another site":     {func(r *Record) { r.Site = Site{1} }, agent, "is of another site"},
		"another network":  {func(r *Record) { r.Network = "x" }, agent, `is of the network "x"`},
		"an older grant":   {func(r *Record) { r.Grant = 2 }, agent, "is based on grant 2"},
		"another's key":    {func(*Record) {}, other, "is not signed by the agent"},
		"a bad endpoint":   {func(r *Record) { r.Endpoints = []string{"nowhere"} }, agent, "want host:port"},
		"nine endpoints":   {func(r *Record) { r.Endpoints = strings.Split(strings.Repeat("a:1 ", 9), " ")[:9] }, agent, "more than 8"},
		"prefix host bits": {func(r *Record) { r.Prefixes = prefixes("10.30.1.1/24") }, agent, "without host bits"},
	} {
		g, r := oslo()
		test.change(&r)
		data, err := seal(KindRecord, r, test.key) // without the checks of SignRecord
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Record(data, noon)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
	}
}

// One kind of document does not pass as another, whatever the signature.
func TestDocuments_kindsAreSigned(t *testing.T) {
	t.Parallel()
	k, p := signer(1)
	g, _ := oslo()
	data, _ := SignGrant(g, k)
	for _, kind := range []Kind{KindRecord, KindRevocations} {
		forged := bytes.Replace(data, []byte(`"kind":"grant"`), []byte(`"kind":"`+kind+`"`), 1)
		if e, err := open(forged); err != nil || e.signers([]Key{p}) != 0 {
			t.Errorf("the signature of a grant counts for a %s: %v", kind, err)
		}
	}
	if _, err := (Trust{"acme", []Key{p}, 1}).Revocations(data); err == nil {
		t.Error("a grant is taken for revocations")
	}
}

func TestDocuments_fieldsOfTheFutureAreCoveredAndKept(t *testing.T) {
	t.Parallel()
	k, p := signer(1)
	k2, p2 := signer(2)
	g, _ := oslo()
	text, _ := json.Marshal(g)
	text = bytes.Replace(text, []byte(`{`), []byte(`{"quantum": {"x": 1},`), 1)
	data, err := marshal(&envelope{Kind: KindGrant, Payload: text}, k)
	if err != nil {
		t.Fatal(err)
	}
	data, err = AddSignature(data, k2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (Trust{"acme", []Key{p, p2}, 2}).Grant(data, noon); err != nil || got.Name != "oslo" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOverlapAndPrecedence(t *testing.T) {
	t.Parallel()
	g, _ := oslo()
	rival, _ := oslo()
	rival.Site, rival.Name, rival.Prefixes = Site{8}, "rival", prefixes("10.30.4.0/22")
	if o, p := g.Overlap([]Grant{g, rival}); o == nil || o.Name != "rival" || p.String() != "10.30.4.0/22" {
		t.Errorf("overlap with %v: %v", o, p)
	}
	g.Anycast, rival.Anycast = true, true
	if o, _ := g.Overlap([]Grant{rival}); o != nil {
		t.Error("anycast sites may share prefixes")
	}
	for _, change := range []func(*Grant){
		func(r *Grant) {}, // the lower site wins
		func(r *Grant) { r.NotBefore = r.NotBefore.Add(time.Minute) },
		func(r *Grant) { r.Priority = -1; r.NotBefore = r.NotBefore.Add(-time.Hour) },
	} {
		r := rival
		change(&r)
		if !g.Precedes(&r) || r.Precedes(&g) {
			t.Errorf("%+v does not precede %+v", g, r)
		}
	}
}

func TestSite_IDsAreElementsOfPaths(t *testing.T) {
	t.Parallel()
	s := Site{0xff, 0, 7}
	if got, err := ParseID(s.ID()); err != nil || got != s || len(s.ID()) != 52 {
		t.Errorf("%q: %v, %v", s.ID(), got, err)
	}
	for _, bad := range []string{"", strings.ToUpper(s.ID()), s.ID() + "a", s.ID()[:51] + "b", "../" + s.ID()[3:]} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever a store returns: it is refused, or says exactly what was signed.
func FuzzOpen(f *testing.F) {
	k, p := signer(1)
	agent, _ := signer(9)
	g, r := oslo()
	grant, _ := SignGrant(g, k)
	rec, _ := SignRecord(r, agent)
	revoked, _ := SignRevocations(Revocations{Network: "acme", Sequence: 4, Revoked: map[Site]uint64{{1}: 2}}, k)
	for _, data := range [][]byte{grant, rec, revoked, nil, []byte("{}"), []byte("null")} {
		f.Add(data)
	}
	trust := Trust{"acme", []Key{p}, 1}
	payload := func(data []byte) string {
		e, err := open(data)
		if err != nil {
			return ""
		}
		return string(e.Payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := trust.Grant(data, noon); err == nil && payload(data) != payload(grant) {
			t.Errorf("a forged grant: %q", data)
		}
		if _, err := g.Record(data, noon); err == nil && payload(data) != payload(rec) {
			t.Errorf("a forged record: %q", data)
		}
		if _, err := trust.Revocations(data); err == nil && payload(data) != payload(revoked) {
			t.Errorf("a forged list of revocations: %q", data)
		}
		if more, err := AddSignature(data, k); err == nil {
			if _, err := KindOf(more); err != nil {
				t.Errorf("a signed document cannot be read: %v", err)
			}
		}
	})
}
