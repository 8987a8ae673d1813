package display

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tund/internal/control"
	"tund/internal/screen"
)

// Watch shows instances again and again as draw draws them, until it is interrupted. An instance
// that goes away, or comes, is shown as it is then: whoever watches a restart wants to see its end.
// Only an output that fails is an error.
func (s *Screen) Watch(ctx context.Context, draw func(screen.Style, control.Status) []byte) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	view := view{Screen: s, draw: draw}
	view.open()
	defer view.close()
	again := time.NewTicker(s.Interval)
	defer again.Stop()
	for n := 1; ; n++ {
		err := view.look(ctx)
		if ctx.Err() != nil {
			return nil // interrupted: the answer may be a broken one
		}
		if err != nil || n == s.Count {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// view is where looks go: the whole terminal, or one text after the other.
type view struct {
	*Screen
	draw func(screen.Style, control.Status) []byte
	last []byte // what the terminal shows
}

// Escape sequences of xterm and everything like it (ECMA-48, and DECSET 25 and 1049).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func (v *view) open() {
	if v.full() {
		_, _ = v.Out.Write([]byte(enterScreen)) // what is wrong shows at the first look
	}
}

// close gives the terminal back, with the last look left on it.
func (v *view) close() {
	if v.full() {
		_, _ = v.Out.Write(append([]byte(leaveScreen), v.last...))
	}
}

// look asks and shows once. Only an output that fails is an error.
func (v *view) look(ctx context.Context) error {
	if v.full() && v.Measure != nil {
		if width, height := v.Measure(); width > 0 {
			v.Style.Width, v.Height = width, height
		}
	}
	document, failures := v.Ask(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if v.JSON {
		line, err := json.Marshal(document)
		if err == nil {
			_, err = v.Out.Write(append(line, '\n'))
		}
		v.complain(failures)
		return err
	}
	var b bytes.Buffer
	b.Write(v.draw(v.Style, document))
	if !v.full() {
		_, err := fmt.Fprintf(v.Out, "%s\n%s\n", v.Now().Format(time.RFC3339), b.Bytes())
		v.complain(failures)
		return err
	}
	s := v.Style
	for _, err := range failures {
		b.WriteString(s.Wrap(s.Paint(screen.Red, s.Clean(v.Explain(err))), 0, 2) + "\n")
	}
	v.last = b.Bytes()
	_, err := v.Out.Write(v.frame(s))
	return err
}

// complain prints failures where they do not disturb the looks.
func (v *view) complain(failures []error) {
	for _, err := range failures {
		fmt.Fprintln(v.Err, "tunctl: "+v.Explain(err))
	}
}

// frame is the last look, cut to the height of the terminal and drawn over the one before.
func (v *view) frame(s screen.Style) []byte {
	height := v.Height
	lines := strings.Split(strings.TrimSuffix(string(v.last), "\n"), "\n")
	foot := fmt.Sprintf("every %v, %s - Ctrl-C ends", v.Interval, v.Now().Format(time.TimeOnly))
	if room := height - 1; height > 1 && len(lines) > room {
		foot = fmt.Sprintf("%s more - %s", screen.Plural(len(lines)-room, "line"), foot)
		lines = lines[:room]
	}
	lines = append(lines, s.Paint(screen.Dim, s.Cut(foot, s.Width)))
	return []byte(home + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow)
}
