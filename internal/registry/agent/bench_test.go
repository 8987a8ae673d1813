package agent

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// large returns an agent that knows a network of 10,000 sites, with its state on disk, and further
// records of one of them.
func large(b *testing.B) (a *Agent, key string, next [][]byte) {
	b.Helper()
	const sites = 10_000
	now := time.Now()
	values := make(map[string][]byte, 2*sites)
	must := func(data []byte, err error) []byte {
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	says := func(i, serial int) []byte {
		return must(record.SignRecord(record.Record{Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1, Serial: uint64(serial),
			Endpoints: []string{"192.0.2.1:" + strconv.Itoa(serial)}, NotAfter: now.Add(time.Hour).Truncate(time.Second)}, private(2)))
	}
	for i := range sites {
		values["grant/"+siteOf(i).ID()] = must(record.SignGrant(record.Grant{
			Network: "acme", Site: siteOf(i), Agent: public(2), Name: fmt.Sprintf("s%05d", i), Serial: 1,
			Prefixes:  []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 24)},
			NotBefore: now.Add(-time.Hour).Truncate(time.Second), NotAfter: now.Add(time.Hour).Truncate(time.Second)}, private(1)))
		values["site/"+siteOf(i).ID()+"/rec"] = says(i, 1)
	}
	a, err := New(Options{View: view.Options{Trust: record.Trust{Network: "acme", Signers: []record.Key{public(1)}, Threshold: 1}, Self: siteOf(0)},
		Disk: Files(b.TempDir()), Log: zap.NewNop()})
	if err == nil {
		err = a.view.List(values, now)
	}
	if err != nil {
		b.Fatal(err)
	}
	a.view.Decide(now)
	for serial := range 2000 {
		next = append(next, says(7, serial+2))
	}
	return a, "site/" + siteOf(7).ID() + "/rec", next
}

// What a change of one site costs on disk, and what it cost if everything were written.
func BenchmarkSave(b *testing.B) {
	a, key, next := large(b)
	for _, whole := range []bool{false, true} {
		name := "change"
		if whole {
			name = "everything"
		}
		b.Run(name, func(b *testing.B) {
			if err := a.saveState(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			size := 0
			for i := 0; b.Loop(); i++ {
				_ = a.view.Put(key, next[i%len(next)], time.Now()) // refused the second time
				a.state.whole = !whole
				before := a.state.size + a.state.behind
				if err := a.saveState(); err != nil {
					b.Fatal(err)
				}
				if size += a.state.size + a.state.behind; !whole {
					size -= before
				}
			}
			b.ReportMetric(float64(size)/float64(b.N), "bytes/op")
		})
	}
}
