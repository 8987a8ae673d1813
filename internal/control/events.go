package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tund/internal/control/admission"
	"tund/internal/events"
)

const (
	// Heartbeat is how often a reader of events hears from the daemon when nothing happens. A
	// reader that hears nothing for several times as long has lost its connection.
	Heartbeat = 10 * time.Second
	// streamTimeout is how long a reader may take for what was sent to it; then it is cut off.
	streamTimeout = 10 * time.Second
	// maxStreams is how many connections of each class may follow events at once: far fewer than
	// there are places, so that followers never keep other requests out.
	maxStreams = 8
)

// The kinds of lines of an event stream that are no events.
const (
	// LineHeartbeat says that the reader has seen everything up to its number. It comes first, and
	// then every Heartbeat.
	LineHeartbeat = "heartbeat"
	// LineGone ends the stream of a reader that was too slow: events are missing after its number.
	LineGone = "gone"
)

// mark is a line that is no event.
type mark struct {
	N    uint64 `json:"n"`
	Kind string `json:"kind"`
}

// streams counts the readers of events, and ends with the server.
type streams struct {
	writers, readers atomic.Int32
	closing          chan struct{} // closed when the server closes
}

// enter takes a place for a reader and returns how to give it back, or nil if there is none.
func (s *streams) enter(who admission.Caller) func() {
	n := &s.readers
	if who.MayWrite() {
		n = &s.writers
	}
	if n.Add(1) > maxStreams {
		n.Add(-1)
		return nil
	}
	return func() { n.Add(-1) }
}

// streamed is the answer of a verb that has written its answer itself.
type streamed struct{}

// followEvents answers GET /v1/events?after=N&kinds=A,B with a stream of lines in JSON.
func (h *handler) followEvents(w http.ResponseWriter, r *http.Request) (any, error) {
	log := h.events()
	after, kinds, err := eventQuery(r, log)
	if err != nil {
		return nil, err
	}
	who, _ := r.Context().Value(callerKey{}).(admission.Caller)
	leave := h.streams.enter(who)
	if leave == nil {
		return nil, &Error{Code: CodeBusy, Message: "too many connections follow events; end one of them"}
	}
	defer leave()
	if after < log.Oldest() || after > log.Last() {
		return nil, goneAfter(after)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // ends with the request
		select {
		case <-h.streams.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return streamed{}, nil
	}
	s := stream{writer: w, conn: http.NewResponseController(w), log: log, kinds: kinds, after: after}
	s.run(ctx)
	return streamed{}, nil
}

// eventQuery reads the parameters of a request for events. Without after, a stream begins with what
// happens next.
func eventQuery(r *http.Request, log *events.Log) (after uint64, kinds []events.Kind, err error) {
	query := r.URL.Query()
	after = log.Last()
	switch text := query.Get("after"); text {
	case "":
	case "0":
		after = log.Oldest()
	default:
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, nil, invalid("after=%s: want the number of an event", strconv.QuoteToASCII(clip(text, 40)))
		}
	}
	if text := query.Get("kinds"); text != "" {
		for name := range strings.SplitSeq(text, ",") {
			kind := events.Kind(name)
			if !slices.Contains(events.Kinds(), kind) {
				return 0, nil, invalid("kinds: there is no kind of event %s", strconv.QuoteToASCII(clip(name, 40)))
			}
			kinds = append(kinds, kind)
		}
	}
	return after, kinds, nil
}

func goneAfter(after uint64) *Error {
	return &Error{Code: CodeGone, Message: "the events after " + strconv.FormatUint(after, 10) +
		" are not remembered, or are of another run: read the status, and follow what comes next"}
}

// stream is one reader of events.
type stream struct {
	writer http.ResponseWriter
	conn   *http.ResponseController
	log    *events.Log
	kinds  []events.Kind
	after  uint64
}

// run sends events until ctx ends, the reader has left, or it is too slow.
func (s *stream) run(ctx context.Context) {
	_ = s.conn.SetReadDeadline(time.Time{}) // an error shows when something is sent
	if s.send(mark{s.after, LineHeartbeat}) != nil {
		return
	}
	for {
		wait, cancel := context.WithTimeout(ctx, Heartbeat)
		list, next, err := s.log.Next(wait, s.after, s.kinds)
		cancel()
		switch {
		case err == nil:
			lines := make([]any, len(list))
			for n := range list {
				lines[n] = &list[n]
			}
			if s.send(lines...) != nil {
				return
			}
		case errors.Is(err, events.ErrGone):
			_ = s.send(mark{s.after, LineGone})
			return
		case ctx.Err() != nil:
			return
		default:
			if s.send(mark{next, LineHeartbeat}) != nil {
				return
			}
		}
		s.after = next
	}
}

// send writes lines, and waits no longer for the reader than streamTimeout.
func (s *stream) send(lines ...any) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(streamTimeout)) // the same
	for _, line := range lines {
		if _, err := s.writer.Write(encode(line)); err != nil {
			return err
		}
	}
	return s.conn.Flush()
}

// Follow reads events after the given number, or those to come if after is nil, of the given kinds
// (none: all), until ctx ends or the connection does. It calls each with every line as it came,
// which it must not keep, and, for an event, its contents; for a heartbeat only its number and kind
// are set. The error is that of each, an *Error (CodeGone: events are missing), a *DialError, or
// that the stream ended.
func (c *Client) Follow(ctx context.Context, after *uint64, kinds []events.Kind, each func(e *events.Event, line []byte) error) error {
	query := make([]string, 0, 2)
	if after != nil {
		query = append(query, "after="+strconv.FormatUint(*after, 10))
	}
	if len(kinds) > 0 {
		names := make([]string, len(kinds))
		for n, kind := range kinds {
			names[n] = string(kind)
		}
		query = append(query, "kinds="+strings.Join(names, ","))
	}
	stream, err := c.open(ctx, http.MethodGet, "/v1/events?"+strings.Join(query, "&"), nil)
	if err != nil {
		return err
	}
	defer stream.Close()
	// A daemon that hangs, and one that was stopped, sends no heartbeat.
	quiet := time.AfterFunc(3*Heartbeat, func() { _ = stream.Close() })
	defer quiet.Stop()
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxEventLine)
	for {
		if !lines.Scan() {
			why := errStreamEnded
			if errors.Is(lines.Err(), bufio.ErrTooLong) {
				why = errLongEvent
			}
			return &DialError{Instance: c.instance, Socket: c.socket, Err: why}
		}
		line := lines.Bytes()
		quiet.Reset(3 * Heartbeat)
		var e events.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s: cannot decode an event: %w (are tund and tunctl of the same version?)", c.socket, err)
		}
		if e.Kind == LineGone {
			return goneAfter(e.N)
		}
		if err := each(&e, line); err != nil {
			return err
		}
	}
}

// maxEventLine bounds a line of the stream in bytes. Names are the longest parts of one, and have
// less than a thousand bytes together.
const maxEventLine = 64 << 10

// errLongEvent is why nothing more is read.
var errLongEvent = fmt.Errorf("an event of more than %d bytes came (is this the socket of another program?)", maxEventLine)

// errStreamEnded is why nothing more comes from a daemon that sent events.
var errStreamEnded = errors.New("the instance ended the connection (was it stopped?)")
