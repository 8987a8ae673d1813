// Package picture draws the figures of a comparison of network devices: a picture with one bar for
// each kind of device and value, as SVG or as PNG.
//
// It takes values and returns bytes. Both formats are drawn by the same layout, so they look alike;
// the pictures depend on nothing outside themselves. Functions are safe for concurrent use.
package picture

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"tund/internal/linkbench/result"
)

// canvas is what a format draws on. Places and lengths are in pixels from the top left corner.
type canvas interface {
	rectangle(x, y, w, h float64, c color.RGBA)
	text(x, y float64, s string, f font)
}

// font is how text looks. y of a text is its base line, and x its left end, or its right end.
type font struct {
	size  float64
	bold  bool
	right bool
	color color.RGBA
}

// The colours, chosen to differ in lightness too.
var (
	white  = color.RGBA{255, 255, 255, 255}
	black  = color.RGBA{28, 32, 38, 255}
	gray   = color.RGBA{92, 100, 112, 255}
	stripe = color.RGBA{244, 246, 248, 255}
	axis   = color.RGBA{200, 205, 212, 255}

	groupColors = map[result.Group]color.RGBA{
		result.Kernel: {91, 127, 166, 255},
		result.Copied: {217, 145, 56, 255},
		result.Tund:   {47, 133, 90, 255},
	}
)

// groupWords explain the colours.
var groupWords = []struct {
	group result.Group
	words string
}{
	{result.Kernel, "the kernel alone"},
	{result.Copied, "a program copies, no encryption"},
	{result.Tund, "tund, encrypted"},
}

// Measures of the layout, in pixels.
const (
	margin    = 24.0
	labels    = 104.0 // column of the names
	panel     = 224.0 // column of one value, with its bar and its number
	number    = 92.0  // room for the number behind the longest bar
	space     = 20.0  // between two columns
	line      = 26.0  // height of a row
	bar       = 14.0
	thinnest  = 1.5   // bar
	head      = 150.0 // above the rows
	foot      = 72.0
	width     = 2*margin + labels + 4*(panel+space)
	bodySize  = 13.0
	titleSize = 20.0
)

// column is one value of the rows.
type column struct {
	title, unit string
	value       func(*result.Row) *result.Figure
	number      func(*result.Row) string
}

var columnsOf = []column{
	{title: "One TCP flow", unit: "Gbit/s, more is better", value: func(r *result.Row) *result.Figure { return r.Gbps },
		number: func(r *result.Row) string { return result.Digits(r.Gbps.Median) }},
	{title: "CPU time of the flow", unit: "seconds per GB, less is better", value: func(r *result.Row) *result.Figure { return r.CPUPerGB },
		number: func(r *result.Row) string { return result.Digits(r.CPUPerGB.Median) }},
	{title: "64-byte UDP without loss", unit: "1000 packets/s, more is better", value: func(r *result.Row) *result.Figure { return r.KPPS },
		number: func(r *result.Row) string { return result.Digits(r.KPPS.Median) }},
	{title: "Round trip: p50 (p99)", unit: "µs, less is better", value: func(r *result.Row) *result.Figure { return r.P50 },
		number: func(r *result.Row) string {
			return result.Digits(r.P50.Median) + " (" + result.Digits(r.P99.Median) + ")"
		}},
}

// height of the picture of a number of rows.
func height(rows int) float64 { return head + line*float64(rows) + foot }

// lay lays a report out on a canvas of width × height.
func lay(c canvas, r *result.Report) {
	c.rectangle(0, 0, width, height(len(r.Rows)), white)
	drawHead(c, r)
	bottom := head + line*float64(len(r.Rows))
	for n := range r.Rows {
		if n%2 == 0 {
			c.rectangle(margin/2, head+line*float64(n), width-margin, line, stripe)
		}
	}
	for n := range columnsOf {
		c.rectangle(columnAt(n)-1, head, 1, bottom-head, axis)
	}
	for n := range r.Rows {
		drawName(c, &r.Rows[n], head+line*float64(n), n%2 == 0)
	}
	for n, col := range columnsOf {
		drawColumn(c, r, col, columnAt(n))
	}
	doubt := ""
	if d := r.Doubt(); d != "" {
		doubt = " In doubt: " + d + "."
	}
	for n, words := range []string{
		fmt.Sprintf("Medians of %s of %.3g s for each value. CPU time is that of the whole machine.%s", counted(r.Rounds, "round"), r.Seconds, doubt),
		"physical is a stand-in for a network card, on which the kernel cuts and joins packets; it carries container, macvlan, " +
			"ipvlan, vlan, vxlan, geneve and tund.",
	} {
		c.text(margin, bottom+30+18*float64(n), words, font{size: bodySize - 1, color: gray})
	}
}

// Lengths of text from elsewhere, in characters that fit in its place.
const (
	whyLength  = 120 // behind the name of a row
	headLength = 120 // below the title
)

// columnAt is where the bars of a column begin.
func columnAt(n int) float64 { return margin + labels + float64(n)*(panel+space) }

// base is the base line of text whose middle is at y.
func base(y float64) float64 { return y + bodySize*0.36 }

// drawName begins a row, and ends it if there are no figures.
func drawName(c canvas, row *result.Row, top float64, striped bool) {
	c.text(margin, base(top+line/2), row.Name, font{size: bodySize, color: black, bold: row.Group == result.Tund})
	if row.State == result.Measured {
		return
	}
	behind := white
	if striped {
		behind = stripe
	}
	c.rectangle(margin+labels, top, width-margin-margin/2-labels, line, behind)
	c.text(margin+labels+4, base(top+line/2), cut(row.Why, whyLength), font{size: bodySize, color: gray})
}

func drawHead(c canvas, r *result.Report) {
	c.text(margin, 38, "Virtual network devices, and tund", font{size: titleSize, bold: true, color: black})
	tund := ""
	if r.Tund != "" {
		tund = ", tund " + r.Tund
	}
	c.text(margin, 62, cut(fmt.Sprintf("%s, %s, Linux %s%s, %s", r.Processor, counted(r.CPUs, "CPU"), r.Kernel, tund,
		r.Time.UTC().Format("2006-01-02")), headLength), font{size: bodySize, color: gray})
	x := margin
	for _, g := range groupWords {
		c.rectangle(x, 77, 12, 12, groupColors[g.group])
		c.text(x+18, 88, g.words, font{size: bodySize, color: black})
		x += 18 + 7*float64(len(g.words)) + 24
	}
}

func drawColumn(c canvas, r *result.Report, col column, x float64) {
	c.text(x, head-26, col.title, font{size: bodySize, bold: true, color: black})
	c.text(x, head-9, col.unit, font{size: bodySize - 1, color: gray})
	most := 0.0
	for n := range r.Rows {
		if v := col.value(&r.Rows[n]); v != nil {
			most = max(most, v.Median)
		}
	}
	if most == 0 {
		return // nothing was measured
	}
	for n := range r.Rows {
		row := &r.Rows[n]
		v := col.value(row)
		if v == nil {
			continue
		}
		y := head + line*float64(n) + (line-bar)/2
		end := math.Max(v.Median/most*(panel-number), thinnest)
		c.rectangle(x, y, end, bar, groupColors[row.Group])
		c.text(x+end+6, base(y+bar/2), col.number(row), font{size: bodySize, color: black})
	}
}

// cut shortens text to a number of characters.
func cut(text string, length int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) <= length {
		return string(runes)
	}
	return string(runes[:length-1]) + "…"
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
