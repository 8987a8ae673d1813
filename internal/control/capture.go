package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"tund/internal/control/admission"
)

// CaptureRequest is the body of POST /v1/capture, which is for root only: it shows what the peers
// send, in clear.
type CaptureRequest struct {
	Devices    []string `json:"devices"` // by name; none: all
	Filter     string   `json:"filter"`  // see internal/capture/filter; "": everything
	SnapLength int      `json:"snap_length"`
	Outer      bool     `json:"outer"` // the datagrams of the underlay as well
	Secrets    bool     `json:"secrets"`
	Rekey      bool     `json:"rekey"`
}

// Capture is a running capture of packets.
type Capture interface {
	// Stream passes records (internal/capture/stream) to send, which borrows them, until the
	// capture or ctx ends or send fails. It calls flush when nothing more lies ready.
	Stream(ctx context.Context, send func([]byte) error, flush func() error) error
	// Counts returns how many packets were taken so far, and how many were lost because the reader
	// was too slow.
	Counts() (taken, lost uint64)
	// Stop ends the capture, for a reason that its reader is told.
	Stop(why string)
}

// captureEndTimeout is how long the reader of a capture may take for the end of it when the server
// closes.
const captureEndTimeout = time.Second

// maxDevices bounds the devices that a capture may name; an instance has two.
const maxDevices = 8

// Capture begins a capture and returns its records (internal/capture/stream), which go on until the
// caller closes them, ctx ends or the daemon does.
func (c *Client) Capture(ctx context.Context, request CaptureRequest) (io.ReadCloser, error) {
	return c.open(ctx, http.MethodPost, "/v1/capture", request)
}

// capture answers POST /v1/capture with a stream of records.
func (h *handler) capture(w http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decodeCapture(r.Body)
	if err != nil {
		return nil, err
	}
	describe(r, "%s", request.words())
	capture, err := h.backend.Capture(request)
	if err != nil {
		return nil, err
	}
	defer capture.Stop("")
	who, _ := r.Context().Value(callerKey{}).(admission.Caller)
	h.log.Info("capture of packets begins", zap.Int("uid", who.UID), zap.Int("pid", who.PID), zap.String("what", clip(request.words(), maxAudit)))
	conn := http.NewResponseController(w)
	// A reader may take its time: what it does not take is lost, and nothing else waits for it.
	_, _ = conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Time{})
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with the request
		select {
		case <-h.streams.closing:
			capture.Stop("the instance is stopping")
			_ = conn.SetWriteDeadline(time.Now().Add(captureEndTimeout))
		case <-ended:
		}
	}()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	_ = conn.Flush() // the caller may make traffic now
	send := func(b []byte) error {
		_, err := w.Write(b)
		return err
	}
	_ = capture.Stream(r.Context(), send, conn.Flush) // the only failure is a reader that left
	taken, lost := capture.Counts()
	describe(r, "%s: %d packets, %d lost", request.words(), taken, lost)
	return streamed{}, nil
}

// decodeCapture reads the body of POST /v1/capture. The filter and the names are for the backend to
// check.
func decodeCapture(body io.Reader) (CaptureRequest, error) {
	var c CaptureRequest
	if err := decode(body, &c); err != nil {
		return c, err
	}
	if len(c.Devices) > maxDevices {
		return c, invalid("%d devices named (at most %d)", len(c.Devices), maxDevices)
	}
	return c, nil
}

// words describes a capture.
func (c *CaptureRequest) words() string {
	text := "capture packets"
	if c.Outer {
		text += " and datagrams"
	}
	if c.Secrets {
		text += " and the keys of sessions"
	}
	if len(c.Devices) > 0 {
		text += " of " + strings.Join(c.Devices, ", ")
	}
	if c.Filter != "" {
		text += fmt.Sprintf(" (%s)", clip(c.Filter, 200))
	}
	return text
}
