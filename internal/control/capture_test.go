package control

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/control/admission"
)

// fakeCapture sends what a test gives it.
type fakeCapture struct {
	lines chan string
	once  sync.Once
	ended chan struct{} // closed by Stop
	over  chan struct{} // closed when Stream has returned
}

func newFakeCapture() *fakeCapture {
	return &fakeCapture{lines: make(chan string), ended: make(chan struct{}), over: make(chan struct{})}
}

func (f *fakeCapture) Stream(ctx context.Context, send func([]byte) error, flush func() error) error {
	defer close(f.over)
	for {
		select {
		case line := <-f.lines:
			if err := send([]byte(line)); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		case <-f.ended:
			return send([]byte("end"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeCapture) Counts() (taken, lost uint64) { return 12, 3 }

func (f *fakeCapture) Stop(string) { f.once.Do(func() { close(f.ended) }) }

// wait fails unless c is closed soon.
func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal(what)
	}
}

// byRoot says that root connects, who alone may capture, whoever runs the test.
func byRoot(net.Conn) admission.Caller { return admission.Caller{UID: 0, Known: true} }

func TestCapture_streamsUntilTheReaderLeavesOrTheServerCloses(t *testing.T) {
	t.Parallel()
	var asked CaptureRequest
	captures := make(chan *fakeCapture, 2)
	server, client := serveAs(t, &fakeBackend{capture: func(r CaptureRequest) (Capture, error) {
		asked = r
		c := newFakeCapture()
		captures <- c
		return c, nil
	}}, byRoot)
	want := CaptureRequest{Devices: []string{"office"}, Filter: "peer berlin", SnapLength: 96, Outer: true}
	read := func() (io.ReadCloser, *fakeCapture) {
		in, err := client.Capture(context.Background(), want)
		if err != nil {
			t.Fatal(err)
		}
		c := <-captures
		c.lines <- "packet"
		b := make([]byte, 6)
		if _, err := io.ReadFull(in, b); err != nil || string(b) != "packet" {
			t.Fatalf("%q, %v", b, err)
		}
		return in, c
	}
	in, c := read()
	if asked.Filter != want.Filter || asked.SnapLength != 96 || !asked.Outer || len(asked.Devices) != 1 {
		t.Errorf("asked for %+v", asked)
	}
	_ = in.Close() // like tunctl that was killed
	wait(t, c.over, "the capture goes on without its reader")
	wait(t, c.ended, "the capture was not ended")

	in, c = read()
	go server.Close()
	rest, err := io.ReadAll(in)
	if err != nil || string(rest) != "end" {
		t.Errorf("after the end of the server: %q, %v", rest, err)
	}
	wait(t, c.ended, "the capture was not ended")
}

func TestCapture_refusals(t *testing.T) {
	t.Parallel()
	_, client := serveAs(t, &fakeBackend{}, byRoot)
	if _, err := client.Capture(context.Background(), CaptureRequest{}); err == nil || !strings.Contains(err.Error(), "no place") {
		t.Errorf("without a place: %v", err)
	}
	if _, err := client.Capture(context.Background(), CaptureRequest{Devices: make([]string, 100)}); err == nil || !strings.Contains(err.Error(), "devices") {
		t.Errorf("many devices: %v", err)
	}
}
