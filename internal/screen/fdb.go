package screen

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"tund/internal/control"
)

// FDB writes the forwarding databases of instances.
func (s *Page) FDB(tables []control.FDBInstance) {
	for n, instance := range tables {
		if n > 0 {
			s.WriteByte('\n')
		}
		s.WriteString(s.Paint(Bold, s.Clean(instance.Name)) + "  ")
		if instance.Limit == 0 && len(instance.FDB) == 0 {
			s.line(columns(instance.Name)+2, 2, "no [tap] device, so no FDB")
			continue
		}
		s.line(columns(instance.Name)+2, 2, fdbSummary(instance.FDB, instance.Limit))
		s.entries(instance.FDB)
	}
}

// entries writes one row per entry, by port, then VLAN, then MAC.
func (s *Page) entries(entries []control.FDBEntry) {
	if len(entries) == 0 {
		return
	}
	t := table{columns: []column{
		{title: "MAC"}, {title: "VLAN", right: true}, {title: "PORT", min: 8}, {title: "KIND"},
		{title: "AGE", right: true, drop: 2}, {title: "MOVES", right: true, drop: 1}, {title: "NOTE", drop: 3},
	}}
	list := slices.Clone(entries)
	slices.SortStableFunc(list, func(a, b control.FDBEntry) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.VLAN, b.VLAN), cmp.Compare(a.MAC, b.MAC))
	})
	for _, e := range list {
		vlan, old := "untagged", "-"
		if e.VLAN != 0 {
			vlan = strconv.Itoa(e.VLAN)
		}
		if e.VLAN == control.AllVLANs {
			vlan = "all"
		}
		if e.Kind == "learned" {
			old = age(seconds(e.AgeS))
		}
		note := cell{}
		if e.Frozen {
			note = cell{text: "frozen", paint: Yellow}
		}
		t.add(cell{text: s.Clean(e.MAC)}, cell{text: vlan}, cell{text: s.Clean(e.Port), paint: Bold}, cell{text: s.Clean(e.Kind)},
			cell{text: old}, cell{text: strconv.Itoa(e.Moves)}, note)
	}
	t.write(&s.Buffer, s.Style, 2)
}

// fdbSummary counts entries by kind.
func fdbSummary(entries []control.FDBEntry, limit int) string {
	kinds := make(map[string]int)
	frozen := 0
	for _, e := range entries {
		kinds[e.Kind]++
		if e.Frozen {
			frozen++
		}
	}
	text := fmt.Sprintf("%d of %d entries: %d learned, %d static, %d local", len(entries), limit,
		kinds["learned"], kinds["static"], kinds["local"])
	if frozen > 0 {
		text += fmt.Sprintf(", %d frozen", frozen)
	}
	return text
}
