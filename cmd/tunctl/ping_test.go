package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestPing_measuresAndSummarizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	f.lossy = true
	w.expect(0, "16 bytes to branch-berlin: echo=1 time=1 ms\n16 bytes to branch-berlin: echo=2 no answer\n"+
		"16 bytes to branch-berlin: echo=3 time=3 ms\n16 bytes to branch-berlin: echo=4 no answer\n"+
		"4 sent, 2 answered, 50% lost; round trip min/avg/max 1 ms/2 ms/3 ms\n", "",
		"ping", "branch-b", "--count", "4", "--interval", "10ms")
	f.lossy = false
	w.expect(0, `"loss": 0`, "", "ping", "branch-berlin", "--count", "1", "--json")
	w.expect(0, `"schema": "tund.ping/v1"`, "", "ping", "branch-berlin", "--count", "1", "--json")
}

func TestPing_exitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect(69, "", "no instance is running", "ping", "berlin")
	f := w.start(screentest.Office())
	f.lossy = true
	f.pings.Store(1)
	w.expect(1, "1 sent, 0 answered, 100% lost\n", "", "ping", "branch-berlin", "--count", "1")
	f.pings.Store(1)
	w.expect(1, `"rtt_avg_s": null`, "", "ping", "branch-berlin", "--count", "1", "--json")
	w.expect(1, "", `no peer "munich"`, "ping", "munich")
	f.noEcho = &control.Error{Code: control.CodeUnsupported, Message: "cannot ping this peer: it does not run tund"}
	w.expect(1, "", "cannot ping this peer: it does not run tund", "ping", "branch-berlin")
	f.noEcho = &control.Error{Code: control.CodeInternal, Message: "\x1b[2Jline one\nline two\u202e"}
	w.expect(1, "", "tunctl: ?[2Jline one\nline two?\n", "ping", "branch-berlin")
	for _, flags := range [][]string{
		{"--count", "0"}, {"--interval", "1ms"}, {"--size", "15"}, {"--size", "9001"}, {"--wait", "6s"}, {"--wait", "0s"},
	} {
		w.expect(2, "", flags[0], append([]string{"ping", "branch-berlin"}, flags...)...)
	}
	w.expect(2, "", "ping takes PEER, and was given none", "ping")
}

func TestPing_summarizesWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		at   int64 // the request that is under way
		out  string
		code int
	}{
		{3, "2 sent, 2 answered, 0% lost; round trip min/avg/max 1 ms/1.5 ms/2 ms\n", exit.OK},
		{1, "0 sent, 0 answered, 0% lost\n", exit.Failed},
	} {
		w := newWorld(t)
		f := w.start(screentest.Office())
		ctx, interrupt := context.WithCancel(t.Context())
		hangUp := make(chan struct{})
		f.onPing = func(n int64) {
			if n == test.at {
				interrupt()
				<-hangUp // the answer never comes
			}
		}
		var out bytes.Buffer
		a := &app{env: w.environment(&out, &out), color: "auto"}
		err := a.ping(ctx, "branch-berlin", pinging{count: 100, interval: 10 * time.Millisecond, size: 16, wait: time.Second})
		close(hangUp)
		var reported *exit.Reported
		code := exit.OK
		if errors.As(err, &reported) {
			code, err = reported.Code, nil
		}
		if code != test.code || err != nil {
			t.Errorf("request %d: exit code %d, want %d: %v", test.at, code, test.code, err)
		}
		if !strings.HasSuffix(out.String(), test.out) {
			t.Errorf("request %d: %s", test.at, out.String())
		}
	}
}
