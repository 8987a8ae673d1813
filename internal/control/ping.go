package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// PingSchema names the document of `tunctl ping --json`.
const PingSchema = "tund.ping/v1"

// Bounds on one echo request.
const (
	// MinPingSize is the least payload inside the session, in bytes.
	MinPingSize = 16
	// MaxPingSize is the greatest.
	MaxPingSize = 9000
	// MaxPingWait bounds the time in which an answer is waited for.
	MaxPingWait = 5 * time.Second
)

// PingRequest asks for one echo request to a peer: GET /v1/ping?peer=…&size=…&wait_s=….
type PingRequest struct {
	Peer  string  // name or public key
	Size  int     // bytes of payload inside the session
	WaitS float64 // for the answer, at most MaxPingWait
}

// PingAnswer is what became of it.
type PingAnswer struct {
	// RTTS is the round trip in seconds, or null if there was no answer.
	RTTS *float64 `json:"rtt_s"`
	// Reason says in words why there was none.
	Reason string `json:"reason"`
}

// PingReport is the document of `tunctl ping --json`.
type PingReport struct {
	Schema    string       `json:"schema"` // PingSchema
	Instance  string       `json:"instance"`
	Peer      string       `json:"peer"`
	PublicKey string       `json:"public_key"`
	Size      int          `json:"size"` // bytes of payload inside the session
	Sent      int          `json:"sent"`
	Received  int          `json:"received"`
	Loss      float64      `json:"loss"`      // 0 to 1
	RTTMinS   *float64     `json:"rtt_min_s"` // null: nothing was received
	RTTAvgS   *float64     `json:"rtt_avg_s"`
	RTTMaxS   *float64     `json:"rtt_max_s"`
	Echoes    []PingAnswer `json:"echoes"` // in the order of the requests
}

// Ping has one echo request sent and waits for what becomes of it, no longer than AnswerTimeout
// after the time for the echo.
func (c *Client) Ping(ctx context.Context, request PingRequest) (PingAnswer, error) {
	var answer PingAnswer
	ctx, cancel := context.WithTimeout(ctx, time.Duration(request.WaitS*float64(time.Second))+AnswerTimeout)
	defer cancel()
	query := url.Values{
		"peer": {request.Peer}, "size": {strconv.Itoa(request.Size)},
		"wait_s": {strconv.FormatFloat(request.WaitS, 'f', -1, 64)},
	}
	err := c.call(ctx, http.MethodGet, "/v1/ping?"+query.Encode(), nil, &answer)
	return answer, err
}

func (h *handler) ping(_ http.ResponseWriter, r *http.Request) (any, error) {
	request, err := decodePing(r.URL.Query())
	if err != nil {
		return nil, err
	}
	answer, err := h.backend.Ping(r.Context(), request)
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// decodePing reads the query of GET /v1/ping.
func decodePing(query url.Values) (PingRequest, error) {
	p := PingRequest{Peer: query.Get("peer")}
	size, err := strconv.Atoi(query.Get("size"))
	if err != nil {
		return PingRequest{}, invalid("size: want a number of bytes")
	}
	wait, err := strconv.ParseFloat(query.Get("wait_s"), 64)
	if err != nil {
		return PingRequest{}, invalid("wait_s: want a number of seconds")
	}
	p.Size, p.WaitS = size, wait
	switch {
	case p.Peer == "" || len(p.Peer) > maxPortName:
		return PingRequest{}, invalid("peer: want the name or public key of a peer")
	case p.Size < MinPingSize || p.Size > MaxPingSize:
		return PingRequest{}, invalid("size %d is out of range (%d to %d)", p.Size, MinPingSize, MaxPingSize)
	case !(p.WaitS > 0 && p.WaitS <= MaxPingWait.Seconds()):
		return PingRequest{}, invalid("wait_s is out of range (more than 0, at most %v)", MaxPingWait.Seconds())
	}
	return p, nil
}
