package uapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
	"tund/internal/unixsock"

	"go.uber.org/zap"
)

// Limits of what asking may cost.
const (
	// maxConns is the number of connections served at a time. Clients open one for each request.
	maxConns = 512
	// idleTimeout ends a connection on which nothing comes or goes.
	idleTimeout = 30 * time.Second
	// silentGrace and partialGrace are how long a connection is left alone before another may take
	// its place: one that has said nothing, and one that stopped in the middle of a request. With
	// maxConns they let ten thousand connections a second pass, and give a client on a busy machine
	// the time to say what it wants.
	silentGrace  = 50 * time.Millisecond
	partialGrace = time.Second

	readBuffer = 4 << 10
)

// Options say where to listen.
type Options struct {
	// Dir is the directory of the socket; "" is Dir, which is where clients look.
	Dir string
	// Device names the socket.
	Device string
	// File, when not nil, is a listening socket handed over to us (WG_UAPI_FD), used instead of
	// making one. Listen closes it.
	File *os.File
	Log  *zap.Logger
}

// Server is the socket of one device.
type Server struct {
	log      *zap.Logger
	listener unixListener
	file     socketFile
	watch    *watch

	conns  connections
	stop   chan struct{} // closed by Close
	once   sync.Once
	closed error
}

// unixListener is what a Server needs of *net.UnixListener.
type unixListener interface {
	AcceptUnix() (*net.UnixConn, error)
	Close() error
}

// Listen opens the socket of a device. A file left by a daemon that was killed is replaced; when
// something answers there the error wraps ErrInUseSocket. Call Serve, then Close.
func Listen(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Dir == "" {
		o.Dir = Dir
	}
	listener, file, err := open(o)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Log, listener: listener, file: file, stop: make(chan struct{})}
	s.conns.init()
	if s.watch, err = newWatch(file); err != nil {
		_ = listener.Close()
		_ = file.remove()
		return nil, err
	}
	return s, nil
}

// Path returns the path of the socket.
func (s *Server) Path() string { return s.file.path }

// Removed is closed when somebody deletes or replaces the socket file, which asks a WireGuard
// daemon to end.
func (s *Server) Removed() <-chan struct{} { return s.watch.removed }

// Serve answers requests until Close. It is called once.
func (s *Server) Serve(b Backend) {
	var backoff unixsock.Backoff
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			backoff.Succeeded()
			if c := s.admit(conn); c != nil {
				serving.Go(func() { s.serve(c, b) })
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			pause, first := backoff.Failed()
			if first {
				s.log.Warn("WireGuard socket cannot accept a connection; trying again", zap.Error(err))
			}
			s.conns.evict(time.Now()) // out of descriptors: here is perhaps one
			if !s.pause(pause) {
				return
			}
		}
	}
}

// admit gives a new connection a place, taking that of an idle one if need be. It returns nil after
// Close.
func (s *Server) admit(conn *net.UnixConn) *connection {
	c := &connection{UnixConn: conn}
	for {
		wait := s.conns.add(c, time.Now())
		if wait == 0 {
			return c
		}
		if !s.pause(wait) {
			_ = conn.Close()
			return nil
		}
	}
}

// pause waits for a place to become free, for d at most; false means Close.
func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.conns.freed:
	case <-s.stop:
		return false
	}
	return true
}

// Close removes the socket, unless somebody else did or put another in its place, and ends all
// connections. Calling it again returns the same.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.stop)
		s.closed = errors.Join(s.watch.close(), s.file.remove(), s.listener.Close())
		s.conns.close()
	})
	return s.closed
}

// serve answers the requests of one connection, one after the other.
func (s *Server) serve(c *connection, b Backend) {
	defer s.conns.remove(c)
	defer func() {
		if cause := recover(); cause != nil { // a bug here must not take the tunnel down
			s.log.Error("bug: panic in a request on the WireGuard socket", zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
		}
	}()
	r := bufio.NewReaderSize(c, readBuffer)
	for {
		c.await(r.Buffered() > 0)
		answer, err := s.request(r, c, b)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Debug("WireGuard socket: request abandoned", zap.Error(err))
			}
			return
		}
		c.working()
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// request reads and performs one request. An error ends the connection without an answer.
func (s *Server) request(r *bufio.Reader, c *connection, b Backend) (answer []byte, err error) {
	operation, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	switch string(operation) {
	case "get=1\n":
		end, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if end != '\n' {
			return appendErrno(nil, errnoInvalid), nil
		}
		c.working()
		return appendErrno(appendGet(nil, b.Get()), 0), nil
	case "set=1\n":
		req, err := readSet(r)
		c.working()
		if err == nil {
			if err = b.Set(req); err == nil {
				s.audit(c, &req)
			}
		}
		return s.answer(err)
	}
	return nil, errors.New("unknown operation")
}

// audit logs who has changed what.
func (s *Server) audit(c *connection, r *Request) {
	var what []string
	if r.PrivateKey != nil {
		what = append(what, "private key")
	}
	if r.ListenPort != nil {
		what = append(what, fmt.Sprintf("listen port %d", *r.ListenPort))
	}
	if r.FwMark != nil {
		what = append(what, fmt.Sprintf("fwmark %#x", *r.FwMark))
	}
	if r.RemovePeers {
		what = append(what, "all peers")
	}
	if n := len(r.Peers); n > 0 {
		what = append(what, fmt.Sprintf("%d peers, the first %s", n, r.Peers[0].PublicKey.Short()))
	}
	uid, pid, _ := unixsock.Credentials(c.UnixConn)
	s.log.Info("change by WireGuard's socket", zap.Int("uid", uid), zap.Int("pid", pid), zap.Strings("what", what))
}

// answer makes the answer to a set request.
func (s *Server) answer(err error) ([]byte, error) {
	var fault *Error
	switch {
	case err == nil:
		return appendErrno(nil, 0), nil
	case errors.As(err, &fault):
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return nil, err // nobody waits for an answer
	default:
		fault = &Error{errnoUnknown, err.Error()}
	}
	s.log.Warn("WireGuard socket: request refused", zap.String("reason", fault.Message), zap.Int64("errno", fault.Errno))
	return appendErrno(nil, -fault.Errno), nil
}

// ErrInUseSocket is wrapped by Listen's error when another process answers on the socket.
var ErrInUseSocket = errors.New("in use by a running process")

func errInUseSocket(path string) error {
	return fmt.Errorf("%s: %w: is there a WireGuard device of that name in another network namespace?", path, ErrInUseSocket)
}
