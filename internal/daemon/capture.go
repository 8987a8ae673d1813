package daemon

import (
	"errors"

	"tund/internal/control"
	"tund/tunnel"
	"tund/tunnel/capture"
)

// Capture begins to capture packets (control.Backend).
func (t tunctl) Capture(r control.CaptureRequest) (control.Capture, error) {
	s, err := t.d.tunnel.Capture(tunnel.CaptureOptions{
		Instance: t.d.instance(), Version: t.d.process.Version, Devices: r.Devices, Filter: r.Filter, SnapLength: r.SnapLength,
		Outer: r.Outer, Secrets: r.Secrets, Rekey: r.Rekey,
	})
	switch {
	case errors.Is(err, capture.ErrBusy), errors.Is(err, capture.ErrClosed):
		return nil, &control.Error{Code: control.CodeBusy, Message: err.Error()}
	case err != nil:
		return nil, invalid(err)
	}
	return s, nil
}
