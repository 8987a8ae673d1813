package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake in a configuration file. Msg never quotes a secret.
type Error struct {
	File string // as given to Load
	Line int    // from 1
	Col  int    // in characters, from 1
	Msg  string
}

// Error returns file:line:col: message.
func (e Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// Warning is something in a configuration file that is allowed and probably not meant.
type Warning Error

// String returns file:line:col: warning: message.
func (w Warning) String() string {
	return fmt.Sprintf("%s:%d:%d: warning: %s", w.File, w.Line, w.Col, w.Msg)
}

// Place returns file:line:col.
func (w Warning) Place() string { return fmt.Sprintf("%s:%d:%d", w.File, w.Line, w.Col) }

// Errors are all mistakes of one file, in its order.
type Errors []Error

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

func byPosition(a, b Error) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
}

// sorted returns e in the order of the file, without repetitions.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, byPosition)
	return slices.Compact(e)
}
