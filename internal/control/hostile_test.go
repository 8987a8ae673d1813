package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/internal/events"
	"tund/internal/rundir"
	"tund/internal/unixsock/unixsocktest"
)

// impostor answers at the control socket of an instance, whatever is asked, until the test ends.
func impostor(t *testing.T, dir, name string, answer func(net.Conn)) *Client {
	t.Helper()
	path := rundir.ControlSocket(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the caller hangs up
				defer conn.Close()
				var request [4096]byte
				if _, err := conn.Read(request[:]); err == nil {
					answer(conn)
				}
			}()
		}
	}()
	return NewClient(dir, name)
}

// repeat writes text until the reader is gone.
func repeat(w io.Writer, text string, pause time.Duration) {
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func TestClient_neverWaitsForeverOrTrusts(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	const ok = "HTTP/1.1 200 OK\r\n\r\n"
	for _, test := range []struct {
		name   string
		answer func(net.Conn)
		// Whether it counts as one that cannot be reached, and what is said about it.
		silent         bool
		status, events string
	}{
		{"silent", func(w net.Conn) { _, _ = io.Copy(io.Discard, w) }, true, "no answer in time", "no answer in time"},
		{"slow-header", func(w net.Conn) { repeat(w, "H", time.Millisecond) }, true, "no answer in time", "no answer in time"},
		{"slow", func(w net.Conn) { _, _ = io.WriteString(w, ok); repeat(w, " ", time.Millisecond) }, true, "no answer in time", ""},
		{"noise", func(w net.Conn) { _, _ = io.WriteString(w, "\x00\xff nothing\r\n") }, false, "socket of another program?", "socket of another program?"},
		{"other-json", func(w net.Conn) { _, _ = io.WriteString(w, ok+"[1, 2") }, false, "of the same version?", "of the same version?"},
		{"proxy", func(w net.Conn) { _, _ = io.WriteString(w, "HTTP/1.1 502 B\x1b[2J\r\n\r\n") }, false, `"502 B\x1b[2J" (are`, `"502 B\x1b[2J" (are`},
		{"hangs-up", func(net.Conn) {}, true, "(was it stopped?)", "(was it stopped?)"},
		{"redirects", func(w net.Conn) { _, _ = io.WriteString(w, "HTTP/1.1 302 x\r\nLocation: http://elsewhere/\r\n\r\n") }, false, `"302 x"`, `"302 x"`},
		{"long-line", func(w net.Conn) { _, _ = io.WriteString(w, ok); repeat(w, strings.Repeat("x", 1<<16), 0) }, false, "", "more than 65536 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := impostor(t, dir, test.name, test.answer)
			// The others answer, or hang up, when they come to it.
			if test.status == "no answer in time" {
				c.patience = 50 * time.Millisecond
			}
			check := func(what, want string, err error) {
				var dial *DialError
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), c.socket) {
					t.Errorf("%s: %v, want %q", what, err, want)
				}
				if test.silent && !errors.As(err, &dial) {
					t.Errorf("%s: %v is not about somebody out of reach", what, err)
				}
			}
			if test.status != "" {
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				_, err := c.Status(ctx)
				check("status", test.status, err)
			}
			if test.events != "" {
				check("events", test.events, c.Follow(t.Context(), nil, nil, func(*events.Event, []byte) error { return nil }))
				_, err := c.Capture(t.Context(), CaptureRequest{})
				if test.silent {
					check("capture", test.events, err)
				}
			}
		})
	}
}

// An answer that does not say that a change was made is no success.
func TestClient_believesNoChangeThatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	for name, body := range map[string]string{"empty": "", "nothing": "{}", "part": `{"ok": tr`, "other": `{"ok": false}`} {
		c := impostor(t, dir, name, func(w net.Conn) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n"+body) })
		for what, err := range map[string]error{
			"reload": c.Reload(t.Context(), 0), "confirm": c.Confirm(t.Context()), "level": c.SetLogLevel(t.Context(), "info"),
			"pin": c.PinFDB(t.Context(), FDBPin{}), "peer": c.ChangePeer(t.Context(), PeerChange{}),
		} {
			if err == nil || !strings.Contains(err.Error(), "of the same version?") {
				t.Errorf("%s answered with %q: %v", what, body, err)
			}
		}
	}
}
