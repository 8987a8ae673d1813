package screen

import (
	"fmt"
	"strconv"

	"tund/internal/linkbench/result"
)

// Bench adds a comparison of network devices: the machine, a table, and why rows have no figures.
func (s *Page) Bench(r *result.Report) {
	tund := ""
	if r.Tund != "" {
		tund = ", tund " + r.Tund
	}
	s.line(0, 2, s.Clean(fmt.Sprintf("%s, %s, Linux %s%s", r.Processor, Plural(r.CPUs, "CPU"), r.Kernel, tund)))
	s.line(0, 2, fmt.Sprintf("medians of %s of %.3g s for each value; CPU time is that of the whole machine", Plural(r.Rounds, "round"), r.Seconds))
	if doubt := r.Doubt(); doubt != "" {
		s.line(0, 2, s.Paint(Yellow, "!")+" "+doubt)
	}
	s.WriteByte('\n')
	micro := s.glyph("µs", "us")
	t := table{columns: []column{
		{title: "ROW"}, {title: "GBIT/S", right: true}, {title: "CPU S/GB", right: true}, {title: "KPACKETS/S", right: true},
		{title: "P50 " + micro, right: true}, {title: "P99 " + micro, right: true}, {title: "CLAIMS", right: true, drop: 2},
		{title: "MTU", right: true, drop: 3}, {title: "PATH", min: 12, drop: 4}, {title: "USE", min: 12, drop: 5},
	}}
	for n := range r.Rows {
		row := &r.Rows[n]
		if row.State != result.Measured {
			none := s.glyph("–", "-")
			t.add(cell{text: row.Name, paint: Dim}, cell{text: none}, cell{text: none}, cell{text: none}, cell{text: none}, cell{text: none},
				cell{text: none}, cell{text: none}, cell{text: row.Path, paint: Dim}, cell{text: row.Use, paint: Dim})
			continue
		}
		t.add(cell{text: row.Name, paint: Bold}, cell{text: figure(row.Gbps)}, cell{text: figure(row.CPUPerGB)}, cell{text: figure(row.KPPS)},
			cell{text: figure(row.P50)}, cell{text: figure(row.P99)}, cell{text: s.claimed(row.ClaimedMbit)},
			cell{text: strconv.Itoa(row.MTU)}, cell{text: row.Path}, cell{text: row.Use})
	}
	t.write(&s.Buffer, s.Style, 0)
	for n := range r.Rows {
		if row := &r.Rows[n]; row.State != result.Measured {
			s.line(0, 2, s.Paint(Yellow, "!")+" "+row.Name+": "+s.Clean(row.Why))
		}
	}
}

// figure writes the median with three digits.
func figure(f *result.Figure) string {
	if f == nil {
		return ""
	}
	return result.Digits(f.Median)
}

// claimed writes the speed that a device says it has.
func (s *Page) claimed(mbit *int) string {
	if mbit == nil {
		return s.glyph("–", "-")
	}
	return strconv.Itoa(*mbit) + " Mb/s"
}
