package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/rundir"
	"tund/internal/unixsock/unixsocktest"
)

func TestClient_tellsMissingFromStaleFromSilent(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	var dial *DialError

	_, err := NewClient(dir, "never").Status(context.Background())
	if !errors.As(err, &dial) || !dial.Missing() || !strings.Contains(err.Error(), rundir.ControlSocket(dir, "never")) {
		t.Errorf("never started: %v", err)
	}

	s, err := Listen(Options{RunDir: dir, Instance: "silent"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewClient(dir, "silent").Status(ctx); !errors.As(err, &dial) || !errors.Is(dial, errNoAnswer) {
		t.Errorf("nobody serves: %v", err)
	}

	if err := os.Mkdir(filepath.Join(dir, "stale"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: rundir.ControlSocket(dir, "stale")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(dir, "stale").Status(context.Background()); !errors.As(err, &dial) || !dial.Stale() {
		t.Errorf("killed: %v", err)
	}

	got, err := Instances(dir)
	if want := []string{"silent", "stale"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Instances = %q, %v; want %q", got, err, want)
	}
	if got, err := Instances(filepath.Join(dir, "nowhere")); got != nil || err != nil {
		t.Errorf("Instances of no directory = %q, %v", got, err)
	}
}

func TestCanonicalMAC_takesStationsOnly(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"02:00:00:00:00:AB":       "02:00:00:00:00:ab",
		"02-00-00-00-00-ab":       "02:00:00:00:00:ab",
		"0200.0000.00ab":          "02:00:00:00:00:ab",
		"01:00:5e:00:00:01":       "",
		"00:00:00:00:00:00":       "",
		"02:00:00:00:00":          "",
		"02:00:00:00:00:00:00:01": "",
		"":                        "",
	} {
		got, err := CanonicalMAC(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalMAC(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}
