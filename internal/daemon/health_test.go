package daemon

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/config"
	"tund/internal/resolve"
	"tund/tunnel"
)

func TestBeat_onlyWhileEveryLoopMovesOrRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		d := newDaemon(Options{Log: zap.New(core), Config: &config.Config{}})
		d.names = resolve.New(resolve.Options{Log: zap.NewNop()})
		var moving, resting atomic.Uint64 // 1: as said
		resting.Store(1)
		moving.Store(1)
		count := uint64(0)
		pulse := func() []tunnel.Beat {
			count += 2 * moving.Load()
			return []tunnel.Beat{{Loop: "receive 0", Count: count}, {Loop: "timers", Count: 1, Idle: resting.Load() == 1}}
		}
		var alive atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.beat(ctx, 10*time.Second, pulse, func() { alive.Add(1) }); close(done) }()
		beats := func(d time.Duration) int64 {
			was := alive.Load()
			time.Sleep(d)
			synctest.Wait()
			return alive.Load() - was
		}
		time.Sleep(time.Second)
		if n := beats(time.Minute); n != 6 {
			t.Errorf("%d messages in a minute, want 6", n)
		}
		moving.Store(0)
		if n := beats(time.Minute); n != 0 {
			t.Errorf("%d messages while a loop is stuck", n)
		}
		if said := logs.FilterMessageSnippet("stuck").Len(); said != 6 || !strings.Contains(logs.All()[0].ContextMap()["loops"].([]any)[0].(string), "receive 0") {
			t.Errorf("%d log lines: %v", said, logs.All())
		}
		moving.Store(1)
		if n := beats(time.Minute); n != 6 {
			t.Errorf("%d messages in a minute after it went on, want 6", n)
		}
		resting.Store(0)
		if n := beats(time.Minute); n > 1 {
			t.Errorf("%d messages while a loop works without end", n)
		}
		cancel()
		<-done
	})
}
