package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/news"
	"tund/internal/sources"
	"tund/internal/statusview"
	"tund/internal/web"
	"tund/route/refused"
	"tund/tunnel"
)

// errStopping refuses a change while the instance is being taken down.
var errStopping = &control.Error{Code: control.CodeUnsupported, Message: "the instance is stopping"}

// Reload reads the configuration file again and applies what changed (control.Backend). Unchanged
// peers keep their sessions, counters and endpoints.
//
// Everything that can be refused comes first: a file with an error, a change that needs a restart,
// a port that is taken. In these cases nothing has changed. What the kernel refuses afterwards is
// reported and tried again; the rest of the new configuration is in force.
//
// With confirm, the former configuration comes back after that time unless Confirm is called, and
// at once if the kernel refuses anything.
func (d *Daemon) Reload(confirm time.Duration) error {
	d.tell(d.notify.Reloading())
	worked := d.heap.Work(d.tunnel.PeerCount)
	err := d.reload(confirm)
	worked()
	d.tell(d.notify.Ready(d.summary()))
	return err
}

func (d *Daemon) reload(confirm time.Duration) error {
	if d.mode.fixed != nil {
		return d.mode.fixed
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping || d.life.Err() != nil {
		return errStopping
	}
	former, keep := d.fileConfig(), nothingToKeep
	if d.trial != nil && confirm > 0 {
		former = d.trial.former // what was in force before the first of several trials comes back
	}
	if confirm > 0 {
		keep = d.keeping(former)
	}
	err := d.change(func() (*config.Config, error) { return config.Load(d.config.Path) }, keep)
	var refusal *control.Error
	switch {
	case errors.As(err, &refusal): // nothing has changed, and a trial goes on
		return err
	case err != nil && (confirm > 0 || !errors.Is(err, refused.ErrInPart)) && d.life.Err() == nil:
		if t := d.endTrial(); t != nil {
			former = t.former
		}
		return d.goBack(former, confirm > 0, err)
	case confirm > 0:
		d.beginTrial(former, confirm)
	default:
		d.endTrial()
		d.forgetFormer()
	}
	return err
}

// change puts a configuration in force. An error that is a *control.Error means that nothing has
// changed; refused.ErrInPart, that all of it is in force but what the kernel refused. Callers hold
// changing.
//
// keep is called when the configuration is known to be applicable, and before anything changes. Its
// error refuses the change.
func (d *Daemon) change(read func() (*config.Config, error), keep func(*config.Config) (undo func(), err error)) error {
	p, err := d.prepare(read, keep)
	var refusal *control.Error
	if errors.As(err, &refusal) { // for a reason that is not in the file
		return err
	}
	if err != nil {
		d.mu.Lock()
		d.reloadError = err.Error()
		d.mu.Unlock()
		news.Config(d.events, "refused", "the configuration file was refused", oneLine(err))
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	next, agent := p.config, p.agent
	d.door.Commit(p.web)
	d.names.SetPeers(next.Peers)
	d.names.Change(d.agent.peers.InForce(), nil)
	changed := desired.ChangedKeys(d.config, next, d.whereUp)
	if err := d.tunnel.Configure(desired.WithEndpoints(desired.Reload(d.config, next, agent, d.names.Endpoints), changed)); err != nil {
		return err // prepare has checked that before
	}
	for key := range changed {
		d.tunnel.Handshake(key)
	}
	d.tunnel.SetDSCP(next.Tunnel.DSCP)
	if next.Tap != nil {
		if err := d.tunnel.SetEthernet(desired.Ethernet(next.Tap)); err != nil {
			return err // the same
		}
	}
	if costs, err := desired.Ciphers(next.Tunnel.Cipher); err == nil { // the same
		d.tunnel.SetCiphers(costs)
	}
	d.logOwnKey(d.config, next)
	d.mu.Lock()
	d.config, d.loaded, d.reloadError = next, time.Now(), ""
	d.mu.Unlock()
	d.followHosts()
	for _, w := range next.Warnings {
		d.log.Warn(w.Place() + ": " + w.Msg)
	}
	err = errors.Join(d.noteWeb(), d.applyRoutes(d.life))
	d.announceDNS()
	d.lookSoon()
	if err != nil {
		news.Config(d.events, "partly", "the configuration was reloaded, but not all of it was applied", oneLine(err))
		return refused.InPart(err)
	}
	news.Config(d.events, "reloaded", "the configuration was reloaded", "")
	d.log.Info("reloaded", zap.Int("peers", len(next.Peers)))
	return nil
}

// reloadFailure is how the log introduces an error of Reload.
func reloadFailure(err error) string {
	var refused *control.Error
	if errors.As(err, &refused) {
		return "reload refused; the running configuration stays"
	}
	return "reload incomplete"
}

// prepared is a reload that is about to be made: the configuration of the file and of tunctl, and
// what follows for the agent's peers and for the address of metrics.
type prepared struct {
	config *config.Config
	agent  sources.Diff
	web    web.Change
}

// prepare reads a configuration and takes the steps that may be refused, ending with the change of
// sockets. An error means that nothing has changed. Callers hold changing.
func (d *Daemon) prepare(read func() (*config.Config, error), keep func(*config.Config) (func(), error)) (prepared, error) {
	refuse := func(err error) (prepared, error) { return prepared{}, err }
	file, err := read()
	if err != nil {
		return refuse(err)
	}
	if err := desired.NeedsRestart(d.config, file); err != nil {
		return refuse(err)
	}
	if room := d.tunnel.EthernetRoom(); file.Tap != nil && file.Tap.MaxMACs > room {
		return refuse(fmt.Errorf("%s: tap.max_macs: the forwarding database has room for %d while the instance runs: "+
			"restart it for more", file.Path, room))
	}
	if _, err := desired.Ciphers(file.Tunnel.Cipher); err != nil {
		return refuse(fmt.Errorf("%s: %w", file.Path, err))
	}
	next := file
	if d.override.file != nil {
		next = desired.KeepAdded(d.override.file, d.config, file, func(peer string, why error) {
			d.log.Warn("a peer added at run time is removed: the configuration file leaves no room for it",
				zap.String("peer", peer), zap.Error(why))
		})
	}
	agent := d.rejudge(next)
	undo := func(err error) (prepared, error) {
		d.undoAgent(agent)
		return refuse(err)
	}
	if err := d.tunnel.Fits(desired.Reload(d.config, next, agent, d.names.Endpoints)); err != nil {
		return undo(err)
	}
	address := d.door.Prepare(next.Metrics)
	unkeep, err := keep(file)
	if err != nil {
		return undo(errors.Join(err, d.door.Cancel(address)))
	}
	was := d.override
	d.reset(file, next)
	want := next.Tunnel.ListenPort
	if want == d.port || want == 0 && d.config.Tunnel.ListenPort == 0 {
		return prepared{next, agent, address}, nil
	}
	if err := d.rebind(next, want, d.mark(next)); err != nil {
		d.setOverride(func(o *override) { *o = was })
		unkeep()
		return undo(errors.Join(fmt.Errorf("%s: tunnel: listen_port: %w", next.Path, err), d.door.Cancel(address)))
	}
	return prepared{next, agent, address}, nil
}

// reset puts the file in force again: of what was set at run time only the peers stay that next has
// more than the file, and those that WireGuard's tools have added. Callers hold changing.
func (d *Daemon) reset(file, next *config.Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range next.Peers {
		delete(d.byHand, next.Peers[i].PublicKey)
	}
	o := override{}
	if next != file {
		o.file = file
	}
	if o.file != nil || len(d.byHand) > 0 {
		o.since = d.override.since
	}
	d.override = o
}

// applyRoutes brings the kernel's state in line with the configuration in force. Callers hold
// changing.
func (d *Daemon) applyRoutes(ctx context.Context) error {
	mark := d.mark(d.config)
	mtu := desired.TunMTU(d.config, d.path.Device)
	var errs []error
	setMark := func() {
		if err := d.tunnel.SetMark(mark); err != nil {
			errs = append(errs, fmt.Errorf("set fwmark %#x: %w", mark, err))
		}
	}
	if mark != 0 { // before a rule refers to it …
		setMark()
	}
	applied, err := d.routes.Apply(ctx, d.mode.wanted(d.config, d.agentPrefixes(), mtu))
	errs = append(errs, err)
	if mark == 0 { // … and until no rule does any longer
		setMark()
	}
	for i := range applied.Devices {
		applied.Devices[i].Routes = nil // nobody asks the daemon for them, and there may be many
	}
	d.mu.Lock()
	known := d.applied.Warnings
	d.mtu, d.applied = mtu, applied
	d.mu.Unlock()
	for _, w := range applied.Warnings {
		if !slices.Contains(known, w) {
			d.log.Warn(w)
		}
	}
	d.applyBridgeVLANs()
	for _, dev := range applied.Devices {
		d.tunnel.SetMTU(dev.Name, dev.MTU)
	}
	if err := errors.Join(errs...); err != nil {
		d.problems.Note(statusview.KindNetwork, "", oneLine(err))
		return err
	}
	d.problems.Solved(statusview.KindNetwork, "")
	return nil
}

// oneLine is an error in one line, as shown by status.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// whereUp returns the address of a peer that is up, and an invalid one of any other.
func (d *Daemon) whereUp(key keys.PublicKey) (at netip.AddrPort) {
	if d.tunnel.PeerState(key) == tunnel.StateUp {
		at = d.tunnel.Endpoint(key)
	}
	return at
}

// logOwnKey says that we have another key: the peers need the new public one.
func (d *Daemon) logOwnKey(old, next *config.Config) {
	if old.Tunnel.PrivateKey.Equal(next.Tunnel.PrivateKey) {
		return
	}
	d.log.Info("our key has changed", zap.Stringer("key", next.Tunnel.PrivateKey.Public()),
		zap.Bool("previous_key_accepted", next.Tunnel.PreviousKey.Equal(old.Tunnel.PrivateKey)))
}
