package view

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tund/internal/registry/record"
)

// lan makes a site carry frames of VLANs; as a replicator it passes on what leaves flood.
func (n *network) lan(i int, serial uint64, replicator bool, vlans ...uint16) {
	n.t.Helper()
	n.grant(i, 1, func(g *record.Grant) { g.VLANs = vlans })
	n.record(i, serial, func(r *record.Record) {
		r.VLANs, r.Capabilities = vlans, []string{record.CapEthernet}
		if replicator {
			r.Capabilities = append(r.Capabilities, record.CapReplicator)
		}
	})
}

// floods lists the peers to which a site floods, and the replicators that it sees.
func floods(d *Decision) string {
	var to []string
	for _, p := range d.Peers {
		if p.Values["bum"] != false {
			to = append(to, fmt.Sprint(p.Values["name"]))
		}
	}
	return strings.Join(to, " ") + " | " + strings.Join(d.Replicators, " ")
}

func TestView_oneReplicatorForEachVLAN(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 6) // all grants are of one age, so the lower number precedes
	n.lan(0, 2, false, 10, 20)
	n.lan(1, 2, true, 10)
	n.lan(2, 2, true, 10)
	n.lan(3, 2, true, 20)
	n.lan(4, 2, true, 20, 10)
	n.lan(5, 2, false, 10, 20)
	up := func(sites ...int) {
		for key := range n.values {
			if strings.HasSuffix(key, "/up") {
				delete(n.values, key)
			}
		}
		for _, i := range sites {
			n.values["site/"+siteOf(i).ID()+"/up"] = []byte("{}")
		}
	}
	views := make([]*View, 6)
	for i := range views {
		views[i] = New(Options{Trust: trust, Self: siteOf(i), Ethernet: true, Leases: true, Leaf: i == 0 || i == 5, Replicator: i > 0 && i < 5})
	}
	expect := func(when string, want ...string) {
		t.Helper()
		for i, v := range views {
			if want[i] == "-" {
				continue
			}
			if err := v.List(n.values, noon); err != nil {
				t.Fatal(err)
			}
			d := v.Decide(noon)
			if got := floods(&d); got != want[i] {
				t.Errorf("%s, site %d floods to %q, want %q", when, i, got, want[i])
			}
		}
	}
	leaf := "site-1 site-3 | site-1 site-3"
	up(0, 1, 2, 3, 4, 5)
	expect("with all", leaf, "site-0 site-2 site-3 site-4 site-5 | site-1 site-3", leaf,
		"site-0 site-1 site-2 site-4 site-5 | site-1 site-3", leaf, leaf)
	up(0, 2, 3, 4, 5)
	leaf = "site-2 site-3 | site-2 site-3"
	expect("without the first", leaf, leaf, "site-0 site-1 site-3 site-4 site-5 | site-2 site-3",
		"site-0 site-1 site-2 site-4 site-5 | site-2 site-3", leaf, leaf)
	up()
	leaf = "site-1 site-3 | site-1 site-3"
	expect("with a store that shows nobody", leaf, "-", "-", "-", "-", leaf)
	up(0, 1, 2, 3, 4, 5)
	n.revoke(1, 1)
	n.lan(3, 3, false, 20)
	leaf = "site-2 | site-2"
	expect("with the first revoked, and the third no more one", leaf, "-", "site-0 site-3 site-4 site-5 | site-2", leaf, leaf, leaf)

	// A change of who is present, by itself.
	key := "site/" + siteOf(2).ID() + "/up"
	views[0].Gone(key, noon)
	if d := views[0].Decide(noon); !slices.Equal(d.Replicators, []string{"site-4"}) {
		t.Errorf("once the elected one is away: %q", d.Replicators)
	}
	if err := views[0].Put(key, []byte("{}"), noon); err != nil {
		t.Fatal(err)
	}
	if d := views[0].Decide(noon); !slices.Equal(d.Replicators, []string{"site-2"}) {
		t.Errorf("once it is back: %q", d.Replicators)
	}
}
