package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/internal/doctor"
	"tund/tunnel"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
)

// fake is a Source.
type fake struct {
	peers  []tunnel.PeerGlance
	health Health
}

func (f *fake) Health() Health { return f.health }
func (f *fake) Sample() Sample {
	return Sample{
		Name: "office", Version: "1.2.3", Started: time.Unix(1000, 0), Lanes: 2, Up: map[string]bool{"tund0": true},
		Tunnel: tunnel.Status{
			Drops:   map[string]uint64{"replay": 7},
			Devices: []tunnel.DeviceStatus{{Name: "tund0", Kind: tundev.TUN, MTU: 1420, DeviceCounts: lane.DeviceCounts{RxBytes: 5}}},
		},
		Peers: func(yield func(tunnel.PeerGlance) bool) {
			for _, p := range f.peers {
				if !yield(p) {
					return
				}
			}
		},
		Switch: &tunnel.EthernetLoad{
			Entries: map[string]int{"tap0": 3, "berlin": 0}, Limit: 16384,
			Suppression: l2.Suppression{Answered: 120, Local: 30, Flooded: 12, Again: 3},
		},
		Problems: map[string]int{"firewall": 1},
	}
}

func manyPeers(n int) []tunnel.PeerGlance {
	list := make([]tunnel.PeerGlance, n)
	for i := range list {
		list[i] = tunnel.PeerGlance{
			Name: fmt.Sprintf("branch-%d", i), State: tunnel.StateUp, LastHandshake: time.Unix(1700000000, 5e6), RxBytes: uint64(i) * 1e9,
			TxBytes: 123456789, RxPackets: 77, Handshakes: tunnel.HandshakeCounts{Completed: 3, Failed: 1},
		}
		list[i].PublicKey[0], list[i].PublicKey[1] = byte(i), byte(i>>8)
	}
	return list
}

// open serves a site on loopback and returns its URL.
func open(t testing.TB, f *fake) string {
	t.Helper()
	m := config.Metrics{Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	l, err := Listen(m)
	if err != nil {
		t.Fatal(err)
	}
	s := New(f, zap.NewNop()).Serve(l, m)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t testing.TB, url string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

func TestMetrics_areWhatTheInstanceIs(t *testing.T) {
	t.Parallel()
	f := &fake{peers: manyPeers(2)}
	// Peers without a name are called by the beginning of their key, and two may look alike.
	f.peers[0].Path = &peer.PathReport{RTT: 12 * time.Millisecond, Loss: 0.25}
	f.peers[1].State, f.peers[1].Name = tunnel.StateDown, f.peers[0].Name
	url := open(t, f)
	status, text, header := get(t, url+"/metrics")
	for _, want := range []string{
		`tund_info{name="office",version="1.2.3"} 1`, `tund_peer_up{peer="branch-0"} 1`, `tund_peer_down{peer="branch-0"} 0`,
		`tund_peer_handshakes_total{outcome="failed",peer="branch-0"} 1`, `tund_peer_last_handshake_seconds{peer="branch-0"} 1.700000000005e+09`,
		`tund_peer_down{peer="branch-0-AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="} 1`,
		`tund_peer_round_trip_seconds{peer="branch-0"} 0.012`, `tund_peer_loss_ratio{peer="branch-0"} 0.25`,
		`tund_peers{state="up"} 1`, `tund_peers{state="idle"} 0`, `tund_handshakes_total{outcome="completed"} 6`,
		`tund_drops_total{reason="replay"} 7`, `tund_drops_total{reason="bad-tag"} 0`, `tund_device_up{device="tund0",kind="tun"} 1`,
		`tund_fdb_entries{port="tap0"} 3`, `tund_problems{kind="firewall"} 1`, "process_resident_memory_bytes ", "go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%d, %s", status, header.Get("Content-Type"))
	}
	_, text, header = get(t, url+"/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("OpenMetrics: %s", header.Get("Content-Type"))
	}
	_, text, _ = get(t, url+"/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestHealth_isGivenInWords(t *testing.T) {
	t.Parallel()
	f := &fake{health: Health{Summary: "port 51820, 2 peers: 2 up"}}
	url := open(t, f)
	for path, want := range map[string]string{"/healthz": "healthy: port 51820, 2 peers: 2 up\n", "/readyz": "ready: port 51820, 2 peers: 2 up\n"} {
		if status, text, _ := get(t, url+path); status != 200 || text != want {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
	f.health.NotReady = []string{"device tund0 is down"}
	if status, text, _ := get(t, url+"/readyz"); status != 503 || text != "not ready: device tund0 is down\n" {
		t.Errorf("%d %q", status, text)
	}
	if status, _, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	f.health.Stuck = []string{"receive 0"}
	if status, text, _ := get(t, url+"/healthz"); status != 503 || !strings.Contains(text, "receive 0") {
		t.Errorf("%d %q", status, text)
	}
}

// Nothing can be changed, and no foreign web site can read.
func TestServer_keepsOthersOut(t *testing.T) {
	t.Parallel()
	url := open(t, &fake{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"} {
		for _, path := range []string{"/metrics", "/healthz"} {
			r, _ := http.NewRequest(method, url+path, strings.NewReader("{}"))
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode < 400 {
				t.Errorf("%s %s: %s", method, path, answer.Status)
			}
		}
	}
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:9586": 421, "127.0.0.1.evil.example": 421, "localhost:9586": 200, "[::1]:9586": 200, "127.0.0.1": 200,
	} {
		if status, _, _ := get(t, url+"/healthz", "Host", host); status != want {
			t.Errorf("Host %s: %d, want %d", host, status, want)
		}
	}
	_, _, header := get(t, url+"/metrics", "Origin", "https://evil.example")
	if header.Get("Access-Control-Allow-Origin") != "" || header.Get("X-Frame-Options") != "DENY" ||
		header.Get("Cross-Origin-Resource-Policy") != "same-origin" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", header)
	}
	if status, _, _ := get(t, url+"/v1/status"); status != 404 {
		t.Errorf("the control API is there: %d", status)
	}
}

// The browser of a user of this host reaches every address at which we listen, and a foreign web
// site can have its name lead there. From other hosts, names are usual.
func TestServer_namesWhereverItListens(t *testing.T) {
	t.Parallel()
	loopback, lan := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9586}, &net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 9586}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		listen string
		at     net.Addr
		from   string
		host   string
		want   int
	}{
		{"0.0.0.0:9586", loopback, "127.0.0.1:40000", "evil.example", 421},
		{"0.0.0.0:9586", loopback, "127.0.0.1:40000", own + ":9586", 204},
		{"0.0.0.0:9586", loopback, "127.0.0.1:40000", "127.0.0.1:9586", 204},
		{"[fd00::1]:9586", lan, "[fd00::1]:40000", "evil.example", 421},
		{"[fd00::1]:9586", lan, "[fd00::1]:40000", "[fd00::1]:9586", 204},
		{"[fd00::1]:9586", lan, "[fd00::2]:40000", "gw.example.org:9586", 204},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.at))
		r.Host, r.RemoteAddr = c.host, c.from
		w := httptest.NewRecorder()
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		guarded(ok, config.Metrics{Listen: netip.MustParseAddrPort(c.listen)}).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("listening at %s, asked from %s for %s: %d, want %d", c.listen, c.from, c.host, w.Code, c.want)
		}
	}
}

func TestListen_replacesAStaleSocketOnly(t *testing.T) {
	t.Parallel()
	m := config.Metrics{Socket: filepath.Join(t.TempDir(), "m.sock")}
	l, err := Listen(m)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(m.Socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(m); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("a socket in use: %v", err)
	}
	_ = l.Close() // as a killed daemon leaves it
	if l, err = Listen(m); err != nil {
		t.Fatal(err)
	}
	s := New(&fake{}, zap.NewNop()).Serve(l, m)
	if _, err := net.Dial("unix", m.Socket); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(m.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	if err := os.WriteFile(m.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(m); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
}

// Idle connections beyond the limit wait, and get their turn when others leave.
func TestServer_boundsConnections(t *testing.T) {
	t.Parallel()
	url := open(t, &fake{})
	addr := strings.TrimPrefix(url, "http://")
	var held []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	go func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	if status, _, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("%d", status)
	}
}

func (f *fake) Traffic() (rx, tx uint64) { return 0, 0 }
func (f *fake) Instance() control.Instance {
	return control.Instance{
		Name: "office", Version: "1.2.3", Host: "gw", Drops: map[string]uint64{"replay": 7, "not-flooded": 9}, FDBLimit: 10,
		Devices: []control.Device{{Name: "tund0", Kind: "tun", Up: true, MTU: 1420}},
		Peers:   []control.Peer{{Name: "</script><b>", State: control.StateDown, LastError: "no answer", Drops: map[string]uint64{"a": 2, "b": 3, "suppressed-neighbor": 40}}},
		FDB:     []control.FDBEntry{{MAC: "02:00:00:00:00:01", Port: "tund0", Kind: "local"}},

		Suppression: &control.Suppression{Answered: 120, Local: 30, Flooded: 12, Again: 3},
	}
}
func (f *fake) Evidence(i *control.Instance) *doctor.Evidence {
	return &doctor.Evidence{Now: time.Unix(5000, 0), Instance: i}
}
