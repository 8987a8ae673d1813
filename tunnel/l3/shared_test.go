package l3

import (
	"net/netip"
	"slices"
	"testing"
)

var (
	site   = netip.MustParsePrefix("10.20.0.0/16")
	inside = netip.MustParseAddr("10.20.3.4")
)

// shared is a table in which owners 1 and 2 share the site, and 3 has a network within it.
func shared() *Table[int] {
	t := new(Table[int])
	t.Update(func(tx *Tx[int]) {
		tx.Share(site, 1)
		tx.Share(site, 2)
		tx.Share(site, 2)
		tx.Share(netip.MustParsePrefix("10.20.9.0/24"), 3)
	})
	return t
}

func TestTable_sharedPrefixSendsToOneAndAdmitsAll(t *testing.T) {
	t.Parallel()
	table := shared()
	if v, _ := table.Lookup(inside); v != 1 {
		t.Errorf("active is %d, want the first", v)
	}
	for owner, want := range map[int]bool{1: true, 2: true, 3: false, 4: false} {
		if got := table.Admits(inside, owner); got != want {
			t.Errorf("Admits(%d) = %v", owner, got)
		}
		// The longer prefix belongs to another owner alone.
		if got := table.Admits(netip.MustParseAddr("10.20.9.1"), owner); got != (owner == 3) {
			t.Errorf("longer prefix: Admits(%d) = %v", owner, got)
		}
	}
	table.Update(func(tx *Tx[int]) { tx.Choose(slices.Max[[]int]) })
	if v, _ := table.Lookup(inside); v != 2 {
		t.Errorf("active is %d, want the chosen one", v)
	}
	if !table.Admits(inside, 1) {
		t.Error("nothing is accepted from the standby")
	}
	var all []int
	for _, v := range table.All {
		all = append(all, v)
	}
	if !slices.Equal(all, []int{1, 2, 3}) {
		t.Errorf("All: %v", all)
	}
	for owners, active := range table.Shared {
		if !slices.Equal(owners, []int{1, 2}) || active != 2 {
			t.Errorf("Shared: %v, active %d", owners, active)
		}
	}
}

func TestTable_ownersLeaveASharedPrefix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Tx[int])
		active int // 0: nobody
		admits []int
	}{
		{"the active one is removed", func(tx *Tx[int]) { tx.Remove(site, 1) }, 2, []int{2}},
		{"the standby is removed", func(tx *Tx[int]) { tx.Remove(site, 2) }, 1, []int{1}},
		{"a stranger is removed", func(tx *Tx[int]) { tx.Remove(site, 3) }, 1, []int{1, 2}},
		{"one of them is gone", func(tx *Tx[int]) { tx.RemoveOwner(1) }, 2, []int{2}},
		{"both are gone", func(tx *Tx[int]) { tx.RemoveOwner(1); tx.RemoveOwner(2) }, 0, nil},
		{"both are removed", func(tx *Tx[int]) { tx.Remove(site, 2); tx.Remove(site, 1) }, 0, nil},
		{"another takes it for itself", func(tx *Tx[int]) { tx.Insert(site, 3) }, 3, []int{3}},
		{"a third joins", func(tx *Tx[int]) { tx.Share(site, 3); tx.Remove(site, 1) }, 2, []int{2, 3}},
	} {
		table := shared()
		before := table.current.Load()
		table.Update(c.change)
		v, ok := table.Lookup(inside)
		if ok != (c.active != 0) || v != c.active {
			t.Errorf("%s: active is %d, %v", c.name, v, ok)
		}
		for owner := 1; owner < 4; owner++ {
			if got := table.Admits(inside, owner); got != slices.Contains(c.admits, owner) {
				t.Errorf("%s: Admits(%d) = %v", c.name, owner, got)
			}
		}
		// Readers of the old table still see it whole.
		if old := before.shared[site]; !slices.Equal(old, []int{1, 2}) {
			t.Errorf("%s: the published table changed to %v", c.name, old)
		}
	}
}
