// Package daemon starts, reloads and stops an instance of tund. It assembles the parts
// (configuration, control socket, devices, sockets, tunnel, routes and the watches on the kernel)
// and passes on to each what the others report.
//
// It is the only package that knows all of them, and it contains none of their logic. Starting:
// mode.go lists the steps, open.go and interface.go perform them, and internal/desired translates
// the configuration. Reloading: reload.go, peers.go. Restarting: handover.go. Reacting: watch.go
// and follow.go to the kernel, backend.go to tunctl, wireguard.go to wg(8), agent.go to an agent.
// Which peers belong to whom: sources.go.
//
// The steps of a start come in the order in which they depend on one another. Each registers how to
// undo it, and a step that fails undoes those before it: a failed start leaves nothing behind.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/acquire"
	"tund/internal/advice"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/events"
	"tund/internal/heap"
	"tund/internal/netwatch"
	"tund/internal/news"
	"tund/internal/resolve"
	"tund/internal/resolved"
	"tund/internal/sdnotify"
	"tund/internal/sessionlog"
	"tund/internal/sources"
	"tund/internal/stamps"
	"tund/internal/statusview"
	"tund/internal/uapi"
	"tund/internal/web"
	"tund/route"
	"tund/route/bridgevlan"
	"tund/tunnel"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// Options describes how the process was called.
type Options struct {
	Config *config.Config
	// Interface, if not nil, is a device without a configuration file (RunInterface).
	Interface *Interface
	Log       *zap.Logger
	Level     zap.AtomicLevel
	Version   string
	Reload    <-chan struct{} // a value requests a reload (SIGHUP)
	// Restart reports whether the instance that is asked to stop will be started again at once
	// (SIGUSR1): traffic for the tunnel is then blocked until it is. nil: never.
	Restart func() bool
	// Former: Config is not that of the file, which was on trial when the instance ended.
	Former bool
	// Confine, if not nil, is called once everything is open and before the first packet: it takes
	// away from the process what a running instance does not need. Its failure is a warning.
	Confine func() error
}

// ErrNotPermitted matches, with errors.Is, the error of a start that fails because of a missing
// privilege or a missing /dev/net/tun.
var ErrNotPermitted = acquire.ErrNotPermitted

// Daemon is one running instance.
type Daemon struct {
	// Constant.
	opts    Options
	mode    mode
	log     *zap.Logger
	process statusview.Process
	program advice.Program
	events  *events.Log // what happened, for those who follow the instance

	// Set once by start.
	control *control.Server
	notify  *sdnotify.Notifier
	routes  *route.Manager
	tunnel  *tunnel.Tunnel
	devices []*tundev.Device
	// What the process before has left us, until it is used.
	inherited   acquire.Inherited
	names       *resolve.Resolver
	agentSocket *control.AgentServer // nil: no agent
	socket      *uapi.Server         // WireGuard's socket; nil: none
	removed     <-chan struct{}      // closed when the removal of that is to end us; nil: it is not
	stamps      *stamps.Store        // nil: timestamps of handshakes are forgotten at the end
	contacts    *stamps.Contacts     // belongs to keepStamps; nil like stamps
	former      []stamps.Contact     // peers of the last run, until contactFormer
	site        *web.Site            // what can be looked at over HTTP; nil: nothing
	undo        undo
	ready       bool // the start succeeded
	fenced      bool // guards or a full tunnel of an earlier run were still in place

	keepGuards bool // for stop
	handedOver bool // the next process continues with devices, sockets and sessions

	door *web.Door // of site; nil without. Guarded by changing once the start is over

	// changing serializes everything that changes the instance: reloads, WireGuard's tools,
	// reactions to the kernel. It may be held for seconds. The fields below are written with both
	// changing and mu held, and read with either.
	changing sync.Mutex
	life     context.Context // ends when the instance is to stop; belongs to run
	stopping bool            // nothing may change any longer
	trial    *trial          // of the configuration in force; nil: it is not on trial
	dns      resolved.Wanted // as announced last

	mu          sync.Mutex // never held while waiting for anything
	config      *config.Config
	loaded      time.Time
	applied     route.Applied
	mtu         int           // of the TUN device, as wanted
	path        desired.Paths // as last looked up
	port        uint16        // of the sockets
	bound       int           // index of the interface to which they are bound; 0: none
	sockets     []*udp.Socket
	reloadError string
	override    override
	agent       agentState
	// Peers that WireGuard's tools have added, which no configuration has and no agent.
	byHand map[keys.PublicKey]bool
	links  map[string]netwatch.LinkState // of our devices, as last seen
	stuck  []string                      // loops that were last seen to make no progress

	marks atomic.Pointer[configMark] // of the configuration last asked about

	pathsMu   sync.Mutex // guards what follows; held while paths are asked for
	pathsNext time.Time  // before which they are not queried again
	pathsDue  bool       // they have changed since

	nudge chan struct{} // capacity 1: the network changed (follow)
	gone  chan error    // capacity 1: a device of ours has gone (wait)

	// The kernel's state is to be compared with the configuration again (follow).
	reapply atomic.Bool

	problems statusview.Problems // shown by status

	bridgePort *bridgevlan.Port // nil without [tap]

	background sync.WaitGroup
	heap       heap.Trimmer
}

// undo holds the functions that revert the steps of a start, newest last.
type undo []func() error

func (u *undo) push(f func() error) { *u = append(*u, f) }

// run reverts everything, newest first, and continues after errors.
func (u *undo) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}

// Run runs an instance until ctx ends, and then takes everything down. The error tells why the
// instance could not start, or why it had to stop; a requested stop is no error.
func Run(ctx context.Context, o Options) error {
	d := newDaemon(o)
	return d.run(ctx, d.mode.steps)
}

func newDaemon(o Options) *Daemon {
	host, _ := os.Hostname() // only shown
	now := time.Now()
	d := &Daemon{
		opts: o, log: o.Log, config: o.Config, loaded: now,
		process: statusview.Process{Version: o.Version, PID: os.Getpid(), Host: host, Started: now},
		events:  events.New(now),
		links:   make(map[string]netwatch.LinkState),
		agent:   agentState{peers: sources.NewPeers(), hosts: sources.NewHosts()}, byHand: make(map[keys.PublicKey]bool),
		nudge: make(chan struct{}, 1), gone: make(chan error, 1),
	}
	d.mode, d.program = d.fileMode(), advice.OwnProgram()
	return d
}

// run is Run with the given steps of the start.
func (d *Daemon) run(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.life = ctx
	err := d.start(ctx, steps)
	switch {
	case err == nil:
		d.ready = true
		err = d.wait(ctx)
	case errors.Is(err, context.Canceled):
		err = nil // asked to stop before the start was complete
	}
	return errors.Join(err, d.stop(cancel, err))
}

// start brings the instance up, in order of dependence: the claim on the name comes before anything
// that two instances could compete for, and the announcement (READY) comes last.
func (d *Daemon) start(ctx context.Context, steps []step) error {
	for _, w := range d.config.Warnings {
		d.log.Warn(w.Place() + ": " + w.Msg)
	}
	for _, s := range steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("start %s: %s: %w", d.config.Instance, s.what, err)
		}
	}
	return nil
}

// launch starts packet processing, control and the watchers, and announces that we are ready.
func (d *Daemon) launch(ctx context.Context) error {
	if d.opts.Former {
		d.sayFormer()
	} else {
		d.forgetFormer() // what was on trial is so no longer, also if the file should have it again
	}
	d.lookAddresses()
	d.lookSoon()
	d.confine()
	d.tunnel.Start()
	d.contactFormer()
	if d.control != nil {
		d.background.Go(func() {
			if err := d.control.Serve(tunctl{d}); err != nil {
				d.log.Error("control socket failed; the tunnel continues without it", zap.Error(err))
			}
		})
		d.background.Go(func() { news.Observe(ctx, d.events, d.tunnel, heap.NewWave()) })
	}
	d.undo.push(d.removeDNS)
	d.announceDNS() // whoever reads it asks the control socket
	d.serveSocket(ctx)
	d.serveAgent()
	if d.site != nil {
		d.door.Start()
		d.background.Go(func() { d.watchLoops(ctx) })
		d.background.Go(func() { d.site.Run(ctx) })
	}
	for _, dev := range d.devices {
		d.background.Go(func() { d.followLink(ctx, dev) })
	}
	if bridge := d.tunnel.Bridge(); bridge != nil {
		d.background.Go(func() { d.followBridge(ctx, bridge) })
	}
	d.background.Go(func() { d.watch(ctx) })
	d.background.Go(func() { d.follow(ctx) })
	d.background.Go(func() { d.names.Run(ctx) })
	d.background.Go(func() { d.logSessions(ctx) })
	if d.stamps != nil {
		d.background.Go(func() { d.keepStamps(ctx) })
	}
	// Whoever configures the device by hand is responsible for the host.
	if d.opts.Interface == nil {
		d.background.Go(func() { d.adviser().Run(ctx) })
	}
	if every := sdnotify.WatchdogInterval(); every > 0 {
		d.background.Go(func() { d.beat(ctx, every, d.tunnel.Pulse, func() { d.tell(d.notify.Watchdog()) }) })
	}
	d.heap.Started(len(d.config.Peers))
	d.log.Info("ready", zap.String("instance", d.config.Instance), zap.Uint16("port", d.port),
		zap.Stringer("key", d.config.Tunnel.PrivateKey.Public()), zap.Int("peers", len(d.config.Peers)))
	d.tell(d.notify.Ready(d.summary()))
	return nil
}

// adviser examines the host for this instance.
func (d *Daemon) adviser() *advice.Adviser {
	return advice.New(advice.Instance{
		Log: d.log, Tunnel: d.tunnel, Routes: d.routes, Problems: &d.problems, Program: d.program, Version: d.process.Version,
		Sent: func() (newest time.Time) {
			if d.stamps != nil {
				newest = d.stamps.NewestSent().Time()
			}
			return newest
		},
		AskForDNS: d.askAgainForDNS,
		Reapply:   func() { d.reapply.Store(true); d.lookSoon() },
		Now: func() (*config.Config, uint32, uint16) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.config, d.mark(d.config), d.port
		},
	})
}

// confine gives up what was needed only to start. It comes before the lanes run, because the
// library stops all threads for it.
func (d *Daemon) confine() {
	if d.opts.Confine == nil {
		return
	}
	if err := d.opts.Confine(); err != nil {
		d.log.Warn("the instance runs with more rights than it needs", zap.Error(err))
	}
}

// summary is the line that systemctl status shows.
func (d *Daemon) summary() string {
	peers := d.peers()
	d.mu.Lock()
	port := d.port
	d.mu.Unlock()
	unresolved, states := d.names.Failures(), sync.OnceValue(d.tunnel.States)
	return sessionlog.Summary(peers, func(key keys.PublicKey) tunnel.State {
		state := states()(key)
		if _, lost := unresolved[key]; lost && state != tunnel.StateUp && !d.tunnel.Endpoint(key).IsValid() {
			return tunnel.StateDown // there is no address to send to
		}
		return state
	}, port)
}

// tell logs that a notification to systemd failed. Nothing depends on these notifications.
func (d *Daemon) tell(err error) {
	if err != nil {
		d.log.Debug("cannot notify systemd", zap.Error(err))
	}
}

// wait blocks until something ends the instance.
func (d *Daemon) wait(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- d.tunnel.Wait() }() // ends with the tunnel, which stop closes
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return d.whoEnded(ctx, err)
		case err := <-d.gone:
			return err
		case <-d.removed:
			return errRemoved
		case <-d.opts.Reload:
			if err := d.Reload(0); err != nil {
				d.log.Error(reloadFailure(err), zap.Error(err))
			}
		}
	}
}

// stop takes everything down, in the reverse order of start. Traffic for the tunnel may take other
// routes only after a requested stop that is not part of a restart, and never with guard =
// "always". After a failure, whose cause is given, it is to be blocked rather than sent in the
// clear.
func (d *Daemon) stop(cancel context.CancelFunc, cause error) error {
	d.tell(d.notify.Stopping())
	cancel()
	d.changing.Lock() // a reload in progress ends first, and soon: it sees that ctx has ended
	d.stopping = true
	d.changing.Unlock()
	failed := cause != nil && (d.ready || d.fenced)
	always := d.config.Tun != nil && d.config.Tun.Guard == config.GuardAlways
	d.keepGuards = failed || always || d.opts.Restart != nil && d.opts.Restart()
	d.handedOver = cause == nil && d.ready && d.handOver()
	err := d.undo.run()
	d.background.Wait()
	if err == nil && cause == nil {
		d.log.Info("stopped", zap.String("instance", d.config.Instance))
	}
	return err
}

// closeRoutes reverts our changes in the kernel.
func (d *Daemon) closeRoutes() error {
	if d.handedOver {
		return d.routes.Release()
	}
	if !d.keepGuards {
		return d.routes.Close()
	}
	if stands, err := d.routes.Fenced(); err == nil && len(stands) > 0 {
		d.log.Warn("traffic for the tunnel stays blocked, so that it does not leave in the clear, until the instance "+
			"runs again or `tund --cleanup` unblocks it", zap.String("instance", d.config.Instance))
	}
	return d.routes.Leave()
}
