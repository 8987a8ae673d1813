package screen

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
		s.blocked(instance.Blocked)
		s.entries(instance.FDB)
	}
}

// sourceColumn is the place of the column SOURCE, which is there when an agent has assigned hosts.
const sourceColumn = 5

// entries writes one row per entry, by port, then VLAN, then MAC.
func (s *Page) entries(entries []control.FDBEntry) {
	if len(entries) == 0 {
		return
	}
	assigned := slices.ContainsFunc(entries, func(e control.FDBEntry) bool { return e.Source != "" })
	t := table{columns: []column{
		{title: "MAC"}, {title: "VLAN", right: true}, {title: "PORT", min: 12}, {title: "BEHIND", min: 12, drop: 3}, {title: "KIND"},
		{title: "AGE", right: true, drop: 2}, {title: "MOVES", right: true, drop: 5}, {title: "IP", min: 8, drop: 4}, {title: "NOTE", drop: 1},
	}}
	if assigned {
		t.columns = slices.Insert(t.columns, sourceColumn, column{title: "SOURCE", drop: 4})
	}
	list := slices.Clone(entries)
	slices.SortStableFunc(list, func(a, b control.FDBEntry) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.VLAN, b.VLAN), cmp.Compare(a.MAC, b.MAC))
	})
	for _, e := range list {
		old := "-"
		if e.Kind != "static" && e.Source == "" {
			old = age(seconds(e.AgeS))
		}
		row := []cell{{text: s.Clean(e.MAC)}, {text: fdbVLAN(e.VLAN)}, {text: s.Clean(e.Port), paint: Bold},
			{text: s.Clean(e.BridgePort)}, {text: s.Clean(e.Kind)}, {text: old}, {text: strconv.Itoa(e.Moves)},
			{items: e.IPs}, fdbNote(e)}
		if assigned {
			row = slices.Insert(row, sourceColumn, cell{text: cmp.Or(s.Clean(e.Source), "-")})
		}
		t.add(row...)
	}
	t.write(&s.Buffer, s.Style, 2)
}

// fdbVLAN names the VLAN of an entry.
func fdbVLAN(vlan int) string {
	switch vlan {
	case 0:
		return "untagged"
	case control.AllVLANs:
		return "all"
	}
	return strconv.Itoa(vlan)
}

func fdbNote(e control.FDBEntry) cell {
	var notes []string
	if e.Frozen {
		note := "frozen"
		if e.FrozenS > 0 {
			note += " " + age(seconds(e.FrozenS))
		}
		notes = append(notes, note)
	}
	if e.Sticky {
		notes = append(notes, "sticky")
	}
	if e.Blocked {
		notes = append(notes, "blocked")
	}
	return cell{text: strings.Join(notes, ", "), paint: Yellow}
}

// blocked names the ports that the loop guard has blocked.
func (s *Page) blocked(ports []control.BlockedPort) {
	for _, p := range ports {
		vlan := "VLAN " + fdbVLAN(p.VLAN)
		switch p.VLAN {
		case 0:
			vlan = "untagged"
		case control.AllVLANs:
			vlan = "all VLANs"
		}
		s.WriteString("  ")
		s.line(2, 4, s.Clean(p.Port)+" is blocked by the loop guard ("+vlan+")")
	}
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
	if n := kinds["control"]; n > 0 {
		text += fmt.Sprintf(", %d of an agent", n)
	}
	if frozen > 0 {
		text += fmt.Sprintf(", %d frozen", frozen)
	}
	return text
}
