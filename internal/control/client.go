package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tund/internal/rundir"
)

// maxAnswer bounds what the client reads: 16,384 FDB entries and thousands of peers are a few
// megabytes.
const maxAnswer = 64 << 20

// DialError says that nobody answered at a control socket, and why in words. It wraps the cause.
type DialError struct {
	Instance string
	Socket   string
	Err      error
}

// Error names the socket and the cause.
func (e *DialError) Error() string { return fmt.Sprintf("cannot reach %s: %v", e.Socket, e.Err) }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Permission reports whether the caller was not let in.
func (e *DialError) Permission() bool { return errors.Is(e.Err, fs.ErrPermission) }

// Missing reports whether there is no socket at all: the instance was never started, or stopped
// cleanly.
func (e *DialError) Missing() bool { return errors.Is(e.Err, fs.ErrNotExist) }

// Stale reports whether there is a socket that nobody serves: the daemon was killed.
func (e *DialError) Stale() bool { return errors.Is(e.Err, syscall.ECONNREFUSED) }

// Client asks one instance. Each call makes its own connection, so there is nothing to close.
type Client struct {
	instance, socket string
	http             *http.Client
	patience         time.Duration // until a stream begins
}

// NewClient returns a client for an instance below runDir; nothing is contacted yet.
func NewClient(runDir, instance string) *Client {
	return newClient(instance, rundir.ControlSocket(runDir, instance))
}

func newClient(instance, socket string) *Client {
	c := &Client{instance: instance, socket: socket, patience: AnswerTimeout}
	// tund never redirects.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &http.Client{CheckRedirect: stay, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "unix", c.socket)
			if err != nil {
				return nil, &DialError{Instance: instance, Socket: c.socket, Err: bare(err)}
			}
			return conn, nil
		},
	}}
	return c
}

// bare takes the errno out of what package net wrapped around it: the socket is named by DialError
// already.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Instance returns the name of the instance asked.
func (c *Client) Instance() string { return c.instance }

// Status asks GET /v1/status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
	if err == nil && s.Schema != StatusSchema {
		err = fmt.Errorf("%s answers with schema %q, this tunctl understands %q: are tund and tunctl of the same version?",
			c.socket, clip(s.Schema, 40), StatusSchema)
	}
	return s, err
}

// FDB asks GET /v1/fdb.
func (c *Client) FDB(ctx context.Context) (FDBTable, error) {
	var t FDBTable
	err := c.call(ctx, http.MethodGet, "/v1/fdb", nil, &t)
	return t, err
}

// Version asks GET /v1/version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.call(ctx, http.MethodGet, "/v1/version", nil, &v)
	return v, err
}

// Reload asks POST /v1/reload. With a confirm other than 0, the former configuration comes back
// after that time unless Confirm is called.
func (c *Client) Reload(ctx context.Context, confirm time.Duration) error {
	return c.do(ctx, "/v1/reload", reload{confirm.Seconds()})
}

// Confirm asks POST /v1/confirm.
func (c *Client) Confirm(ctx context.Context) error {
	return c.do(ctx, "/v1/confirm", struct{}{})
}

// LogLevel asks GET /v1/log-level.
func (c *Client) LogLevel(ctx context.Context) (string, error) {
	var l logLevel
	err := c.call(ctx, http.MethodGet, "/v1/log-level", nil, &l)
	return l.Level, err
}

// SetLogLevel asks POST /v1/log-level.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	var l logLevel
	err := c.call(ctx, http.MethodPost, "/v1/log-level", logLevel{level}, &l)
	if err == nil && l.Level != level {
		err = c.notDone()
	}
	return err
}

// FlushFDB asks POST /v1/fdb/flush and returns how many entries went.
func (c *Client) FlushFDB(ctx context.Context, filter FDBFilter) (int, error) {
	var f flushed
	err := c.call(ctx, http.MethodPost, "/v1/fdb/flush", filter, &f)
	return f.Flushed, err
}

// PinFDB asks POST /v1/fdb/pin.
func (c *Client) PinFDB(ctx context.Context, pin FDBPin) error {
	return c.do(ctx, "/v1/fdb/pin", pin)
}

// Routes asks GET /v1/routes.
func (c *Client) Routes(ctx context.Context) (RouteTable, error) {
	var t RouteTable
	err := c.call(ctx, http.MethodGet, "/v1/routes", nil, &t)
	return t, err
}

// Sources asks GET /v1/sources.
func (c *Client) Sources(ctx context.Context) (SourceTable, error) {
	var t SourceTable
	err := c.call(ctx, http.MethodGet, "/v1/sources", nil, &t)
	return t, err
}

// ChangePeer asks POST /v1/peer.
func (c *Client) ChangePeer(ctx context.Context, change PeerChange) error {
	return c.do(ctx, "/v1/peer", change)
}

// do asks for a change that has no result but that it was made.
func (c *Client) do(ctx context.Context, path string, request any) error {
	var d done
	err := c.call(ctx, http.MethodPost, path, request, &d)
	if err == nil && !d.OK {
		err = c.notDone()
	}
	return err
}

// notDone is the error of an answer that does not say that a change was made.
func (c *Client) notDone() error {
	return fmt.Errorf("%s does not confirm that it was done: are tund and tunctl of the same version?", c.socket)
}

// call makes one request. Failures are a *DialError, an *Error from the daemon, or a broken
// conversation.
func (c *Client) call(ctx context.Context, method, path string, request, answer any) error {
	response, err := c.ask(ctx, method, path, request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return c.read(response, answer)
}

// open makes a request whose answer is a stream, which is the caller's. The stream has to begin
// within c.patience, and may go on for as long as ctx does.
func (c *Client) open(ctx context.Context, method, path string, request any) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.patience, func() { cancel(errNoAnswer) })
	response, err := c.ask(ctx, method, path, request)
	if err == nil && response.StatusCode != http.StatusOK {
		err = c.read(response, nil)
		_ = response.Body.Close()
	}
	late.Stop()
	if err != nil {
		cancel(nil)
		if errors.Is(context.Cause(ctx), errNoAnswer) {
			err = c.silent()
		}
		return nil, err
	}
	return stoppable{response.Body, func() { cancel(nil) }}, nil
}

// stoppable is the body of a stream, and what ends its context.
type stoppable struct {
	io.ReadCloser
	stop func()
}

// Close ends the stream.
func (s stoppable) Close() error {
	defer s.stop()
	return s.ReadCloser.Close()
}

// silent is the error of a daemon that has accepted a request and says nothing, or too slowly.
func (c *Client) silent() *DialError {
	return &DialError{Instance: c.instance, Socket: c.socket, Err: errNoAnswer}
}

// ask makes one request, and leaves the answer to the caller.
func (c *Client) ask(ctx context.Context, method, path string, request any) (*http.Response, error) {
	var body io.Reader
	if request != nil {
		body = bytes.NewReader(encode(request))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://tund"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(r)
	if err != nil {
		var dial *DialError
		if errors.As(err, &dial) {
			return nil, dial
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, c.silent()
		}
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return nil, &Error{Code: CodeBusy, Message: "tund hung up: too many connections to the control socket"}
		}
		if errors.Is(err, io.EOF) {
			return nil, &DialError{Instance: c.instance, Socket: c.socket, Err: errStreamEnded}
		}
		if ctx.Err() == nil {
			why := clip(unwrapped(err).Error(), 160)
			return nil, fmt.Errorf("%s: no answer of tund: %s (is this the socket of another program?)", c.socket, why)
		}
		return nil, fmt.Errorf("%s: %w", c.socket, err)
	}
	return response, nil
}

// unwrapped is err without the made-up URL that net/http puts before it.
func unwrapped(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// errNoAnswer is why a daemon that accepts and then says nothing could not be reached.
var errNoAnswer = errors.New("no answer in time (is tund hanging?)")

// read takes the answer apart.
func (c *Client) read(response *http.Response, answer any) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if errors.Is(err, context.DeadlineExceeded) {
		return c.silent()
	}
	if err != nil {
		return fmt.Errorf("%s: answer was cut short: %w (was tund stopped?)", c.socket, err)
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("%s: answer is larger than %d bytes", c.socket, maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		var failure errorBody
		if json.Unmarshal(text, &failure) == nil && failure.Error != nil {
			return failure.Error
		}
		return fmt.Errorf("%s: unexpected answer %s (are tund and tunctl of the same version?)", c.socket, strconv.QuoteToASCII(clip(response.Status, 80)))
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: cannot decode the answer: %w (are tund and tunctl of the same version?)", c.socket, err)
	}
	return nil
}

// Instances lists, by name, the instances below runDir that have a control socket, or may have one
// that the caller is not allowed to see. A run directory that does not exist holds none.
func Instances(runDir string) ([]string, error) {
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() || rundir.CheckName(e.Name()) != nil {
			continue
		}
		_, err := os.Lstat(rundir.ControlSocket(runDir, e.Name()))
		if err == nil || errors.Is(err, fs.ErrPermission) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Timeouts for callers of a Client: an answer that takes longer will not come.
const (
	AnswerTimeout = 10 * time.Second // everything but Reload
	ReloadTimeout = reloadTimeout
)
