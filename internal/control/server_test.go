package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/internal/control/admission"
	"tund/internal/events"
	"tund/internal/unixsock/unixsocktest"
)

// No goroutine outlives the tests: what the server started has ended when Close returns.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(2 * time.Second); code == 0; time.Sleep(time.Millisecond) {
		others := otherGoroutines()
		if others == "" {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left after the tests:\n%s\n", others)
			code = 1
		}
	}
	os.Exit(code)
}

// otherGoroutines returns the stacks of all goroutines but the caller's, which comes first, and
// that of os/signal, which the fuzzing engine starts.
func otherGoroutines() string {
	dump := make([]byte, 1<<20)
	stacks := strings.Split(string(dump[:runtime.Stack(dump, true)]), "\n\n")[1:]
	stacks = slices.DeleteFunc(stacks, func(stack string) bool { return strings.Contains(stack, "os/signal.loop()") })
	return strings.Join(stacks, "\n\n")
}

// fakeBackend remembers what it was asked.
type fakeBackend struct {
	capture  func(CaptureRequest) (Capture, error) // nil: refused
	mu       sync.Mutex
	instance Instance
	level    string
	reload   error
	confirm  time.Duration // of the last reload
	flush    FDBFilter
	pin      FDBPin
	change   PeerChange
	panics   bool
	gate     chan struct{} // Status waits for it when not nil
	asked    atomic.Int64  // calls of Status
	events   *events.Log
}

func (b *fakeBackend) Events() *events.Log { return b.events }

func (b *fakeBackend) Status() Instance {
	b.asked.Add(1)
	if b.gate != nil {
		<-b.gate
	}
	if b.panics {
		panic("a bug")
	}
	return b.instance
}
func (b *fakeBackend) FDB() FDBInstance {
	return FDBInstance{Name: b.instance.Name, FDB: b.instance.FDB, Limit: b.instance.FDBLimit}
}
func (b *fakeBackend) Sources() []Source { return nil }
func (b *fakeBackend) Reload(confirm time.Duration) error {
	b.confirm = confirm
	return b.reload
}
func (b *fakeBackend) Confirm() error { return b.reload }

func (b *fakeBackend) LogLevel() string { b.mu.Lock(); defer b.mu.Unlock(); return b.level }
func (b *fakeBackend) SetLogLevel(level string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level = level
	return nil
}
func (b *fakeBackend) FlushFDB(f FDBFilter) (int, error) { b.flush = f; return 3, nil }
func (b *fakeBackend) Routes() (RouteInstance, error)    { return RouteInstance{Name: "office"}, nil }
func (b *fakeBackend) ChangePeer(c PeerChange) error     { b.change = c; return nil }
func (b *fakeBackend) Capture(r CaptureRequest) (Capture, error) {
	if b.capture == nil {
		return nil, &Error{Code: CodeBusy, Message: "no place"}
	}
	return b.capture(r)
}

func (b *fakeBackend) Ping(_ context.Context, r PingRequest) (PingAnswer, error) {
	if r.Peer != "berlin" {
		return PingAnswer{}, &Error{Code: CodeNotFound, Message: "no peer is called " + r.Peer}
	}
	rtt := 0.25
	return PingAnswer{RTTS: &rtt}, nil
}
func (b *fakeBackend) PinFDB(p FDBPin) error {
	b.pin = p
	if p.Port == "nobody" {
		return fmt.Errorf("pin %s: %w", p.MAC, &Error{Code: CodeNotFound, Message: `no port "nobody"`})
	}
	return nil
}

// serve runs a server for the instance "office" in a directory of the test.
func serve(t *testing.T, backend Backend) (*Server, *Client) {
	t.Helper()
	return serveAs(t, backend, admission.Credentials)
}

// serveAs is serve with another idea of who connects.
func serveAs(t *testing.T, backend Backend, identify func(net.Conn) admission.Caller) (*Server, *Client) {
	t.Helper()
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office", Version: "1.2.3", Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	s.socket = admission.New(s.socket.Listener, zap.NewNop(), identify)
	served := make(chan error, 1)
	go func() { served <- s.Serve(backend) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, NewClient(dir, "office")
}

// request makes a raw request and returns status and body.
func request(t *testing.T, c *Client, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://tund"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s %s: Content-Type %q", method, path, got)
	}
	return response.StatusCode, string(text)
}

func TestServer_answersEveryVerb(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{level: "info", instance: Instance{
		Name: "office", FDBLimit: 16384,
		Peers: []Peer{{Name: "berlin", LastHandshake: At(time.Date(2026, 11, 23, 5, 0, 0, 999, time.FixedZone("x", 3600)))}},
		FDB:   []FDBEntry{{MAC: "02:00:00:00:00:01", Port: "berlin", Kind: "learned"}},
	}}
	_, c := serve(t, b)
	ctx := context.Background()

	status, err := c.Status(ctx)
	if err != nil || len(status.Instances) != 1 || status.Instances[0].Peers[0].Name != "berlin" {
		t.Errorf("Status = %+v, %v", status, err)
	}
	_, text := request(t, c, "GET", "/v1/status", "")
	for _, want := range []string{`"schema":"tund.status/v1"`, `"last_handshake":"2026-11-23T04:00:00Z"`, `"roamed":null`,
		`"warnings":[]`, `"allowed_ips":[]`, `"drops":{}`} {
		if !strings.Contains(text, want) {
			t.Errorf("status has no %s:\n%s", want, text)
		}
	}
	numbers := strings.NewReplacer(`"session":null`, "", `"rtt_s":null`, "", `"loss":null`, "")
	if strings.Contains(numbers.Replace(text), `s":null`) {
		t.Errorf("a list is null: %s", text)
	}
	if v, err := c.Version(ctx); err != nil || v.Name != "office" || v.Version != "1.2.3" {
		t.Errorf("Version = %+v, %v", v, err)
	}
	if err := c.SetLogLevel(ctx, "debug"); err != nil {
		t.Errorf("SetLogLevel: %v", err)
	}
	if got, err := c.LogLevel(ctx); got != "debug" || err != nil {
		t.Errorf("LogLevel = %q, %v; want debug", got, err)
	}
	if err := c.Reload(ctx, 0); err != nil {
		t.Errorf("Reload: %v", err)
	}
	if err := c.Reload(ctx, 90*time.Second); err != nil || b.confirm != 90*time.Second {
		t.Errorf("Reload with a confirmation: %v; backend got %v", err, b.confirm)
	}
	if err := c.Confirm(ctx); err != nil {
		t.Errorf("Confirm: %v", err)
	}
	if table, err := c.FDB(ctx); err != nil || len(table.Instances) != 1 || len(table.Instances[0].FDB) != 1 || table.Instances[0].Limit != 16384 {
		t.Errorf("FDB = %+v, %v", table, err)
	}
	vlan := 7
	if n, err := c.FlushFDB(ctx, FDBFilter{MAC: "02-00-00-00-00-0A", VLAN: &vlan}); n != 3 || err != nil || b.flush.MAC != "02:00:00:00:00:0a" || *b.flush.VLAN != 7 {
		t.Errorf("FlushFDB = %d, %v; backend got %+v", n, err, b.flush)
	}
	change := PeerChange{Op: "set", Peer: "berlin", Values: map[string]any{"keepalive": 25, "endpoint": []string{"x:1"}, "preshared_key": "secret", "name": nil}}
	err = c.ChangePeer(ctx, change)
	if want := map[string]any{"keepalive": int64(25), "endpoint": []any{"x:1"}, "preshared_key": "secret", "name": nil}; err != nil ||
		!reflect.DeepEqual(b.change.Values, want) || strings.Contains(fmt.Sprintf("%v %+v %#v", change, &change, []PeerChange{change}), "secret") {
		t.Errorf("ChangePeer: %v; backend got %#v", err, b.change.Values)
	}
	for _, bad := range []PeerChange{{Op: "sett", Peer: "x"}, {Op: "set"}, {Op: "add", Peer: "x"}, {Op: "remove", Peer: "x", Values: change.Values},
		{Op: "add", Values: map[string]any{"keepalive": 2.5}}} {
		if err := c.ChangePeer(ctx, bad); err == nil {
			t.Errorf("%s of %q is taken", bad.Op, bad.Peer)
		}
	}
	if err := c.PinFDB(ctx, FDBPin{MAC: "02:00:00:00:00:0A", Port: "berlin"}); err != nil || b.pin.MAC != "02:00:00:00:00:0a" {
		t.Errorf("PinFDB: %v; backend got %+v", err, b.pin)
	}
}

func TestServer_refusesInWords(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{reload: &Error{Code: CodeConfig, Message: "office.toml:1:1: bad"}}
	_, c := serve(t, b)
	for _, q := range []struct {
		method, path, body string
		status             int
		code               Code
	}{
		{"GET", "/", "", 404, CodeNotFound},
		{"GET", "/v1/status/", "", 404, CodeNotFound},
		{"GET", "/v2/status", "", 404, CodeNotFound},
		{"POST", "/v1/status", "", 405, CodeMethod},
		{"DELETE", "/v1/fdb", "", 405, CodeMethod},
		{"POST", "/v1/reload", "", 422, CodeConfig},
		{"POST", "/v1/reload", `{"confirm":30}`, 400, CodeInvalid},
		{"POST", "/v1/reload", `{"confirm_s":0.5}`, 400, CodeInvalid},
		{"POST", "/v1/reload", `{"confirm_s":-5}`, 400, CodeInvalid},
		{"POST", "/v1/reload", `{"confirm_s":1e300}`, 400, CodeInvalid},
		{"GET", "/v1/confirm", "", 405, CodeMethod},
		{"POST", "/v1/confirm", "", 422, CodeConfig},
		{"POST", "/v1/log-level", "", 400, CodeInvalid},
		{"POST", "/v1/log-level", `{"level":"loud"}`, 400, CodeInvalid},
		{"POST", "/v1/log-level", `{"level":"info","x":1}`, 400, CodeInvalid},
		{"POST", "/v1/log-level", `{"level":"info"} {}`, 400, CodeInvalid},
		{"POST", "/v1/log-level", `{"level":"` + strings.Repeat("x", maxBody) + `"}`, 413, CodeTooLarge},
		{"POST", "/v1/fdb/flush", `{"mac":"ff:ff:ff:ff:ff:ff"}`, 400, CodeInvalid},
		{"POST", "/v1/fdb/flush", `{"vlan":4095}`, 400, CodeInvalid},
		{"POST", "/v1/fdb/flush", `[]`, 400, CodeInvalid},
		{"POST", "/v1/fdb/pin", `{"mac":"02:00:00:00:00:01"}`, 400, CodeInvalid},
		{"POST", "/v1/fdb/pin", `{"mac":"02:00:00:00:00:01","port":"nobody"}`, 404, CodeNotFound},
	} {
		status, text := request(t, c, q.method, q.path, q.body)
		var body errorBody
		if err := json.Unmarshal([]byte(text), &body); err != nil || body.Error == nil {
			t.Errorf("%s %s %.40s: body %q is not an error document", q.method, q.path, q.body, text)
			continue
		}
		if status != q.status || body.Error.Code != q.code || body.Error.Message == "" {
			t.Errorf("%s %s %.40s: got %d %+v, want %d %s", q.method, q.path, q.body, status, body.Error, q.status, q.code)
		}
	}
	var e *Error
	if err := c.Reload(context.Background(), 0); !errors.As(err, &e) || e.Code != CodeConfig || !strings.Contains(e.Message, "1:1") {
		t.Errorf("Reload of a faulty file: %v", err)
	}
}

func TestServer_survivesAPanicOfTheBackend(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{panics: true, level: "info"}
	_, c := serve(t, b)
	var e *Error
	if _, err := c.Status(context.Background()); !errors.As(err, &e) || e.Code != CodeInternal {
		t.Errorf("Status = %v, want an internal error", err)
	}
	if _, err := c.LogLevel(context.Background()); err != nil {
		t.Errorf("the next request: %v", err)
	}
}

func TestHandler_letsOnlyRootAndTheDaemonsUserWrite(t *testing.T) {
	t.Parallel()
	capture := func(CaptureRequest) (Capture, error) {
		c := newFakeCapture()
		c.Stop("")
		return c, nil
	}
	h := newHandler(&fakeBackend{capture: capture, level: "info", events: events.New(time.Now())}, "office", "test", zap.NewNop())
	h.streams = &streams{closing: make(chan struct{})}
	stranger := admission.Caller{UID: os.Geteuid() + 12345, Known: true}
	for _, c := range []struct {
		who   admission.Caller
		write int
	}{
		{admission.Caller{UID: 0, Known: true}, 200},
		{admission.Caller{UID: os.Geteuid(), Known: true}, 200},
		{stranger, 403},
		{admission.Caller{}, 403},
	} {
		for _, v := range verbs() {
			body := map[string]string{
				"/v1/log-level": `{"level":"info"}`, "/v1/fdb/flush": `{}`,
				"/v1/fdb/pin": `{"mac":"02:00:00:00:00:01","port":"a"}`, "/v1/peer": `{"op":"remove","peer":"a"}`,
				"/v1/capture": `{}`,
			}[v.path]
			query := map[string]string{"/v1/ping": "?peer=berlin&size=16&wait_s=1"}[v.path]
			r, _ := http.NewRequestWithContext(context.WithValue(context.Background(), callerKey{}, c.who), v.method, v.path+query, strings.NewReader(body))
			w := &recorder{header: http.Header{}}
			h.ServeHTTP(w, r)
			want := 200
			if v.write {
				want = c.write
			}
			if v.root && c.who.UID != 0 {
				want = 403
			}
			if w.status != want {
				t.Errorf("%+v %s %s: got %d, want %d (%s)", c.who, v.method, v.path, w.status, want, w.body.String())
			}
			if v.write != (v.method == "POST") {
				t.Errorf("%s %s: POST is for verbs that change something", v.method, v.path)
			}
		}
	}
}

// recorder is a ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(s int)           { r.status = s }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
