package screen

import (
	"fmt"
	"strconv"

	"tund/internal/control"
)

// Sources writes what belongs to whom in each instance.
func (s *Page) Sources(instances []control.SourceTable) {
	for n, i := range instances {
		if n > 0 {
			s.WriteByte('\n')
		}
		fmt.Fprintf(s, "%s\n", s.Paint(Bold, s.Clean(i.Name)))
		t := table{columns: []column{
			{title: "SOURCE"}, {title: "PEERS", right: true}, {title: "SHADOWED", right: true, drop: 2}, {title: "REFUSED", right: true},
			{title: "CHANGED", right: true}, {title: "GENERATION", right: true, drop: 1}, {title: "EPOCH", drop: 3},
			{title: "MACS", right: true, drop: 4}, {title: "NEIGHBOURS", right: true, drop: 5},
		}}
		for _, source := range i.Sources {
			generation, refused := "-", cell{text: strconv.Itoa(source.Rejected)}
			if source.Generation != 0 || source.Epoch != "" {
				generation = strconv.FormatUint(source.Generation, 10)
			}
			if source.Rejected > 0 {
				refused.paint = Yellow
			}
			t.add(cell{text: s.Clean(source.Name), paint: Bold}, cell{text: strconv.Itoa(source.Peers)},
				cell{text: strconv.Itoa(source.Shadowed)}, refused, cell{text: since(source.Applied.Time, s.now)},
				cell{text: generation}, cell{text: s.Clean(source.Epoch)}, cell{text: strconv.Itoa(source.FDB)}, cell{text: strconv.Itoa(source.Neighbors)})
		}
		t.write(&s.Buffer, s.Style, 2)
	}
}
