package acquire

import (
	"context"
	"testing"
	"time"

	"tund/internal/testnet"
)

func TestAwaitLink(t *testing.T) {
	t.Parallel()
	testnet.Require(t)
	ns := testnet.New(t)
	// await returns how often the wait was announced, when it calls then, and how long it took.
	await := func(ctx context.Context, name string, then func()) (said int, took time.Duration) {
		start := time.Now()
		ns.Do(func() { AwaitLink(ctx, name, func() { said++; then() }) })
		return said, time.Since(start)
	}
	for _, name := range []string{"", "lo"} {
		if said, took := await(t.Context(), name, func() {}); said != 0 || took > linkPatience/2 {
			t.Errorf("%q: waited %v, said %d times", name, took, said)
		}
	}
	made := make(chan struct{})
	said, took := await(t.Context(), "wan7", func() {
		go func() {
			defer close(made)
			ns.Run(t, "ip", "link", "add", "wan7", "type", "bridge")
		}()
	})
	<-made
	if said != 1 || took > linkPatience-time.Second {
		t.Errorf("a link that comes: waited %v, said %d times", took, said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if said, took := await(ctx, "wan8", cancel); said != 1 || took > linkPatience/2 {
		t.Errorf("after the end: waited %v, said %d times", took, said)
	}
}
