package screen

import (
	"bytes"
	"strconv"
	"strings"
)

// gap separates columns.
const gap = "  "

// column describes one column of a table.
type column struct {
	title string
	right bool // numbers
	min   int  // may be shortened to this many columns of the terminal; 0: never shortened
	drop  int  // left out if space is short, the greatest value first; 0: never
	spare bool // left out as soon as another column would have to be shortened for it
}

// cell is one value. With items, it shows as many of them as fit, and how many are left out.
type cell struct {
	text  string
	items []string
	paint Paint
}

// table is a set of rows under titles, fitted to the terminal.
type table struct {
	columns []column
	rows    [][]cell
}

// add appends a row with one cell per column.
func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// write appends the table to b, each line indented.
func (t *table) write(b *bytes.Buffer, s Style, indent int) {
	widths, shown := t.fit(s, indent)
	margin := strings.Repeat(" ", indent)
	heads := make([]cell, len(t.columns))
	for i, c := range t.columns {
		heads[i] = cell{text: c.title, paint: Dim}
	}
	t.writeRow(b, s, margin, heads, widths, shown)
	for _, row := range t.rows {
		t.writeRow(b, s, margin, row, widths, shown)
	}
}

// writeRow appends one line without trailing spaces.
func (t *table) writeRow(b *bytes.Buffer, s Style, margin string, row []cell, widths []int, shown []bool) {
	b.WriteString(margin)
	pending := "" // spaces not written until something follows them
	for i, c := range row {
		if !shown[i] {
			continue
		}
		text := c.fit(s, widths[i])
		pad := strings.Repeat(" ", max(widths[i]-columns(text), 0))
		if t.columns[i].right {
			text, pad = pad+text, ""
		}
		if strings.TrimSpace(text) != "" {
			b.WriteString(pending)
			b.WriteString(s.Paint(c.paint, text))
			pending = ""
		} else {
			pending += text
		}
		pending += pad + gap
	}
	b.WriteByte('\n')
}

// fit decides which columns are shown, and how wide. If not everything fits, spare columns and
// those without a value are removed. Then the flexible columns shrink to their minimum, the widest
// first; if that is not enough, the least important column is removed, and the procedure starts
// again.
func (t *table) fit(s Style, indent int) (widths []int, shown []bool) {
	natural := make([]int, len(t.columns))
	for i, c := range t.columns {
		natural[i] = columns(c.title)
		for _, row := range t.rows {
			natural[i] = max(natural[i], row[i].width())
		}
	}
	shown = make([]bool, len(t.columns))
	for i := range shown {
		shown[i] = true
	}
	if s.Width > 0 && total(natural, shown) > s.Width-indent {
		for i, c := range t.columns {
			shown[i] = !c.spare && !(c.drop > 0 && t.empty(i))
		}
	}
	for {
		widths = append([]int(nil), natural...)
		if s.Width == 0 || t.shrink(widths, shown, s.Width-indent) {
			return widths, shown
		}
		least := 0
		for i, c := range t.columns {
			if shown[i] && c.drop > t.columns[least].drop {
				least = i
			}
		}
		if t.columns[least].drop == 0 {
			return widths, shown // nothing left to give up; the terminal is too narrow for any use
		}
		shown[least] = false
	}
}

// empty reports whether a column has no value in any row.
func (t *table) empty(column int) bool {
	for _, row := range t.rows {
		if c := &row[column]; c.text != "" || len(c.items) > 0 {
			return false
		}
	}
	return true
}

// total is the width of a row.
func total(widths []int, shown []bool) int {
	n := -len(gap)
	for i, w := range widths {
		if shown[i] {
			n += w + len(gap)
		}
	}
	return n
}

// shrink cuts flexible columns until the row fits, and reports whether it does.
func (t *table) shrink(widths []int, shown []bool, room int) bool {
	for need := total(widths, shown); need > room; need-- {
		widest := -1
		for i, c := range t.columns {
			if shown[i] && c.min > 0 && widths[i] > max(c.min, columns(c.title)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// width is the number of columns that the whole cell needs.
func (c cell) width() int {
	if c.items == nil {
		return columns(c.text)
	}
	n := max(len(c.items)-1, 0)
	for _, item := range c.items {
		n += columns(item)
	}
	return n
}

// fit returns the cell's text in at most width columns.
func (c cell) fit(s Style, width int) string {
	if c.items == nil {
		return s.Cut(c.text, width)
	}
	whole := strings.Join(c.items, " ")
	if columns(whole) <= width {
		return whole
	}
	for n := len(c.items) - 1; n > 0; n-- {
		text := strings.Join(c.items[:n], " ") + " +" + strconv.Itoa(len(c.items)-n)
		if columns(text) <= width {
			return text
		}
	}
	return s.Cut(whole, width)
}
