package screen

import (
	"fmt"
	"slices"

	"tund/internal/control"
)

// Routes adds an instance: whether the kernel has the state that the instance wants, first the
// differences, then the rest.
func (s *Page) Routes(i *control.RouteInstance) {
	if s.Len() > 0 {
		s.WriteByte('\n')
	}
	wrong := 0
	for _, o := range i.Objects {
		if o.State != "present" {
			wrong++
		}
	}
	verdict := s.Paint(Green, s.glyph("✓", "ok")+" all there")
	if wrong > 0 {
		verdict = s.Paint(Red, s.glyph("✗", "x")+" "+Plural(wrong, "difference"))
	}
	fmt.Fprintf(s, "%s  %s - %s\n", s.Paint(Bold, s.Clean(i.Name)), verdict, Plural(len(i.Objects), "object"))
	for _, w := range i.Warnings {
		s.WriteString("  ")
		s.line(2, 4, s.Paint(Yellow, "!")+" "+s.Clean(w))
	}
	if len(i.Objects) == 0 {
		return
	}
	t := table{columns: []column{{title: "STATE"}, {title: "KIND"}, {title: "OBJECT", min: 20}}}
	list := slices.Clone(i.Objects)
	slices.SortStableFunc(list, func(x, y control.RouteObject) int { return calm(x) - calm(y) })
	for _, o := range list {
		colour := Plain
		if calm(o) == 0 {
			colour = Red
		}
		t.add(cell{text: s.Clean(o.State), paint: colour}, cell{text: s.Clean(o.Kind)}, cell{text: s.Clean(o.Object)})
	}
	t.write(&s.Buffer, s.Style, 2)
}

// calm is 0 for an object that needs attention, and 1 for the others.
func calm(o control.RouteObject) int {
	if o.State == "present" {
		return 1
	}
	return 0
}
