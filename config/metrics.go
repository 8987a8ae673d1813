package config

import (
	"net/netip"
	"path/filepath"
	"strings"

	"tund/config/scalar"
	"tund/internal/unixsock"
)

// Metrics is [metrics]: where an instance can be looked at over HTTP.
type Metrics struct {
	// Listen is an address and a port; Socket the path of a unix socket. One of them is set, or
	// neither, which is off.
	Listen netip.AddrPort
	Socket string
}

// unixPrefix introduces the path of a unix socket in [metrics] listen.
const unixPrefix = "unix:"

// metrics checks [metrics].
func (l *loader) metrics(s *section) Metrics {
	text, given := s.text("listen")
	at := s.where("listen")
	switch path, unix := strings.CutPrefix(text, unixPrefix); {
	case !given || text == "":
		return Metrics{}
	case unix && path == "":
		s.errorAt(at, "listen", `no path after unix: (want "unix:/run/tund/%s/metrics.sock")`, l.cfg.Instance)
		return Metrics{}
	case unix:
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(l.cfg.Path), path)
		}
		if len(path) > unixsock.MaxPath {
			s.errorAt(at, "listen", "the path of the socket is %d bytes long (at most %d)", len(path), unixsock.MaxPath)
		}
		return Metrics{Socket: filepath.Clean(path)}
	}
	if port, ok := strings.CutPrefix(text, "localhost:"); ok {
		text = "127.0.0.1:" + port
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		s.errorAt(at, "listen", `%s is not an address with a port, nor a unix socket (want "127.0.0.1:9586", "[::1]:9586" or "unix:PATH")`,
			scalar.Shown(text))
		return Metrics{}
	}
	if !addr.Addr().IsLoopback() {
		s.warnAt(at, "listen", "anyone who reaches %s can read the names, the addresses and the traffic counters of all peers: "+
			"there is no password and no encryption; give an address inside the tunnel or of this host alone", addr)
	}
	return Metrics{Listen: addr}
}

// Off reports whether nothing listens.
func (m Metrics) Off() bool { return m == Metrics{} }

// String returns the address as the file writes it.
func (m Metrics) String() string {
	switch {
	case m.Socket != "":
		return unixPrefix + m.Socket
	case m.Listen.IsValid():
		return m.Listen.String()
	}
	return "off"
}
