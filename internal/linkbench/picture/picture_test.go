package picture

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	xfont "golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"

	"tund/internal/linkbench/result"
)

// worst is a report that fills the picture: long names, great numbers, and a row without figures.
func worst() *result.Report {
	r := &result.Report{
		Schema: result.Schema, Time: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Kernel: strings.Repeat("6.18.44-amd64", 3),
		Processor: "AMD EPYC 9755 128-Core Processor (family 26, model 2)", CPUs: 256, Tund: "1.2.3-45-gabcdef go1.26.8", Rounds: 99, Seconds: 0.05, Background: 1,
	}
	big := func(v float64) *result.Figure { return &result.Figure{Median: v, Least: v, Most: v} }
	for n, group := range []result.Group{result.Kernel, result.Copied, result.Tund, result.Kernel} {
		v := 100 * float64(n+1)
		r.Rows = append(r.Rows, result.Row{Name: fmt.Sprintf("tun-offload%d", n), Group: group, State: result.Measured,
			Gbps: big(v), CPUPerGB: big(v / 1e3), KPPS: big(9999 * v / 400), P50: big(99999), P99: big(999999)})
	}
	r.Rows = append(r.Rows, result.Row{Name: "geneve", Group: result.Kernel, State: result.Absent, Why: "not in this kernel: <&> " + strings.Repeat("word ", 60)})
	return r
}

// box is where something was drawn.
type box struct {
	what         string
	x, y, x2, y2 float64
}

// recorder is a canvas that remembers where text is. It measures in bold, which is wider.
type recorder struct {
	face  xfont.Face
	texts []box
	all   []box
}

func (r *recorder) rectangle(x, y, w, h float64, _ color.RGBA) {
	r.all = append(r.all, box{"rectangle", x, y, x + w, y + h})
}

func (r *recorder) text(x, y float64, words string, f font) {
	w := float64(xfont.MeasureString(r.face, words)) / 64 * f.size / 100
	b := box{words, x, y - 0.75*f.size, x + w, y + 0.2*f.size}
	r.texts, r.all = append(r.texts, b), append(r.all, b)
}

func TestPicture_nothingOverlapsOrLeavesIt(t *testing.T) {
	t.Parallel()
	outlines, err := opentype.Parse(gobold.TTF)
	if err != nil {
		t.Fatal(err)
	}
	face, err := opentype.NewFace(outlines, &opentype.FaceOptions{Size: 100, DPI: 72})
	if err != nil {
		t.Fatal(err)
	}
	report := worst()
	c := &recorder{face: face}
	lay(c, report)
	for n, a := range c.texts {
		for _, b := range c.texts[n+1:] {
			if a.x < b.x2 && b.x < a.x2 && a.y < b.y2 && b.y < a.y2 {
				t.Errorf("%q overlaps %q", a.what, b.what)
			}
		}
	}
	for _, b := range c.all {
		if b.x < 0 || b.y < 0 || b.x2 > width || b.y2 > height(len(report.Rows)) {
			t.Errorf("%+v leaves the picture of %v by %v", b, width, height(len(report.Rows)))
		}
	}
	if len(c.texts) < 4*len(columnsOf) {
		t.Errorf("only %d texts", len(c.texts))
	}
}

func TestSVG_isWellFormedAndComplete(t *testing.T) {
	t.Parallel()
	report := worst()
	svg := SVG(report)
	var words strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			words.Write(text)
		}
	}
	for _, want := range []string{"tun-offload0", "geneve", "not in this kernel: <&>", "9999", report.Processor, "Gbit/s"} {
		if !strings.Contains(words.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if !bytes.Equal(svg, SVG(report)) {
		t.Error("two drawings of a report differ")
	}
}

func TestPNG(t *testing.T) {
	t.Parallel()
	report := worst()
	data, err := PNG(report)
	if err != nil {
		t.Fatal(err)
	}
	p, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Rect(0, 0, int(scale*width), int(scale*height(5))); p.Bounds() != want {
		t.Errorf("%v, not %v", p.Bounds(), want)
	}
	seen := make(map[color.Color]bool)
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			seen[p.At(x, y)] = true
		}
	}
	for group, want := range groupColors {
		if !seen[want] {
			t.Errorf("no bar of %s", group)
		}
	}
	if p.At(0, 0) != (color.RGBA{255, 255, 255, 255}) {
		t.Error("the background is not white")
	}
}

// A report without a single figure is drawn as well.
func TestPicture_empty(t *testing.T) {
	t.Parallel()
	r := &result.Report{Rows: []result.Row{{Name: "geneve", State: result.Absent, Why: "not in this kernel"}}}
	if _, err := PNG(r); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(SVG(r), []byte("not in this kernel")) {
		t.Error("no reason")
	}
}
