package picture

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/color"

	"tund/internal/linkbench/result"
)

// SVG draws a report as a document that browsers and editors show.
func SVG(r *result.Report) []byte {
	var s svg
	w, h := width, height(len(r.Rows))
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" `+
		`font-family="Go, Helvetica, Arial, sans-serif" role="img">`+"\n<title>Virtual network devices, and tund</title>\n", w, h, w, h)
	lay(&s, r)
	s.WriteString("</svg>\n")
	return s.Bytes()
}

// svg is a canvas of elements.
type svg struct{ bytes.Buffer }

func (s *svg) rectangle(x, y, w, h float64, c color.RGBA) {
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, w, h, hex(c))
}

func (s *svg) text(x, y float64, words string, f font) {
	more := ""
	if f.bold {
		more += ` font-weight="bold"`
	}
	if f.right {
		more += ` text-anchor="end"`
	}
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%.0f" fill="%s"%s>`, x, y, f.size, hex(f.color), more)
	_ = xml.EscapeText(s, []byte(words)) // a buffer takes everything
	s.WriteString("</text>\n")
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }
