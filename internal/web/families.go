package web

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/internal/drop"
	"tund/tunnel"
)

// maxPeerSeries is how many peers have time series of their own; those beyond are only counted. A
// peer has eleven series, and a Prometheus server begins to suffer at some hundred thousand per
// target.
const maxPeerSeries = 10_000

// Sample is an instance at one moment, as far as its metrics are concerned.
type Sample struct {
	Name, Version string
	Started       time.Time
	Loaded        time.Time // when the configuration in force was read
	Refused       bool      // the last reload was refused
	Lanes         int
	Tunnel        tunnel.Status               // without peers and without the switch
	Up            map[string]bool             // devices by name
	Peers         iter.Seq[tunnel.PeerGlance] // called once
	Switch        *tunnel.EthernetLoad        // nil without a TAP device
	Problems      map[string]int              // by kind
}

// families describes the sample as metrics, sorted by name. What the peers have lies in t, whose
// content is replaced: the families are valid until it changes again. The names are documented in
// docs/howto/monitoring.md.
func families(s *Sample, t *peerTable) []*family {
	var b builder
	b.gauge("tund_info", "Version and name of the instance; always 1.").add(1, "name", s.Name, "version", s.Version)
	b.gauge("tund_start_time_seconds", "Unix time at which the instance started.").add(unix(s.Started))
	b.gauge("tund_config_loaded_time_seconds", "Unix time at which the configuration in force was read.").add(unix(s.Loaded))
	b.gauge("tund_config_refused", "Whether the last reload was refused, so that an older configuration is in force.").add(flag(s.Refused))
	b.gauge("tund_lanes", "Number of lanes: device queues, each with a socket.").add(float64(s.Lanes))
	b.gauge("tund_under_load", "Whether initiators have to prove their address now.").add(flag(s.Tunnel.UnderLoad))
	problems := b.gauge("tund_problems", "Problems that tunctl status shows, by kind.")
	for _, kind := range slices.Sorted(maps.Keys(s.Problems)) {
		problems.add(float64(s.Problems[kind]), "kind", kind)
	}
	b.peers(s, t)
	drops := b.counter("tund_drops_total", "Packets dropped, by reason.")
	for _, reason := range drop.Names() {
		drops.add(float64(s.Tunnel.Drops[reason]), "reason", reason)
	}
	b.devices(s)
	if s.Switch != nil {
		b.lan(s.Switch)
	}
	slices.SortFunc(b.list, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	return b.list
}

// lan adds the switch.
func (b *builder) lan(l *tunnel.EthernetLoad) {
	entries := b.gauge("tund_fdb_entries", "Learned entries of the forwarding database, by port.")
	for _, port := range slices.Sorted(maps.Keys(l.Entries)) {
		entries.add(float64(l.Entries[port]), "port", port)
	}
	b.gauge("tund_fdb_limit", "Greatest number of entries of the forwarding database.").add(float64(l.Limit))
	requests := b.counter("tund_neighbor_requests_total",
		"ARP requests and neighbour solicitations of the LAN that neighbour suppression has seen, by what became of them.")
	requests.add(float64(l.Suppression.Answered), "outcome", "answered")
	requests.add(float64(l.Suppression.Flooded), "outcome", "flooded")
	requests.add(float64(l.Suppression.Local), "outcome", "local")
	b.counter("tund_neighbor_repeats_total", "Requests that were answered here and sent to the peers afterwards.").
		add(float64(l.Suppression.Again))
}

// peers adds what is known of each peer, and the sums over all of them.
func (b *builder) peers(s *Sample, t *peerTable) {
	t.fill(s.Peers)
	b.gauge("tund_peer_up", "Whether there is a session with the peer, and what was sent is answered.").
		peers = t.series(func(r *peerRow) float64 { return flag(r.state == tunnel.StateUp) })
	b.gauge("tund_peer_down", "Whether attempts to reach the peer failed.").
		peers = t.series(func(r *peerRow) float64 { return flag(r.state == tunnel.StateDown) })
	b.gauge("tund_peer_last_handshake_seconds", "Unix time of the newest session with the peer; 0: never.").
		peers = t.series(func(r *peerRow) float64 { return r.handshake })
	b.counter("tund_peer_receive_bytes_total", "Bytes of authenticated datagrams from the peer.").
		peers = t.series(func(r *peerRow) float64 { return float64(r.rxBytes) })
	b.counter("tund_peer_transmit_bytes_total", "Bytes of datagrams to the peer.").
		peers = t.series(func(r *peerRow) float64 { return float64(r.txBytes) })
	b.counter("tund_peer_receive_packets_total", "Authenticated datagrams from the peer.").
		peers = t.series(func(r *peerRow) float64 { return float64(r.rxPackets) })
	b.counter("tund_peer_transmit_packets_total", "Datagrams to the peer.").
		peers = t.series(func(r *peerRow) float64 { return float64(r.txPackets) })
	b.gauge("tund_peer_round_trip_seconds", "Average round trip of echo requests inside the session, where it is measured.").
		peers = t.series(func(r *peerRow) float64 { return r.roundTrip })
	b.gauge("tund_peer_loss_ratio", "Share of the last echo requests, 32 at most, that had no answer.").
		peers = t.series(func(r *peerRow) float64 { return r.loss })
	b.counter("tund_peer_handshakes_total", "Handshakes with the peer, by outcome.").peers = t.outcomes()
	count := b.gauge("tund_peers", "Peers, by state.")
	for _, state := range []tunnel.State{tunnel.StateConnecting, tunnel.StateDown, tunnel.StateIdle, tunnel.StateUp} {
		count.add(float64(t.states[state]), "state", string(state))
	}
	b.gauge("tund_peers_unlisted", "Peers beyond the "+strconv.Itoa(maxPeerSeries)+" that have series of their own.").add(float64(t.unlisted))
	all := b.counter("tund_handshakes_total", "Handshakes with the present peers, by outcome.")
	all.add(float64(t.sum.Completed), "outcome", "completed")
	all.add(float64(t.sum.Failed), "outcome", "failed")
	b.messages(&t.sum, s.Tunnel.CookiesSent)
}

func (b *builder) messages(sum *tunnel.HandshakeCounts, cookiesSent uint64) {
	messages := b.counter("tund_handshake_messages_total", "Handshake messages, by type and direction; received ones are authentic.")
	for _, m := range []struct {
		kind   string
		rx, tx uint64
	}{
		{"cookie", sum.CookiesReceived, cookiesSent},
		{"initiation", sum.InitiationsReceived, sum.InitiationsSent},
		{"response", sum.ResponsesReceived, sum.ResponsesSent},
	} {
		messages.add(float64(m.rx), "direction", "receive", "type", m.kind)
		messages.add(float64(m.tx), "direction", "transmit", "type", m.kind)
	}
}

// devices adds the TUN and the TAP device. Receive is what came out of the tunnel.
func (b *builder) devices(s *Sample) {
	up := b.gauge("tund_device_up", "Whether the device is up.")
	mtu := b.gauge("tund_device_mtu_bytes", "MTU of the device.")
	rx := b.counter("tund_device_receive_bytes_total", "Bytes that came out of the tunnel to this host.")
	tx := b.counter("tund_device_transmit_bytes_total", "Bytes that went from this host into the tunnel.")
	rxPackets := b.counter("tund_device_receive_packets_total", "Packets that came out of the tunnel to this host.")
	txPackets := b.counter("tund_device_transmit_packets_total", "Packets that went from this host into the tunnel.")
	for n := range s.Tunnel.Devices {
		d := &s.Tunnel.Devices[n]
		labels := []string{"device", d.Name, "kind", d.Kind.String()}
		up.add(flag(s.Up[d.Name]), labels...)
		mtu.add(float64(d.MTU), labels...)
		rx.add(float64(d.RxBytes), labels...)
		tx.add(float64(d.TxBytes), labels...)
		rxPackets.add(float64(d.RxPackets), labels...)
		txPackets.add(float64(d.TxPackets), labels...)
	}
}

// builder makes families.
type builder struct{ list []*family }

// family is one metric with all its series.
type family struct {
	name, help string
	counter    bool // otherwise a gauge
	samples    []sample
	// peers has the series of the peers, if it is a metric of theirs: labels, borrowed for the
	// step, and the value.
	peers iter.Seq2[[]byte, float64]
}

// sample is the value of one series, with its labels as an exposition has them between braces.
type sample struct {
	labels []byte
	value  float64
}

func (b *builder) family(name, help string, counter bool) *family {
	f := &family{name: name, help: help, counter: counter}
	b.list = append(b.list, f)
	return f
}

func (b *builder) gauge(name, help string) *family   { return b.family(name, help, false) }
func (b *builder) counter(name, help string) *family { return b.family(name, help, true) }

// add adds a series with labels given as names and values, sorted by name.
func (f *family) add(value float64, labels ...string) {
	var text []byte
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendLabel(text, labels[i], labels[i+1])
	}
	f.samples = append(f.samples, sample{text, value})
}

// series passes all series of the metric: labels, borrowed for the step, and the value.
func (f *family) series(yield func([]byte, float64) bool) {
	for _, s := range f.samples {
		if !yield(s.labels, s.value) {
			return
		}
	}
	if f.peers != nil {
		f.peers(yield)
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// unix is a time in seconds since 1970; 0 stands for never.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
