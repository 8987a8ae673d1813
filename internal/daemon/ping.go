package daemon

import (
	"context"
	"time"

	"tund/internal/control"
	"tund/tunnel"
)

// Ping sends one echo request to a peer (control.Backend).
func (t tunctl) Ping(ctx context.Context, r control.PingRequest) (control.PingAnswer, error) {
	echo, err := t.d.tunnel.Ping(ctx, r.Peer, r.Size, time.Duration(r.WaitS*float64(time.Second)))
	switch {
	case err != nil:
		return control.PingAnswer{}, &control.Error{Code: control.CodeNotFound, Message: "no peer is called " + r.Peer}
	case tunnel.NoEcho(echo.Err):
		return control.PingAnswer{}, &control.Error{Code: control.CodeUnsupported, Message: "cannot ping this peer: " + echo.Err.Error()}
	case echo.Err != nil:
		return control.PingAnswer{Reason: echo.Err.Error()}, nil
	}
	seconds := echo.RTT.Seconds()
	return control.PingAnswer{RTTS: &seconds}, nil
}
