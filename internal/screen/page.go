// Package screen formats the answers of the control API for people: problems first, and tables
// fitted to the terminal, in the colours and characters that it supports.
//
// It turns values into text. It makes no requests, keeps nothing between pages, and computes no
// rates. Text from elsewhere, such as the name of a peer, cannot send escape sequences to the
// terminal.
package screen

import (
	"bytes"
	"strings"
	"time"
)

// Page is text under construction. It is for one goroutine.
type Page struct {
	bytes.Buffer
	Style
	now time.Time
	all bool // cut nothing
}

// NewPage begins a page. Ages are relative to now. On a terminal, long lists are cut unless all is
// set; output to a file or a program is never cut.
func NewPage(s Style, now time.Time, all bool) *Page { return &Page{Style: s, now: now, all: all} }

// line completes the current line, which has reached column at, with text, wrapped if necessary;
// the lines that follow are indented by later columns.
func (s *Page) line(at, later int, text string) {
	if strings.HasPrefix(text, " ") {
		s.WriteByte(' ')
		at++
	}
	s.WriteString(s.Wrap(strings.TrimSpace(text), at, later))
	s.WriteByte('\n')
}

// items is a cell that shows as many elements of a list as fit.
func (s *Page) items(list []string) cell {
	clean := make([]string, len(list))
	for n, item := range list {
		clean[n] = s.Clean(item)
	}
	return cell{items: clean}
}
