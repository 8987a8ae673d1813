package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notices is a service manager that writes down what it is told.
type notices struct {
	t    *testing.T
	conn *net.UnixConn
}

// serviceManager makes one, and has g speak to it.
func serviceManager(t *testing.T, g *gateway) *notices {
	t.Helper()
	path := filepath.Join(g.Dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	g.Env = append(g.Env, "NOTIFY_SOCKET="+path)
	return &notices{t, conn}
}

// next waits for the next message, and fails unless it begins like that.
func (n *notices) next(want string) {
	n.t.Helper()
	buf := make([]byte, 4096)
	_ = n.conn.SetReadDeadline(time.Now().Add(startLimit))
	size, err := n.conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:size]), want) {
		n.t.Errorf("the service manager was told %q, %v, want %s", buf[:size], err, want)
	}
}

func TestProcess_tellsTheServiceManager(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	told := serviceManager(t, g)
	g.write()
	g.Launch()
	told.next("READY=1")
	during := g.NS.Snapshot()
	for _, want := range []string{"link " + g.Name + " kind=tun mtu=1420 up=true", "addr " + g.Name + " 10.9.0.1/24", "10.20.0.0/16 dev " + g.Name} {
		if !strings.Contains(during, want) {
			t.Errorf("ready without %q:\n%s", want, during)
		}
	}
	g.Ready()
	g.reload()
	told.next("RELOADING=1\nMONOTONIC_USEC=")
	told.next("READY=1")
	g.Stop()
	told.next("STOPPING=1")
}
