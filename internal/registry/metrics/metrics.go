// Package metrics shows what an agent knows to Prometheus, over HTTP and read-only. It
// authenticates nobody: the address decides who can read. Its labels are bounded: the only one is
// the reason for which a document is refused, of which there are a few.
//
// Source: Prometheus exposition formats (text 0.0.4, OpenMetrics 1.0).
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tund/internal/registry/agent"
	"tund/internal/registry/view"
)

const (
	// timeout bounds a request, and the wait for the last one at the end.
	timeout = 10 * time.Second
	// maxRequests is how many are answered at once.
	maxRequests = 4
	maxHeader   = 16 << 10 // bytes of a request's header
)

// Family is a metric.
type Family struct {
	Name, Help string
	value      func(*agent.Status) float64
}

func since(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// Families lists the metrics without a label.
func Families() []Family {
	count := func(f func(*agent.Status) int) func(*agent.Status) float64 {
		return func(s *agent.Status) float64 { return float64(f(s)) }
	}
	return []Family{
		{"tund_agent_store_ok", "1 if the registry answers", func(s *agent.Status) float64 { return flag(s.StoreError == "") }},
		{"tund_agent_store_listed_timestamp_seconds", "when the registry last showed everything; 0: never", func(s *agent.Status) float64 { return since(s.Listed) }},
		{"tund_agent_store_surplus", "values in the registry that are not documents, or more documents than one site may have", count(func(s *agent.Status) int { return s.StoreSurplus })},
		{"tund_agent_daemon_ok", "1 if tund accepts what the agent hands in", func(s *agent.Status) float64 { return flag(s.DaemonError == "") }},
		{"tund_agent_daemon_applied_timestamp_seconds", "when tund was last told of a change; 0: never", func(s *agent.Status) float64 { return since(s.Applied) }},
		{"tund_agent_publish_ok", "1 if our record could be written", func(s *agent.Status) float64 { return flag(s.PublishError == "") }},
		{"tund_agent_lease_ok", "1 if what hangs on our lease could be written", func(s *agent.Status) float64 { return flag(s.LeaseError == "") }},
		{"tund_agent_grant_ok", "1 if our own grant counts", func(s *agent.Status) float64 { return flag(s.Grant == view.Granted) }},
		{"tund_agent_sites", "sites with a grant", count(func(s *agent.Status) int { return s.Sites })},
		{"tund_agent_sites_absent", "peers whose record the registry lacks, and that go after seven days", count(func(s *agent.Status) int { return s.SitesAbsent })},
		{"tund_agent_sites_up", "sites that etcd shows as present", count(func(s *agent.Status) int { return s.Up })},
		{"tund_agent_peers", "peers that tund was told of", count(func(s *agent.Status) int { return s.Peers })},
		{"tund_agent_rejected", "elements that tund refused in the last change", count(func(s *agent.Status) int { return s.Rejected })},
		{"tund_agent_held", "removals of peers that are held", count(func(s *agent.Status) int { return s.Held })},
		{"tund_agent_conflicts", "prefixes and addresses that two sites claim", count(func(s *agent.Status) int { return len(s.Conflicts) })},
		{"tund_agent_hosts", "hosts on the LANs of all sites", count(func(s *agent.Status) int { return s.Hosts })},
		{"tund_agent_hosts_published", "hosts on our LAN that are published", count(func(s *agent.Status) int { return s.HostsPublished })},
		{"tund_agent_hosts_not_granted", "hosts on our LAN that the grant does not permit, or too many", count(func(s *agent.Status) int { return s.HostsNotGranted })},
		{"tund_agent_hosts_absent", "hosts whose site is not present", count(func(s *agent.Status) int { return s.HostsAbsent })},
		{"tund_agent_hosts_frozen", "hosts that have moved too often", count(func(s *agent.Status) int { return s.Frozen })},
		{"tund_agent_hosts_surplus", "hosts beyond a bound", count(func(s *agent.Status) int { return s.HostsSurplus })},
	}
}

// RefusedName is the metric with the label reason.
const RefusedName = "tund_agent_refused_total"

// collector makes metrics of a status.
type collector struct {
	status   func() agent.Status
	families []Family
	descs    []*prometheus.Desc
	refused  *prometheus.Desc
}

func newCollector(status func() agent.Status) *collector {
	c := &collector{status: status, families: Families()}
	for _, f := range c.families {
		c.descs = append(c.descs, prometheus.NewDesc(f.Name, f.Help, nil, nil))
	}
	c.refused = prometheus.NewDesc(RefusedName, "documents that do not count", []string{"reason"}, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
	to <- c.refused
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.status()
	for i, f := range c.families {
		to <- prometheus.MustNewConstMetric(c.descs[i], prometheus.GaugeValue, f.value(&s))
	}
	for reason, n := range s.Refused {
		to <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(n), string(reason))
	}
}

// Handler answers /metrics, with what status says at that moment. status is called from several
// goroutines.
func Handler(status func() agent.Status) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxRequests, Timeout: timeout}))
	return mux
}

// Serve answers at an address until ctx ends. It returns an error if the address cannot be used;
// otherwise done is closed when the last request was answered.
func Serve(ctx context.Context, at netip.AddrPort, status func() agent.Status) (done <-chan struct{}, err error) {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	s := &http.Server{
		Handler: Handler(status), ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout, MaxHeaderBytes: maxHeader,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	go func() {
		<-ctx.Done()
		_ = s.Close()
	}()
	return ended, nil
}
