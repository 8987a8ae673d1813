package display

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tund/internal/control"
	"tund/internal/screen"
)

// TopSchema names the lines of `tunctl top --json`.
const TopSchema = "tund.top/v1"

// plain writes one table after the other, or lines of JSON. The first look only begins to count.
func (m *topModel) plain(ctx context.Context) error {
	m.look(ctx)
	if m.fault != nil && len(m.meter.Instances) == 0 {
		return m.fault
	}
	again := time.NewTicker(m.Interval)
	defer again.Stop()
	for n := 1; m.Count == 0 || n <= m.Count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		m.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if m.fault != nil {
			fmt.Fprintln(m.Err, "tunctl: "+m.Explain(m.fault))
		}
		if err := m.print(); err != nil {
			return err
		}
	}
	return nil
}

// TopLine is a line of `tunctl top --json`. Rates are per second.
type TopLine struct {
	Schema string    `json:"schema"` // TopSchema
	Time   time.Time `json:"time"`
	Peers  []TopPeer `json:"peers"`
}

// TopPeer is a peer in it.
type TopPeer struct {
	Instance string            `json:"instance"`
	Name     string            `json:"name"`
	State    control.PeerState `json:"state"`
	RxBits   float64           `json:"rx_bits"`
	TxBits   float64           `json:"tx_bits"`
	Drops    float64           `json:"drops"`
	RTTS     *float64          `json:"rtt_s"`
	// HandshakeS is the age of the newest session in seconds, null if there was none.
	HandshakeS *float64 `json:"handshake_s"`
}

func (m *topModel) print() error {
	now := m.Now()
	if !m.JSON {
		page := screen.NewPage(m.Style, now, true)
		page.Top(&screen.Top{
			Instances: m.meter.Instances, Peers: m.peers(), Selected: -1, Key: m.key, Reverse: m.reverse, Filter: m.filter,
		})
		_, err := fmt.Fprintf(m.Out, "%s\n%s\n", now.Format(time.RFC3339), page.Bytes())
		return err
	}
	line := TopLine{Schema: TopSchema, Time: now.UTC(), Peers: []TopPeer{}}
	for _, p := range m.peers() {
		row := TopPeer{
			Instance: p.Instance, Name: p.Name, State: p.State, RTTS: p.RTTS, RxBits: max(p.Rx, 0), TxBits: max(p.Tx, 0), Drops: max(p.Drops, 0),
		}
		if !p.LastHandshake.IsZero() {
			age := now.Sub(p.LastHandshake.Time).Seconds()
			row.HandshakeS = &age
		}
		line.Peers = append(line.Peers, row)
	}
	return json.NewEncoder(m.Out).Encode(line)
}
