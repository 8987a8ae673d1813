package daemon

import (
	"cmp"
	"maps"
	"time"

	"go.uber.org/zap/zapcore"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/events"
	"tund/internal/fdbverbs"
	"tund/internal/statusview"
	"tund/tunnel"
)

// tunctl is the instance from the point of view of the control socket (control.Backend).
type tunctl struct{ d *Daemon }

// Status describes the instance (control.Backend).
func (t tunctl) Status() control.Instance {
	s := t.d.tunnel.Status()
	t.d.heap.Worked(len(s.Peers))
	v := t.d.view(&s)
	i := v.Instance()
	i.Sources = t.d.sources()
	return i
}

// FDB describes the forwarding database (control.Backend).
func (t tunctl) FDB() control.FDBInstance {
	return statusview.FDB(t.d.instance(), t.d.tunnel.EthernetStatus(), t.d.places())
}

// instance is the name of the instance.
func (d *Daemon) instance() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Instance
}

// view collects what a description of the instance needs from the daemon, in addition to the state
// of the tunnel.
func (d *Daemon) view(s *tunnel.Status) statusview.View {
	unresolved := d.names.Failures()
	d.mu.Lock()
	defer d.mu.Unlock()
	source := d.sourceNames()
	sources := make(map[keys.PublicKey]statusview.Source, len(s.Peers))
	for i := range s.Peers {
		name, shadows := source(s.Peers[i].PublicKey)
		sources[s.Peers[i].PublicKey] = statusview.Source{Name: name, Shadows: shadows}
	}
	return statusview.View{
		Peers: d.peersOf(d.config), Sources: sources, Removed: d.agent.peers.Removed(),
		Process: d.process, Now: time.Now(), Tunnel: s, Config: d.config, Loaded: d.loaded,
		ReloadError: d.reloadError, LogLevel: d.opts.Level.Level().String(), Lanes: desired.Lanes(d.config),
		FwMark: d.mark(d.config), Applied: d.applied, Links: maps.Clone(d.links), PathMTU: d.path.MTU,
		Unresolved: unresolved, Problems: d.problems.All(), RunTime: d.runTime(),
	}
}

// runTime describes what was changed while the instance ran. Callers hold mu.
func (d *Daemon) runTime() statusview.RunTime {
	if d.mode.fixed != nil || d.override.since.IsZero() {
		return statusview.RunTime{}
	}
	file := cmp.Or(d.override.file, d.config)
	return statusview.RunTime{
		Since: d.override.since, File: file, FwMark: d.override.mark,
		FileMark: d.routes.Mark(d.mode.wanted(file, nil, d.mtu)),
	}
}

// Routes compares what the instance wants in the kernel with what is there now (control.Backend).
func (t tunctl) Routes() (control.RouteInstance, error) {
	out := control.RouteInstance{Name: t.d.instance()}
	items, warnings, err := t.d.routes.Inspect()
	if err != nil {
		return out, err
	}
	out.Objects, out.Warnings = statusview.Objects(items), warnings
	return out, nil
}

// Reload reads the configuration file again and applies what changed (control.Backend).
func (t tunctl) Reload(confirm time.Duration) error { return t.d.Reload(confirm) }

// Confirm keeps the configuration that the last reload put on trial (control.Backend).
func (t tunctl) Confirm() error { return t.d.confirm() }

// ChangePeer changes one peer and its routes until the next reload (control.Backend).
func (t tunctl) ChangePeer(change control.PeerChange) error { return t.d.changePeer(change) }

// Events returns what happened in the instance (control.Backend).
func (t tunctl) Events() *events.Log { return t.d.events }

// Sources describes what belongs to whom (control.Backend).
func (t tunctl) Sources() []control.Source { return t.d.sources() }

// LogLevel returns the level in force (control.Backend).
func (t tunctl) LogLevel() string { return t.d.opts.Level.Level().String() }

// SetLogLevel changes the level (control.Backend).
func (t tunctl) SetLogLevel(level string) error {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	t.d.opts.Level.SetLevel(l)
	return nil
}

// FlushFDB removes entries of the forwarding database (control.Backend).
func (t tunctl) FlushFDB(f control.FDBFilter) (int, error) { return fdbverbs.Flush(t.d.tunnel, f) }

// PinFDB adds a static entry to the forwarding database (control.Backend).
func (t tunctl) PinFDB(p control.FDBPin) error { return fdbverbs.Pin(t.d.tunnel, p) }

func invalid(err error) error {
	return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
}
