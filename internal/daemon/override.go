package daemon

import (
	"time"

	"tund/config"
)

// override holds what was set at run time, through WireGuard's socket or tunctl, instead of what
// the configuration says.
type override struct {
	mark *uint32 // nil: none
	// The configuration of the file, if peers were changed over the control socket (peers.go); nil:
	// Daemon.config.
	file  *config.Config
	since time.Time // of the first change; zero: none
}

// setOverride updates what was set at run time. Callers hold changing.
func (d *Daemon) setOverride(change func(*override)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.override)
}

// mark is the fwmark of our datagrams under a configuration, unless another was set at run time.
// Callers hold changing or mu.
func (d *Daemon) mark(c *config.Config) uint32 {
	if d.override.mark != nil {
		return *d.override.mark
	}
	memo := d.marks.Load()
	// The mark is needed once per peer when paths change, and ten thousand peers make a large
	// state. Of the agent's allowed IPs only default routes matter to it.
	defaults := d.agent.peers.DefaultRoutes()
	for _, p := range d.agentsFormer(c) {
		if p.Bits() == 0 {
			defaults = append(defaults, p)
		}
	}
	if memo == nil || memo.of != c || memo.defaults != len(defaults) {
		memo = &configMark{c, len(defaults), d.routes.Mark(d.mode.wanted(c, defaults, 0))}
		d.marks.Store(memo)
	}
	return memo.mark
}

// configMark is the fwmark that a configuration has.
type configMark struct {
	of       *config.Config
	defaults int // default routes of the agent
	mark     uint32
}
