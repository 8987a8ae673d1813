package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
)

// impatience is how many requests to stop end the process at once, whatever is left behind then.
// One is a request; the second may come from a script that wants to be sure.
const impatience = 3

// signals turns the process's signals into what an instance understands.
type signals struct {
	ctx    context.Context // ends with the first SIGTERM or SIGINT
	reload chan struct{}   // capacity 1: SIGHUP; one that waits stands for all that follow
	again  atomic.Bool     // SIGUSR1: the stop that follows is the first half of a restart
	close  func()

	mu  sync.Mutex // guards log
	log *zap.Logger
}

// outliveReaders keeps the process alive when nobody reads its log any more: a write into a pipe
// without a reader would end it (tund … 2>&1 | logger, and logger is killed).
func outliveReaders() { signal.Ignore(syscall.SIGPIPE) }

// catchSignals begins to catch. From here on SIGHUP never ends the process, also while it starts.
func catchSignals(exit func(code int)) *signals {
	ctx, cancel := context.WithCancel(context.Background())
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	s := &signals{ctx: ctx, reload: make(chan struct{}, 1), log: zap.NewNop()}
	var handling sync.WaitGroup
	handling.Go(func() { s.handle(caught, cancel, exit) })
	s.close = func() {
		signal.Stop(caught)
		close(caught)
		handling.Wait()
		cancel()
	}
	return s
}

// say makes s log what it does.
func (s *signals) say(log *zap.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
}

func (s *signals) logger() *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

func (s *signals) handle(caught <-chan os.Signal, cancel context.CancelFunc, exit func(int)) {
	stops := 0
	for sig := range caught {
		switch sig {
		case syscall.SIGHUP:
			select {
			case s.reload <- struct{}{}:
			default:
			}
			continue
		case syscall.SIGUSR1:
			s.again.Store(true)
			continue
		}
		switch stops++; {
		case stops == 1:
			s.logger().Info("stopping", zap.Stringer("signal", sig))
			cancel()
		case stops < impatience:
			s.logger().Warn("already stopping; one more signal ends tund immediately and leaves its kernel objects, which `tund --cleanup` removes", zap.Stringer("signal", sig))
		default:
			s.logger().Error("ended by a third signal before everything was removed: run `tund --cleanup`", zap.Stringer("signal", sig))
			exit(exitFailure)
		}
	}
}
