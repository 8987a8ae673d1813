package web

import (
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"

	"tund/tunnel"
	"tund/tunnel/peer"
)

// scrape asks a site for its metrics from an address, without a network in between.
func scrape(s *Site, from string, headers map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.RemoteAddr = from
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.metrics(w, r)
	return w
}

// seriesOf counts the series of each metric.
func seriesOf(f *fake, t *peerTable) map[string]int {
	s := f.Sample()
	counts := make(map[string]int)
	for _, one := range families(&s, t) {
		for range one.series {
			counts[one.name]++
		}
	}
	return counts
}

// Prometheus's own parser reads what the instance has, whatever the names of its peers.
func TestScrape_isReadByPrometheus(t *testing.T) {
	t.Parallel()
	f := &fake{peers: manyPeers(3)}
	nasty := "a \"quoted\" \\ back\nslash } ü"
	f.peers[1].Name, f.peers[1].RxBytes, f.peers[1].TxBytes = nasty, 1<<53-1, 1<<60
	f.peers[1].Path = &peer.PathReport{RTT: 1500 * time.Microsecond, Loss: 1.0 / 32}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	read, err := parser.TextToMetricFamilies(scrape(New(f, zap.NewNop()), "127.0.0.1:1", nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	of := func(metric string) (value float64) {
		value = -1
		for _, m := range read[metric].GetMetric() {
			if l := m.GetLabel(); l[len(l)-1].GetName() == "peer" && l[len(l)-1].GetValue() == nasty {
				value = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return value
	}
	for metric, want := range map[string]float64{
		"tund_peer_receive_bytes_total": 1<<53 - 1, "tund_peer_transmit_bytes_total": 1 << 60, "tund_peer_round_trip_seconds": 0.0015,
		"tund_peer_loss_ratio": 0.03125, "tund_peer_last_handshake_seconds": 1700000000.005, "tund_peer_up": 1, "tund_peer_handshakes_total": 1,
	} {
		if got := of(metric); got != want {
			t.Errorf("%s is read as %v, want %v", metric, got, want)
		}
	}
	if n := len(read["tund_peer_round_trip_seconds"].GetMetric()); n != 1 {
		t.Errorf("%d peers have a round trip, and one was measured", n)
	}
}

// In OpenMetrics there are the same series, and counters are described without their suffix.
func TestScrape_formatsHaveTheSameSeries(t *testing.T) {
	t.Parallel()
	site := New(&fake{peers: manyPeers(2)}, zap.NewNop())
	lines := func(accept string) (series, types []string) {
		text := scrape(site, "127.0.0.1:1", map[string]string{"Accept": accept}).Body.String()
		for line := range strings.Lines(text) {
			switch {
			case strings.HasPrefix(line, "# TYPE tund_"):
				types = append(types, line)
			case strings.HasPrefix(line, "tund_"):
				series = append(series, line)
			}
		}
		return series, types
	}
	text, textTypes := lines("text/plain; version=0.0.4")
	open, openTypes := lines("application/openmetrics-text; version=1.0.0")
	if len(text) < 20 || !slices.Equal(text, open) {
		t.Errorf("series differ:\n%s\n%s", text, open)
	}
	for i, line := range textTypes {
		if want := strings.Replace(line, "_total counter", " counter", 1); openTypes[i] != want {
			t.Errorf("OpenMetrics: %q, want %q", openTypes[i], want)
		}
	}
}

// Peers that come and go leave nothing behind, and no number of them makes more series than the
// limit.
func TestScrape_isBounded(t *testing.T) {
	t.Parallel()
	f := &fake{peers: manyPeers(maxPeerSeries + 5)}
	table := new(peerTable)
	if n := seriesOf(f, table)["tund_peer_up"]; n != maxPeerSeries {
		t.Errorf("%d peers have series", n)
	}
	if table.unlisted != 5 {
		t.Errorf("%d peers are said to be unlisted", table.unlisted)
	}
	f.peers = nil
	for name, n := range seriesOf(f, table) {
		if strings.HasPrefix(name, "tund_peer_") && n > 0 {
			t.Errorf("peers that are gone have %d series of %s", n, name)
		}
	}
	if table.unlisted != 0 || table.sum != (tunnel.HandshakeCounts{}) {
		t.Errorf("they are still counted: %d unlisted, %+v", table.unlisted, table.sum)
	}
}

// An answer is compressed for a scraper on another host that understands it.
func TestScrape_isCompressedForOtherHosts(t *testing.T) {
	t.Parallel()
	site := New(&fake{peers: manyPeers(2)}, zap.NewNop())
	plain := scrape(site, "127.0.0.1:1", map[string]string{"Accept-Encoding": "gzip"})
	for range 2 { // the second with the memory of the first
		w := scrape(site, "192.0.2.1:1", map[string]string{"Accept-Encoding": "zstd, gzip;q=0.5"})
		zip, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(zip)
		if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
			t.Fatal(err, w.Header())
		}
		if names(string(text)) != names(plain.Body.String()) {
			t.Error("compressed, there is something else")
		}
	}
	for from, accept := range map[string]string{"127.0.0.1:1": "gzip", "[::1]:1": "gzip", "@": "gzip", "192.0.2.1:1": "gzip;q=0, br", "192.0.2.2:1": ""} {
		if w := scrape(site, from, map[string]string{"Accept-Encoding": accept}); w.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s, Accept-Encoding %q: compressed", from, accept)
		}
	}
}

// names returns the series of an exposition that are tund's, without values.
func names(text string) string {
	found := make(map[string]bool)
	for line := range strings.Lines(text) {
		if series, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(series, "tund_") {
			found[series] = true
		}
	}
	return fmt.Sprint(slices.Sorted(maps.Keys(found)))
}

// discard is an http.ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// A scrape of very many peers leaves little garbage, which would make the collector examine all
// that the instance has in use. The test is not parallel: it counts what the process allocates.
func TestScrape_leavesLittleGarbage(t *testing.T) {
	site := New(&fake{peers: manyPeers(maxPeerSeries)}, zap.NewNop())
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	const limit = 1 << 20
	least := ^uint64(0)
	// The collector may have taken the memory that is used again, and the race detector has
	// sync.Pool throw away a quarter of what is put into it.
	for tries := 0; tries < 50 && least > limit; tries++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		site.metrics(discard{http.Header{}}, r)
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > limit {
		t.Errorf("a scrape of %d peers allocates %d bytes, at most %d are expected", maxPeerSeries, least, limit)
	}
}

func BenchmarkScrape10000(b *testing.B) {
	site := New(&fake{peers: manyPeers(maxPeerSeries)}, zap.NewNop())
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	b.ReportAllocs()
	for b.Loop() {
		site.metrics(discard{http.Header{}}, r)
	}
}
