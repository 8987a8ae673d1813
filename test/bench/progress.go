package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress shows where a run is: one line that is rewritten on a terminal, a line per measurement
// elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	total    int
	done     int
	began    time.Time
	now      string
}

func (p *progress) start(total int) {
	p.total, p.began = total, time.Now()
}

// begin says what is being measured.
func (p *progress) begin(where, contender, name string) {
	p.now = fmt.Sprintf("%s · %s · %s", where, contender, name)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\033[K[%d/%d] %s …%s", p.done+1, p.total, p.now, p.remaining())
	}
}

// end says what came out.
func (p *progress) end(c *benchCase, r result) {
	p.done++
	clear := ""
	if p.terminal {
		clear = "\r\033[K"
	}
	fmt.Fprintf(p.w, "%s[%d/%d] %s: %s%s\n", clear, p.done, p.total, p.now, outcome(c, r), p.remaining())
}

// note says something between measurements.
func (p *progress) note(format string, args ...any) {
	fmt.Fprintf(p.w, format+"\n", args...)
}

// remaining extrapolates from the measurements done.
func (p *progress) remaining() string {
	if p.done == 0 || p.done >= p.total {
		return ""
	}
	left := time.Since(p.began) / time.Duration(p.done) * time.Duration(p.total-p.done)
	return fmt.Sprintf(" (about %v left)", left.Round(time.Second))
}

// outcome is a result in a few words: its first two metrics, or its error.
func outcome(c *benchCase, r result) string {
	if r.Error != "" {
		return "failed: " + r.Error
	}
	var parts []string
	for _, m := range c.metrics[:min(2, len(c.metrics))] {
		if v, ok := r.Metrics[m.name]; ok {
			parts = append(parts, fmt.Sprintf("%.*f %s", m.digits, v, m.unit))
		}
	}
	return strings.Join(parts, ", ")
}
