package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"tund/internal/screen"
)

// minInterval keeps --watch from being a load on the instance.
const minInterval = 100 * time.Millisecond

// watchStatus shows the status again and again, until it is interrupted. An instance that goes
// away, or comes, is shown as it is then: whoever watches a restart wants to see its end.
func (a *app) watchStatus(ctx context.Context, peer string) error {
	if a.interval < minInterval {
		return usage("--interval %v is less than %v", a.interval, minInterval)
	}
	if a.count < 0 {
		return usage("--count %d is less than 0", a.count)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	view := view{app: a, full: a.env.width > 0 && !a.json && a.env.getenv("TERM") != "dumb"}
	view.open()
	defer view.close()
	again := time.NewTicker(a.interval)
	defer again.Stop()
	for n := 1; ; n++ {
		err := view.look(ctx, peer)
		if ctx.Err() != nil {
			return nil // interrupted: the answer may be a broken one
		}
		if err != nil || n == a.count {
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
	app  *app
	full bool
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
	if v.full {
		_, _ = v.app.env.stdout.Write([]byte(enterScreen)) // what is wrong shows at the first look
	}
}

// close gives the terminal back, with the last look left on it.
func (v *view) close() {
	if v.full {
		_, _ = v.app.env.stdout.Write(append([]byte(leaveScreen), v.last...))
	}
}

// look asks and shows once. Only an output that fails is an error.
func (v *view) look(ctx context.Context, peer string) error {
	a := v.app
	if v.full && a.env.measure != nil {
		if width, height := a.env.measure(); width > 0 {
			a.env.width, a.env.height = width, height
		}
	}
	document, failures, err := a.askStatus(ctx, peer)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		failures = append(failures, err)
	}
	if a.json {
		line, err := json.Marshal(document)
		if err == nil {
			_, err = a.env.stdout.Write(append(line, '\n'))
		}
		v.complain(failures)
		return err
	}
	var b bytes.Buffer
	b.Write(a.drawStatus(document, peer).Bytes())
	if !v.full {
		_, err := fmt.Fprintf(a.env.stdout, "%s\n%s\n", a.env.now().Format(time.RFC3339), b.Bytes())
		v.complain(failures)
		return err
	}
	s, _ := a.env.style(a.color) // checked before
	for _, err := range failures {
		b.WriteString(s.Wrap(s.Paint(screen.Red, s.Clean(a.explain(err).text)), 0, 2) + "\n")
	}
	v.last = b.Bytes()
	_, err = a.env.stdout.Write(v.frame(s))
	return err
}

// complain prints failures where they do not disturb the looks.
func (v *view) complain(failures []error) {
	for _, err := range failures {
		fmt.Fprintln(v.app.env.stderr, "tunctl: "+v.app.explain(err).text)
	}
}

// frame is the last look, cut to the height of the terminal and drawn over the one before.
func (v *view) frame(s screen.Style) []byte {
	height := v.app.env.height
	lines := strings.Split(strings.TrimSuffix(string(v.last), "\n"), "\n")
	foot := fmt.Sprintf("every %v, %s - Ctrl-C ends", v.app.interval, v.app.env.now().Format(time.TimeOnly))
	if room := height - 1; height > 1 && len(lines) > room {
		foot = fmt.Sprintf("%s more - %s", screen.Plural(len(lines)-room, "line"), foot)
		lines = lines[:room]
	}
	lines = append(lines, s.Paint(screen.Dim, s.Cut(foot, v.app.env.width)))
	return []byte(home + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow)
}
