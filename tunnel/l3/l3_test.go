package l3

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// slowTable is the obvious model: a list searched for the longest match.
type slowTable map[netip.Prefix]int

func (s slowTable) lookup(ip netip.Addr) (int, bool) {
	best, owner := -1, 0
	for p, v := range s {
		if p.Contains(ip) && p.Bits() > best {
			best, owner = p.Bits(), v
		}
	}
	return owner, best >= 0
}

func randomAddr(r *rand.Rand, six bool) netip.Addr {
	// Few distinct leading bits, so that prefixes nest and look-ups hit.
	if six {
		a := [16]byte{0xfd, byte(r.IntN(4)), byte(r.IntN(3))}
		binary.BigEndian.PutUint64(a[8:], r.Uint64())
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(3)), byte(r.IntN(256))})
}

func TestTable_agreesWithListOfPrefixes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var table Table[int]
	model := slowTable{}
	for range 60 {
		before, had := table.current.Load(), slowTable{}
		maps.Copy(had, model)
		table.Update(func(tx *Tx[int]) {
			for range []int{3, 20, 2 * maxInPlace}[r.IntN(3)] {
				six := r.IntN(2) == 0
				a := randomAddr(r, six)
				p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1))
				owner := r.IntN(30)
				if r.IntN(4) == 0 {
					tx.Remove(p, owner)
					if model[p.Masked()] == owner {
						delete(model, p.Masked())
					}
					continue
				}
				tx.Insert(p, owner)
				model[p.Masked()] = owner
			}
			if r.IntN(5) == 0 {
				gone := r.IntN(30)
				tx.RemoveOwner(gone)
				for p, v := range model {
					if v == gone {
						delete(model, p)
					}
				}
			}
		})
		for p, v := range had { // a reader that still uses the table of before
			if got, ok := before.active.Get(p); !ok || got != v {
				t.Fatalf("an update changed %v in the published table: %d, %v, want %d", p, got, ok, v)
			}
		}
		for range 200 {
			ip := randomAddr(r, r.IntN(2) == 0)
			got, ok := table.Lookup(ip)
			want, wantOK := model.lookup(ip)
			if ok != wantOK || got != want && ok {
				t.Fatalf("Lookup(%v) = %d, %v, want %d, %v", ip, got, ok, want, wantOK)
			}
		}
	}
	owned := 0
	for owner, prefixes := range table.owned {
		for _, p := range prefixes {
			if owned++; model[p] != owner {
				t.Errorf("%v is listed as %d's, and is %d's", p, owner, model[p])
			}
		}
	}
	if table.Len() != len(model) || owned != len(model) {
		t.Errorf("Len = %d, want %d", table.Len(), len(model))
	}
}

func TestTable_lookupDoesNotAllocate(t *testing.T) {
	var table Table[*int]
	table.Update(func(tx *Tx[*int]) { tx.Insert(netip.MustParsePrefix("10.0.0.0/8"), new(int)) })
	ip := netip.MustParseAddr("10.1.2.3")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(ip) }); n != 0 {
		t.Errorf("%v allocations per Lookup", n)
	}
}

func TestParseHeader_refusesLengthsThatDoNotFit(t *testing.T) {
	t.Parallel()
	v4 := make([]byte, 28)
	v4[0] = 0x45
	binary.BigEndian.PutUint16(v4[2:], 28)
	v6 := make([]byte, 48)
	v6[0] = 0x60
	binary.BigEndian.PutUint16(v6[4:], 8)
	set := func(b []byte, off int, v uint16) []byte {
		c := append([]byte(nil), b...)
		binary.BigEndian.PutUint16(c[off:], v)
		return c
	}
	tests := []struct {
		desc string
		pkt  []byte
		want int // length, 0: refused
	}{
		{"empty", nil, 0},
		{"IPv4", v4, 28},
		{"IPv4 with padding behind", append(append([]byte(nil), v4...), 0, 0, 0), 28},
		{"IPv4 cut", v4[:27], 0},
		{"IPv4 shorter than its header", set(v4, 2, 19), 0},
		{"IPv6", v6, 48},
		{"IPv6 cut", v6[:47], 0},
		{"IPv6 header cut", v6[:39], 0},
		{"version 5", append([]byte{0x50}, v4[1:]...), 0},
	}
	for _, tt := range tests {
		h, ok := ParseHeader(tt.pkt)
		if ok != (tt.want != 0) || ok && h.Length != tt.want {
			t.Errorf("%s: length %d, ok %v, want %d", tt.desc, h.Length, ok, tt.want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := ParseHeader(b)
		if ok && (h.Length > len(b) || h.Length < IPv4HeaderLen || !h.Src.IsValid() || !h.Dst.IsValid()) {
			t.Fatalf("accepted %x as %+v", b, h)
		}
	})
}
