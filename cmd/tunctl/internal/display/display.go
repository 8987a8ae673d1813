// Package display has the screens of tunctl that go on until the user ends them: top, with keys to
// press, and a status that is shown again and again.
//
// On a terminal they take all of it and give it back; elsewhere they write one text, or one line of
// JSON, after the other. The package asks nobody by itself and knows no flags: how to ask, and what
// a status looks like, it is told. Tables are drawn by internal/screen, and rates computed by
// internal/live.
//
// One display runs at a time, in the goroutine that called it. Ask is also called by another one.
package display

import (
	"context"
	"io"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/screen"
)

// minInterval keeps a display from being a load on the instances.
const minInterval = 100 * time.Millisecond

// CheckPace refuses, as usage, an interval that is too short and a negative number of looks.
func CheckPace(interval time.Duration, count int) error {
	if interval < minInterval {
		return exit.Usage("--interval %v is less than %v", interval, minInterval)
	}
	if count < 0 {
		return exit.Usage("--count %d is less than 0", count)
	}
	return nil
}

// Screen is where a display goes, and what it shows.
type Screen struct {
	In       io.Reader
	Out, Err io.Writer
	Now      func() time.Time
	// Measure asks the terminal for its size again, in columns and lines; nil: it does not change.
	Measure func() (width, height int)

	Style    screen.Style // its Width is that of the terminal; 0: Out is no terminal
	Height   int          // of the terminal, in lines
	Dumb     bool         // the terminal has no cursor to move
	JSON     bool         // lines of JSON, for programs
	Interval time.Duration
	Count    int // looks after which the display ends; 0: none

	// Ask asks the instances. The answer is what there was to know in spite of the failures.
	Ask func(context.Context) (control.Status, []error)
	// Explain says what a failure means for the user.
	Explain func(error) string
}

// full reports whether the display takes the whole terminal.
func (s *Screen) full() bool { return s.Style.Width > 0 && !s.JSON && !s.Dumb }
