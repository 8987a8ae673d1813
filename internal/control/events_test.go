package control

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/events"
	"tund/internal/unixsock/unixsocktest"
)

// giveUp is how long a test waits for what should come at once.
const giveUp = 20 * time.Second

func TestEvents_streamWhatHappens(t *testing.T) {
	t.Parallel()
	log := events.New(time.Now())
	log.Add(events.Event{Kind: events.PeerState, Peer: "berlin", State: "up", Message: "berlin is up"})
	log.Add(events.Event{Kind: events.MACGone, Message: "gone"})
	_, c := serve(t, &fakeBackend{events: log})
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	enough := errors.New("enough")
	var got []string
	err := c.Follow(ctx, new(uint64), []events.Kind{events.PeerState, events.Loop}, func(e *events.Event, line []byte) error {
		got = append(got, string(e.Kind)+" "+e.Message)
		switch e.Message {
		case "berlin is up":
			log.Add(events.Event{Kind: events.Loop, Message: "loop"})
		case "loop":
			if e.N != log.Last() || !strings.Contains(string(line), `"kind":"loop"`) {
				t.Errorf("%s, %d", line, e.N)
			}
			return enough
		}
		return nil
	})
	if want := "heartbeat ,peer-state berlin is up,loop loop"; !errors.Is(err, enough) || strings.Join(got, ",") != want {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
	// Without a number only what comes next.
	err = c.Follow(ctx, nil, nil, func(e *events.Event, _ []byte) error {
		if e.Kind != LineHeartbeat || e.N != log.Last() {
			t.Errorf("%+v comes first", e)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestEvents_refusals(t *testing.T) {
	t.Parallel()
	log := events.New(time.Now())
	_, c := serve(t, &fakeBackend{events: log})
	for query, want := range map[string]Code{
		"after=x": CodeInvalid, "after=-1": CodeInvalid, "kinds=mac": CodeInvalid, "kinds=loop,": CodeInvalid,
		"after=1": CodeGone,
		"after=" + strconv.FormatUint(log.Last()+1, 10): CodeGone,
	} {
		status, text := request(t, c, "GET", "/v1/events?"+query, "")
		if status != want.httpStatus() || !strings.Contains(text, `"code":"`+string(want)+`"`) {
			t.Errorf("%s: %d %s, want %s", query, status, text, want)
		}
	}
	var answer *Error
	number := uint64(1)
	if err := c.Follow(context.Background(), &number, nil, nil); !errors.As(err, &answer) || answer.Code != CodeGone {
		t.Errorf("Follow: %v", err)
	}
}

// Readers are few, keep no other request out, and end with the server.
func TestEvents_readersAreBounded(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(&fakeBackend{level: "info", events: events.New(time.Now())}) }()
	c := NewClient(dir, "office")
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	var open, ended sync.WaitGroup
	for range maxStreams {
		open.Add(1)
		ended.Go(func() {
			var dial *DialError
			if err := c.Follow(ctx, nil, nil, func(*events.Event, []byte) error { open.Done(); return nil }); !errors.As(err, &dial) {
				t.Errorf("at the end of the server: %v", err)
			}
		})
	}
	open.Wait()
	var answer *Error
	if err := c.Follow(ctx, nil, nil, nil); !errors.As(err, &answer) || answer.Code != CodeBusy {
		t.Errorf("one reader more: %v", err)
	}
	if _, err := c.LogLevel(ctx); err != nil {
		t.Errorf("another request: %v", err)
	}
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ended.Wait()
	if took := time.Since(start); took > closeTimeout*3/4 {
		t.Errorf("closing took %v", took)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A HEAD request is answered, and does not stay.
func TestEvents_head(t *testing.T) {
	t.Parallel()
	_, c := serve(t, &fakeBackend{events: events.New(time.Now())})
	r, _ := http.NewRequest(http.MethodHead, "http://tund/v1/events", nil)
	response, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%s, %v", response.Status, response.Header)
	}
}

// A reader that lags is told that events are missing, where its stream ends.
func TestEvents_aSlowReaderIsTold(t *testing.T) {
	t.Parallel()
	log := events.New(time.Now())
	w := &recorder{header: http.Header{}}
	flushes := 0
	s := stream{writer: w, conn: http.NewResponseController(&flusher{w, func() {
		if flushes++; flushes == 1 {
			for range events.Capacity + 1 {
				log.Add(events.Event{Kind: events.Drops})
			}
		}
	}}), log: log, after: log.Last()}
	s.run(context.Background())
	lines := strings.Split(strings.TrimSpace(w.body.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"kind":"gone"`) {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// flusher calls f when it is flushed.
type flusher struct {
	*recorder
	f func()
}

func (f *flusher) Flush() { f.f() }
