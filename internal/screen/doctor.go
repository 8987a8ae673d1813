package screen

import (
	"fmt"
	"strings"

	"tund/internal/doctor"
)

// Doctor writes what was found about instances: for each finding that matters the cause, the
// evidence and the remedy, and the checks that found nothing in one line, or in one line each if
// all is to be shown.
func (s *Page) Doctor(reports []doctor.Report) {
	for n := range reports {
		if n > 0 {
			s.WriteByte('\n')
		}
		s.report(&reports[n])
	}
}

func (s *Page) report(r *doctor.Report) {
	worst, text := r.Worst, "nothing is wrong"
	switch worst {
	case doctor.Note: // all is well, and there is something to know
		worst = doctor.OK
	case doctor.Unseen:
		text += " with what could be looked at"
	}
	mark, colour := s.severity(worst)
	count := make(map[doctor.Severity]int)
	for i := range r.Findings {
		count[r.Findings[i].Severity]++
	}
	switch {
	case count[doctor.Problem] > 0 && count[doctor.Warning] > 0:
		text = Plural(count[doctor.Problem], "problem") + ", " + Plural(count[doctor.Warning], "warning")
	case count[doctor.Problem] > 0:
		text = Plural(count[doctor.Problem], "problem")
	case count[doctor.Warning] > 0:
		text = Plural(count[doctor.Warning], "warning")
	}
	s.WriteString(s.Paint(colour, mark) + " " + s.Paint(Bold, s.Clean(r.Name)) + ": " + text + "\n")
	var fine []string
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Severity == doctor.OK && !s.all {
			fine = append(fine, f.Check)
			continue
		}
		s.finding(f)
	}
	if len(fine) > 0 {
		s.WriteByte('\n')
		s.WriteString("  " + s.glyph("✓", "ok:") + " ")
		s.line(4, 4, "nothing found by: "+strings.Join(fine, ", "))
	}
}

// finding writes one finding, its evidence and remedy indented below it.
func (s *Page) finding(f *doctor.Finding) {
	mark, colour := s.severity(f.Severity)
	head := fmt.Sprintf("%s: ", f.Check)
	if f.Severity != doctor.OK {
		s.WriteByte('\n')
		head = fmt.Sprintf("%s (%s): ", f.Check, f.Severity)
	}
	if f.Subject != "" {
		head += s.Clean(f.Subject) + ": "
	}
	s.WriteString("  " + s.Paint(colour, mark) + " ")
	s.line(3+columns(mark), 4, head+s.Clean(f.Cause))
	for _, part := range []struct{ title, text string }{{"seen", f.Evidence}, {"do", f.Remedy}} {
		if part.text != "" {
			s.WriteString("    " + s.Paint(Dim, fmt.Sprintf("%-5s", part.title)))
			s.line(9, 9, s.Clean(part.text))
		}
	}
}

// severity returns the mark and the colour of a severity.
func (s Style) severity(v doctor.Severity) (string, Paint) {
	switch v {
	case doctor.Problem:
		return s.glyph("✗", "x"), Red
	case doctor.Warning:
		return "!", Yellow
	case doctor.Note:
		return "-", Plain
	case doctor.Unseen:
		return "?", Dim
	}
	return s.glyph("✓", "ok"), Green
}
