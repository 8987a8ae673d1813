package web

import (
	"iter"
	"math"

	"tund/tunnel"
)

// peerTable is what the metrics say of the peers at one moment. Its memory is used again by the
// next scrape: a new one for ten thousand peers would be garbage of megabytes every time.
type peerTable struct {
	rows   []peerRow
	labels []byte // of all rows
	line   []byte // labels that belong to one step of outcomes
	names  map[string]struct{}

	states   map[tunnel.State]int // of all peers, as are the rest
	sum      tunnel.HandshakeCounts
	unlisted int
}

// peerRow is a peer that has series of its own.
type peerRow struct {
	from, to             int // of its label in peerTable.labels
	state                tunnel.State
	handshake            float64 // Unix time in seconds; 0: never
	rxBytes, txBytes     uint64
	rxPackets, txPackets uint64
	completed, failed    uint64  // handshakes
	roundTrip, loss      float64 // seconds, and 0 to 1; NaN: not measured
}

// reset empties the table, which keeps its memory and no name.
func (t *peerTable) reset() {
	t.rows, t.labels = t.rows[:0], t.labels[:0]
	if t.names == nil {
		t.names, t.states = make(map[string]struct{}), make(map[tunnel.State]int)
	}
	clear(t.names)
	clear(t.states)
	t.sum, t.unlisted = tunnel.HandshakeCounts{}, 0
}

// fill describes peers, those beyond maxPeerSeries only by number.
func (t *peerTable) fill(peers iter.Seq[tunnel.PeerGlance]) {
	t.reset()
	for g := range peers {
		t.states[g.State]++
		addCounts(&t.sum, &g.Handshakes)
		if len(t.rows) == maxPeerSeries {
			t.unlisted++
			continue
		}
		name := g.Name
		if _, taken := t.names[name]; taken { // set by WireGuard's tools, which know no names
			name += "-" + g.PublicKey.String()
		}
		t.names[name] = struct{}{}
		from := len(t.labels)
		t.labels = appendLabel(t.labels, "peer", name)
		row := peerRow{
			from: from, to: len(t.labels), state: g.State, handshake: unix(g.LastHandshake),
			rxBytes: g.RxBytes, txBytes: g.TxBytes, rxPackets: g.RxPackets, txPackets: g.TxPackets,
			completed: g.Handshakes.Completed, failed: g.Handshakes.Failed,
			roundTrip: math.NaN(), loss: math.NaN(),
		}
		if g.Path != nil {
			row.loss = g.Path.Loss
			if g.Path.RTT > 0 {
				row.roundTrip = g.Path.RTT.Seconds()
			}
		}
		t.rows = append(t.rows, row)
	}
}

// series passes one value of each peer, where there is one.
func (t *peerTable) series(value func(*peerRow) float64) iter.Seq2[[]byte, float64] {
	return func(yield func([]byte, float64) bool) {
		for i := range t.rows {
			r := &t.rows[i]
			if v := value(r); !math.IsNaN(v) && !yield(t.labels[r.from:r.to], v) {
				return
			}
		}
	}
}

// outcomes passes the handshakes of each peer, by outcome.
func (t *peerTable) outcomes() iter.Seq2[[]byte, float64] {
	return func(yield func([]byte, float64) bool) {
		for i := range t.rows {
			r := &t.rows[i]
			if !yield(t.outcome(r, "completed"), float64(r.completed)) || !yield(t.outcome(r, "failed"), float64(r.failed)) {
				return
			}
		}
	}
}

// outcome makes the labels of one series of outcomes, which are valid until the next call.
func (t *peerTable) outcome(r *peerRow, outcome string) []byte {
	t.line = append(appendLabel(t.line[:0], "outcome", outcome), ',')
	t.line = append(t.line, t.labels[r.from:r.to]...)
	return t.line
}

func addCounts(sum, c *tunnel.HandshakeCounts) {
	sum.InitiationsSent += c.InitiationsSent
	sum.InitiationsReceived += c.InitiationsReceived
	sum.ResponsesSent += c.ResponsesSent
	sum.ResponsesReceived += c.ResponsesReceived
	sum.CookiesReceived += c.CookiesReceived
	sum.Completed += c.Completed
	sum.Failed += c.Failed
}
