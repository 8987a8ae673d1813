package control

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/internal/control/admission"
	"tund/internal/rundir"
	"tund/internal/unixsock"
)

// Limits of one request.
const (
	maxBody       = 1 << 20         // bytes of a request body
	maxHeader     = 16 << 10        // bytes of a request's header
	headerTimeout = 5 * time.Second // to send a header, once the first byte is there
	idleTimeout   = 30 * time.Second
	// reloadTimeout is how long a reload may take until its answer has no reader; applying
	// thousands of routes takes longer than a status does.
	reloadTimeout = 2 * time.Minute
	closeTimeout  = 2 * time.Second // for answers under way when the server closes
)

// Options say which instance a Server speaks for.
type Options struct {
	RunDir   string      // "": rundir.Path()
	Instance string      // see rundir.CheckName
	Version  string      // of this program, for GET /v1/version
	Log      *zap.Logger // nil: silent
}

// Server is the daemon's side of the control socket.
type Server struct {
	endpoint
	opts  Options
	claim *rundir.Claim
}

// endpoint is a socket, and the server behind it.
type endpoint struct {
	socket *admission.Listener
	path   string
	log    *zap.Logger
	follow *streams

	mu     sync.Mutex // guards http and closed; not held while serving or closing
	http   *http.Server
	closed bool
}

// Listen claims the instance and binds its control socket, which answers once Serve runs. It is the
// first thing a starting daemon does: the claim is what keeps a second one off the same devices. A
// socket file left by a killed daemon is replaced; when one is alive, the error
// wraps rundir.ErrRunning.
func Listen(opts Options) (*Server, error) {
	if opts.RunDir == "" {
		opts.RunDir = rundir.Path()
	}
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	claim, err := rundir.Take(opts.RunDir, opts.Instance)
	if err != nil {
		return nil, err
	}
	path := rundir.ControlSocket(opts.RunDir, opts.Instance)
	listener, err := bindSocket(claim, path)
	if err != nil {
		claim.Release()
		return nil, err
	}
	removeAgentSocket(rundir.AgentSocket(opts.RunDir, opts.Instance))
	s := &Server{opts: opts, claim: claim}
	s.bound(listener, path, opts.Log)
	return s, nil
}

// bindSocket listens at path. It replaces a socket that is there: the caller holds the claim, so
// nobody serves it.
func bindSocket(c *rundir.Claim, path string) (*net.UnixListener, error) {
	if len(path) > unixsock.MaxPath {
		return nil, fmt.Errorf("control socket path %s is %d bytes long (at most %d): choose a shorter TUND_RUN_DIR",
			path, len(path), unixsock.MaxPath)
	}
	stale, err := unixsock.Exists(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if stale {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale control socket: %w", err)
		}
	}
	listener, err := unixsock.Listen(path, unixsock.Options{Mode: 0o660, Group: c.Group()})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return listener, nil // Server.Close removes the file, while it still holds the claim
}

// bound notes the socket on which s answers.
func (s *endpoint) bound(listener *net.UnixListener, path string, log *zap.Logger) {
	s.socket, s.path, s.log = admission.New(listener, log, admission.Credentials), path, log
	s.follow = &streams{closing: make(chan struct{})}
}

// Path returns where the socket is.
func (s *endpoint) Path() string { return s.path }

// Serve answers requests from backend until Close, and then returns nil. It is called once.
func (s *Server) Serve(backend Backend) error {
	return s.serve(newHandler(backend, s.opts.Instance, s.opts.Version, s.log))
}

// newHandler returns the handler of the control socket.
func newHandler(backend Backend, name, version string, log *zap.Logger) *handler {
	return &handler{
		backend: backend, name: name, version: version, log: log, verbs: verbs(), events: backend.Events,
		permits: func(who admission.Caller, v verb) string {
			if v.root && !who.Root() {
				return "only root may do this"
			}
			if v.write && !who.MayWrite() {
				return "only root and the user tund runs as may do this"
			}
			return ""
		},
	}
}

// serve answers requests by handler until close, and then returns nil.
func (s *endpoint) serve(handler *handler) error {
	handler.streams = s.follow
	server := &http.Server{
		Handler:           answering(handler),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       idleTimeout,
		WriteTimeout:      idleTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quiet(s.log),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if bounded, ok := conn.(*admission.Conn); ok {
				ctx = context.WithValue(ctx, connKey{}, bounded)
				return context.WithValue(ctx, callerKey{}, bounded.Caller)
			}
			return ctx
		},
	}
	server.SetKeepAlivesEnabled(true)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.http = server
	s.mu.Unlock()
	if err := server.Serve(s.socket); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("socket %s: %w", s.path, err)
	}
	return nil
}

// connKey is the context key of a request's connection.
type connKey struct{}

// answering notes which connections have a request that is being answered: they keep their place.
func answering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*admission.Conn); ok {
			c.Answering(true)
			defer c.Answering(false)
		}
		next.ServeHTTP(w, r)
	})
}

// Close stops answering and removes the socket, the lock and, when nothing else is in it, the
// instance's directory. Answers under way get a moment to finish. A second call does nothing.
func (s *Server) Close() error {
	first, err := s.close()
	if first {
		s.claim.Release()
	}
	return err
}

// close stops answering and removes the socket. It reports whether this is the first call.
func (s *endpoint) close() (first bool, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false, nil
	}
	s.closed = true
	close(s.follow.closing)
	server := s.http
	s.mu.Unlock()

	removed := os.Remove(s.path) // first, so that nobody connects to a server that is going
	if errors.Is(removed, os.ErrNotExist) {
		removed = nil
	}
	_ = s.socket.Close()
	if server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	}
	return true, removed
}

// quiet keeps net/http's complaints (a client that hung up half-way) below the level anybody runs
// at.
func quiet(logger *zap.Logger) *log.Logger {
	std, err := zap.NewStdLogAt(logger, zap.DebugLevel)
	if err != nil {
		return nil // the level is a constant, so this does not happen; net/http then logs to stderr
	}
	return std
}

// contain turns a panic of one request into an answer: a bug in a screen must not take the tunnel
// down.
func (h *handler) contain(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	h.log.Error("bug: panic in a control request", zap.String("verb", r.Method+" "+r.URL.Path),
		zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
	writeError(w, &Error{Code: CodeInternal, Message: "tund hit a bug answering this request; its log has the details"})
}
