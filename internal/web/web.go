// Package web shows a running instance over HTTP: metrics for Prometheus, health for supervisors,
// and a page for people.
//
// Everything is read-only, whatever the method or the caller: the package has no access to anything
// that changes an instance. It authenticates nobody: the address it listens at decides who can
// read, and what it shows contains no key but public ones. It bounds what looking costs: the number
// of connections, the time of a request, and the share of the processor that scrapes may take.
//
// A Site is safe for concurrent use.
//
// Sources: Prometheus exposition formats (text 0.0.4, OpenMetrics 1.0), RFC 9110, CSP level 3.
package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/rundir"
	"tund/internal/unixsock"
)

const (
	// maxConns is how many connections are open at once: a few scrapers and some browsers.
	maxConns = 64
	// requestTimeout bounds reading a request, and writing an answer of several megabytes.
	requestTimeout = 20 * time.Second
	idleTimeout    = 30 * time.Second
	maxHeader      = 16 << 10 // bytes of a request's header
	// scrapeShare limits the share of time that scrapes may take to one part in this number, so
	// that whoever can reach the address cannot keep a core busy. A scrape waits for its turn.
	scrapeShare = 10
)

// Source is the instance that is shown. Its methods are called from several goroutines.
type Source interface {
	// Sample describes the instance for its metrics.
	Sample() Sample
	// Health judges the instance.
	Health() Health
	// Instance describes the instance as its status does.
	Instance() control.Instance
	// Evidence adds to a description of the instance what is seen of the host.
	Evidence(i *control.Instance) *doctor.Evidence
	// Traffic counts the bytes that have passed all devices: out of the tunnel, and into it.
	Traffic() (rx, tx uint64)
}

// Health says whether an instance works, in words for people.
type Health struct {
	Stuck    []string // loops that make no progress; empty when the process works
	NotReady []string // what keeps the instance from doing its task, one sentence each
	Summary  string   // one line
}

// Site is what is shown, at whatever address.
type Site struct {
	source  Source
	log     *zap.Logger
	process *prometheus.Registry
	handler http.Handler
	turn    sync.Mutex // one scrape at a time
	scrapes scrapes
	history history
	pages   pages
}

// New makes a Site that shows source.
func New(source Source, log *zap.Logger) *Site {
	s := &Site{source: source, log: log, process: prometheus.NewRegistry()}
	s.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.paced(http.HandlerFunc(s.metrics)))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /page.json", s.pageJSON)
	mux.HandleFunc("GET /{$}", pageHTML)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent) // browsers ask for one, and log that there is none
	})
	s.handler = mux
	return s
}

// paced lets one request pass at a time, and after each a pause in proportion to what it cost.
func (s *Site) paced(next http.Handler) http.Handler {
	var free time.Time // guarded by turn
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.turn.Lock()
		defer s.turn.Unlock()
		if pause := time.Until(free); pause > 0 {
			timer := time.NewTimer(pause)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		start := time.Now()
		next.ServeHTTP(w, r)
		// A reader that takes its answer slowly costs nothing meanwhile.
		free = time.Now().Add(min((scrapeShare-1)*time.Since(start), time.Second))
	})
}

// healthz says whether the process works: for supervisors that restart it.
func (s *Site) healthz(w http.ResponseWriter, _ *http.Request) {
	h := s.source.Health()
	if len(h.Stuck) > 0 {
		answer(w, http.StatusServiceUnavailable, "not healthy: these loops make no progress: "+strings.Join(h.Stuck, ", "))
		return
	}
	answer(w, http.StatusOK, "healthy: "+h.Summary)
}

// readyz says whether the instance does its task: for those who send traffic to it.
func (s *Site) readyz(w http.ResponseWriter, _ *http.Request) {
	h := s.source.Health()
	if bad := append(h.NotReady, h.Stuck...); len(bad) > 0 {
		answer(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(bad, "; "))
		return
	}
	answer(w, http.StatusOK, "ready: "+h.Summary)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the only failure is a client that left
}

// Server shows a Site at one address.
type Server struct {
	http   *http.Server
	socket string // to be removed at the end; "": none
	done   chan struct{}
}

// Listen opens the address of the configuration, which is not off. Requests are answered once Serve
// has been called.
func Listen(m config.Metrics) (net.Listener, error) {
	if m.Socket == "" {
		l, err := net.Listen("tcp", m.Listen.String())
		if err != nil {
			return nil, fmt.Errorf("listen for metrics: %w", err)
		}
		return l, nil
	}
	stale, err := unixsock.Exists(m.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	if stale {
		if conn, err := net.Dial("unix", m.Socket); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("listen for metrics: %s is served by another process", m.Socket)
		}
		if err := os.Remove(m.Socket); err != nil {
			return nil, fmt.Errorf("listen for metrics: remove stale socket: %w", err)
		}
	}
	l, err := unixsock.Listen(m.Socket, unixsock.Options{Mode: 0o660, Group: rundir.ReadersGroup()})
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w (its directory must be writable for tund, as "+
			"that of the control socket is; one that was not in use at the start needs a restart)", err)
	}
	return l, nil
}

// Serve answers at a listener that Listen opened for m, until the Server is closed.
func (s *Site) Serve(l net.Listener, m config.Metrics) *Server {
	server := &Server{socket: m.Socket, done: make(chan struct{})}
	server.http = &http.Server{
		Handler: guarded(s.handler, m), ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
	}
	// It fails only for a level that does not exist.
	server.http.ErrorLog, _ = zap.NewStdLogAt(s.log, zap.DebugLevel)
	go func() {
		defer close(server.done)
		err := server.http.Serve(&bounded{Listener: l, slots: make(chan struct{}, maxConns), closed: make(chan struct{})})
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("metrics are no longer served; the tunnel continues", zap.Error(err))
		}
	}()
	return server
}

// Close ends all connections, and removes the socket.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	if s.socket != "" {
		if gone := os.Remove(s.socket); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// guarded adds what keeps other web sites out: the browser of somebody who visits them may be able
// to reach an instance. A foreign page can neither read an answer (there is no CORS header, and a
// name that was made to point here is refused) nor show it in a frame.
//
// Names are refused where a browser of this host asks, whatever the address at which we listen.
// From other hosts they are usual, and who may come from there is for the operator's network to
// say.
func guarded(next http.Handler, m config.Metrics) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if m.Socket == "" && fromThisHost(r) && !addressed(r.Host) {
			answer(w, http.StatusMisdirectedRequest, "ask for this address by number, or as localhost: a name could lead here from a foreign web site")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromThisHost reports whether both ends of the connection have one address, or a loopback one, so
// that the client runs on this host.
func fromThisHost(r *http.Request) bool {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if err != nil || !ok {
		return true // it cannot be told
	}
	server, err := netip.ParseAddrPort(local.String())
	return err != nil || server.Addr().Unmap().IsLoopback() || server.Addr().Unmap() == client.Addr().Unmap()
}

// addressed reports whether a Host header, with or without a port, is one that no foreign web site
// can have led here: an IP address, localhost, or the name of this host.
func addressed(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
	if _, err := netip.ParseAddr(name); err == nil || strings.EqualFold(name, "localhost") {
		return true
	}
	own, err := os.Hostname()
	return err == nil && strings.EqualFold(name, own)
}

// bounded is a listener with a limit of connections. Those beyond it wait in the kernel.
type bounded struct {
	net.Listener
	slots  chan struct{} // one for each open connection
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &slotted{Conn: conn, free: sync.OnceFunc(func() { <-b.slots })}, nil
}

// Close implements net.Listener.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// slotted is a connection that gives its slot back when it is closed.
type slotted struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *slotted) Close() error {
	defer c.free()
	return c.Conn.Close()
}
