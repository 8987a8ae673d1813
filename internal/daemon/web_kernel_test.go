package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/statusview"
)

// asked returns what an address answers at /readyz, or that nobody is there.
func asked(address string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			return dialer.DialContext(ctx, "unix", path)
		}
		return dialer.DialContext(ctx, network, address)
	}}}
	answer, err := client.Get("http://127.0.0.1/readyz")
	if err != nil {
		return "nobody"
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return strings.TrimSpace(string(text))
}

// What can be read over HTTP follows the configuration from the start to the end. An address that
// cannot be used has one outcome at the start and at a reload: all else is done, status says it,
// and it is tried again.
func TestWeb_followsTheConfiguration(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	taken, err := net.Listen("tcp", "127.0.0.1:9587")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := "unix:" + filepath.Join(t.TempDir(), "m.sock")
	const file = "listen_port = 1234\n[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.1/24\"]\n[metrics]\nlisten = %q\n" + onePeer
	with := func(address string) string { return fmt.Sprintf(file, address) }
	n := newInstance(t, with("127.0.0.1:9587"))
	n.start()
	if !n.d.problems.Has(statusview.KindMetrics, "127.0.0.1:9587") {
		t.Error("an address that is taken at the start: status does not say so")
	}
	for _, step := range []struct{ address, refused, at string }{
		{"127.0.0.1:9588", "", "127.0.0.1:9588"},
		{"127.0.0.1:9587", "address already in use", ""},
		{"127.0.0.1:9588", "", "127.0.0.1:9588"},
		{"0.0.0.0:9588", "", "127.0.0.1:9588"},
		{socket, "", socket},
		{"unix:/nowhere/m.sock", "no such file", ""},
		{"", "", ""},
		{socket, "", socket},
	} {
		err := n.reloads(with(step.address))
		if (err != nil) != (step.refused != "") || err != nil && !strings.Contains(err.Error(), step.refused) {
			t.Errorf("%s: %v, want %q", step.address, err, step.refused)
		}
		if n.d.problems.Has(statusview.KindMetrics, step.address) != (step.refused != "") {
			t.Errorf("%s: status says %v, want %q", step.address, n.d.problems.All(), step.refused)
		}
		for _, address := range []string{"127.0.0.1:9588", socket} {
			want := "nobody"
			if address == step.at {
				want = "ready: port 1234, 1 peer: 1 idle"
			}
			if got := asked(address); got != want {
				t.Errorf("after %q: %s says %q, want %q", step.address, address, got, want)
			}
		}
	}
	if n.d.problems.Has(statusview.KindMetrics, "127.0.0.1:9587") {
		t.Error("status still complains")
	}
	if err := n.reloads(with("127.0.0.1:9587")); err == nil {
		t.Error("the address is taken")
	}
	_ = taken.Close()
	n.d.lookAround()
	if got := asked("127.0.0.1:9587"); !strings.HasPrefix(got, "ready") || n.d.problems.Has(statusview.KindMetrics, "127.0.0.1:9587") {
		t.Errorf("an address that has become free: %q; status says %v", got, n.d.problems.All())
	}
	if err := n.reloads(with(socket)); err != nil {
		t.Error(err)
	}
	n.stop()
	if _, err := os.Lstat(strings.TrimPrefix(socket, "unix:")); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}
