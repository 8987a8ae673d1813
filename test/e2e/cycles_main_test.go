package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/config"
	"tund/internal/daemon"
)

// cyclesEnv turns the test program into the one that cyclesMain is: daemon.Run has to run in a
// process that is in its namespace as a whole.
const cyclesEnv = "TUND_E2E_CYCLES"

// cyclesRequest says what to run in one process, one after another.
type cyclesRequest struct {
	Good   string   // configuration of an instance that starts
	Bad    []string // configurations of some that fail
	Cycles int      // of each
}

// cyclesResult is what the process had open, before and after.
type cyclesResult struct {
	FilesBefore, FilesAfter           []string
	GoroutinesBefore, GoroutinesAfter int
	Stacks                            string // when there are more goroutines after
	Fault                             string
}

// cyclesMain starts and stops instances as the request in the file at path says, and prints the
// result.
func cyclesMain(path string) int {
	var request cyclesRequest
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &request)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	result := request.run()
	out, err := json.Marshal(result)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (r *cyclesRequest) run() (result cyclesResult) {
	for i := range r.Cycles + 1 {
		// The first cycle opens what a process opens once: the poller, entropy, the resolver's
		// files.
		if i == 1 {
			result.FilesBefore, result.GoroutinesBefore = openFiles(), settledGoroutines(0)
		}
		if err := cycle(r.Good, true); err != nil {
			result.Fault = fmt.Sprintf("cycle %d of a good configuration: %v", i, err)
			return result
		}
		for _, bad := range r.Bad {
			if err := cycle(bad, false); err == nil {
				result.Fault = fmt.Sprintf("cycle %d of %s: no error", i, bad)
				return result
			}
		}
	}
	result.FilesAfter, result.GoroutinesAfter = openFiles(), settledGoroutines(result.GoroutinesBefore)
	if result.GoroutinesAfter > result.GoroutinesBefore {
		buf := make([]byte, 1<<20)
		result.Stacks = string(buf[:runtime.Stack(buf, true)])
	}
	return result
}

// cycle runs one instance, and stops it as soon as it is ready when it is to become that.
func cycle(path string, stop bool) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	ready := false
	log := zap.New(zapcore.NewNopCore()).WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core {
		return readyCore{func() {
			ready = true
			if stop {
				cancel()
			}
		}}
	}))
	err = daemon.Run(ctx, daemon.Options{Config: c, Log: log, Level: zap.NewAtomicLevel(), Version: "test"})
	if err == nil && !ready {
		return errors.New("never ready")
	}
	return err
}

// readyCore is a log that hears one word. The daemon says it from the goroutine that runs it.
type readyCore struct{ heard func() }

func (c readyCore) Enabled(zapcore.Level) bool        { return true }
func (c readyCore) With([]zapcore.Field) zapcore.Core { return c }
func (c readyCore) Sync() error                       { return nil }

func (c readyCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

func (c readyCore) Write(e zapcore.Entry, _ []zapcore.Field) error {
	if e.Message == "ready" {
		c.heard()
	}
	return nil
}

// openFiles lists what the descriptors of this process lead to, without the numbers of sockets.
func openFiles() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	var files []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the directory itself
		}
		kind, _, _ := strings.Cut(to, ":[")
		files = append(files, kind)
	}
	return files
}

// settledGoroutines counts goroutines, giving those that are about to end a moment when there are
// more than want.
func settledGoroutines(want int) int {
	deadline := time.Now().Add(2 * time.Second)
	for {
		n := runtime.NumGoroutine()
		if n <= want || time.Now().After(deadline) {
			return n
		}
		pause(10 * time.Millisecond)
	}
}
