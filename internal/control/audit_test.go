package control

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tund/internal/unixsock/unixsocktest"
)

// Each change leaves one line: who, what, and what became of it. None has a secret in it.
func TestAudit_oneLineForEachChange(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office", Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	b := &fakeBackend{level: "info", reload: &Error{Code: CodeConfig, Message: "office.toml:1:1: bad\noffice.toml:2:1: worse"}}
	go func() { served <- s.Serve(b) }()
	c := NewClient(dir, "office")
	ctx := context.Background()
	vlan := 7
	_ = c.SetLogLevel(ctx, "debug")
	_ = c.ChangePeer(ctx, PeerChange{Op: "add", Values: map[string]any{"name": "berlin", "preshared_key": "secret", "keepalive": 25}})
	_ = c.PinFDB(ctx, FDBPin{MAC: "02:00:00:00:00:01", Port: "nobody"})
	_, _ = c.FlushFDB(ctx, FDBFilter{VLAN: &vlan, Port: "berlin"})
	_ = c.Reload(ctx, 0)
	if _, err := c.LogLevel(ctx); err != nil { // changes nothing
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	want := []struct{ verb, what, refused string }{
		{"POST /v1/log-level", "log level debug", ""},
		{"POST /v1/peer", "add peer berlin (keepalive, name, preshared_key)", ""},
		{"POST /v1/fdb/pin", "pin 02:00:00:00:00:01 in VLAN 0 to nobody", "no port"},
		{"POST /v1/fdb/flush", "flush learned addresses in VLAN 7 behind berlin", ""},
		{"POST /v1/reload", "", "1:1: bad; office.toml:2:1: worse"},
	}
	lines := logs.FilterMessage("change by the control socket").All()
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %v", len(lines), len(want), lines)
	}
	for n, w := range want {
		f := lines[n].ContextMap()
		what, _ := f["what"].(string)
		refused, _ := f["refused"].(string)
		if f["verb"] != w.verb || what != w.what || !strings.Contains(refused, w.refused) || (refused == "") != (w.refused == "") ||
			f["uid"] != int64(os.Geteuid()) || f["pid"] != int64(os.Getpid()) {
			t.Errorf("%v, want %+v", f, w)
		}
		if strings.Contains(what+refused, "secret") {
			t.Errorf("a secret in %v", f)
		}
	}
}
