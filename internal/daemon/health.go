package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tund/internal/sessionlog"
	"tund/internal/watchdog"
	"tund/tunnel"
)

// beat feeds systemd's watchdog as long as every loop of the tunnel makes progress or has nothing
// to do. A loop that is stuck for a whole interval, or a lock that is never released, prevents the
// message. systemd then ends this process, whose last output is the stacks of all goroutines, and
// starts it again.
func (d *Daemon) beat(ctx context.Context, every time.Duration, pulse func() []tunnel.Beat, alive func()) {
	checkLoops(ctx, every, pulse, func(stuck []string) {
		status := d.summary() // takes mu, which status, reloads and the kernel's news need
		if len(stuck) == 0 {
			alive()
			return
		}
		d.log.Error("bug: loops are stuck; systemd's watchdog will restart this instance", zap.Strings("loops", stuck), zap.String("status", status))
	})
}

// checkLoops calls look at once and then at intervals, until ctx ends, with the names of the loops
// that have made no progress since the time before.
func checkLoops(ctx context.Context, every time.Duration, pulse func() []tunnel.Beat, look func(stuck []string)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := make(map[string]tunnel.Beat)
	for {
		look(watchdog.Stuck(pulse(), last))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// logSessions reports the states of the peers until ctx ends: in the log, and in the line that
// `systemctl status` shows.
func (d *Daemon) logSessions(ctx context.Context) {
	told := ""
	sessionlog.New(d.log).Run(ctx, d.peers, d.tunnel.States, func() {
		if text := d.summary(); text != told {
			d.tell(d.notify.Status(text))
			told = text
		}
	})
}
