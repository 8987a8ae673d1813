package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/internal/sources"
	"tund/internal/statusview"
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
	err := d.reload(confirm)
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
	former := d.fileInForce()
	err := d.change(func() (*config.Config, error) { return config.Load(d.config.Path) })
	var refused *control.Error
	switch {
	case errors.As(err, &refused): // nothing has changed, and a trial goes on
		return err
	case err != nil && (confirm > 0 || !errors.Is(err, errPartly)) && d.life.Err() == nil:
		if t := d.endTrial(); t != nil {
			former = t.former
		}
		return d.goBack(former, err)
	case confirm > 0:
		d.beginTrial(former, confirm)
	default:
		d.endTrial()
	}
	return err
}

// change puts a configuration in force. An error that is a *control.Error means that nothing has
// changed; errPartly, that all of it is in force but what the kernel refused. Callers hold
// changing.
func (d *Daemon) change(read func() (*config.Config, error)) error {
	p, err := d.prepare(read)
	if err != nil {
		d.mu.Lock()
		d.reloadEr = err.Error()
		d.mu.Unlock()
		d.configEvent("refused", "the configuration file was refused", oneLine(err))
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	next, agent := p.config, p.agent
	d.commitWeb(p.web, next.Metrics)
	d.names.SetPeers(next.Peers)
	d.names.Change(d.agent.peers.InForce(), nil)
	changed := d.changedKeys(next)
	if err := d.tunnel.Configure(withEndpoints(d.reloadChange(next, agent), changed)); err != nil {
		return err // prepare has checked that before
	}
	for key := range changed {
		d.tunnel.Call(key)
	}
	d.tunnel.SetDSCP(next.Tunnel.DSCP)
	if next.Tap != nil {
		if err := d.tunnel.SetEthernet(ethernetOptions(next.Tap)); err != nil {
			return err // the same
		}
	}
	if costs, err := ciphers(next.Tunnel.Cipher); err == nil { // the same
		d.tunnel.SetCiphers(costs)
	}
	d.logOwnKey(d.config, next)
	d.mu.Lock()
	d.config, d.loaded, d.reloadEr = next, time.Now(), ""
	d.mu.Unlock()
	for _, w := range next.Warnings {
		d.log.Warn(w.Place() + ": " + w.Msg)
	}
	d.returnMemory(len(next.Peers))
	err = d.applyRoutes(d.life)
	d.lookSoon()
	if err != nil {
		d.configEvent("partly", "the configuration was reloaded, but not all of it was applied", oneLine(err))
		return partly(err)
	}
	d.configEvent("reloaded", "the configuration was reloaded", "")
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

// errPartly matches, with errors.Is, the error of a change that the kernel refused in part.
var errPartly = errors.New("refused in part")

// partly reports that the kernel refused a part of a new configuration.
func partly(err error) error {
	lines := strings.Split(err.Error(), "\n")
	return inPart{fmt.Errorf("the new configuration is in force, but the kernel refused a part of it, which will be tried again "+
		"when the network changes; not applied:\n  %s", strings.Join(lines, "\n  "))}
}

// inPart makes an error match errPartly without changing its text.
type inPart struct{ error }

func (inPart) Is(target error) bool { return target == errPartly }
func (e inPart) Unwrap() error      { return e.error }

// prepared is a reload that is about to be made: the configuration of the file and of tunctl, and
// what follows for the agent's peers and for the address of metrics.
type prepared struct {
	config *config.Config
	agent  sources.Diff
	web    webChange
}

// prepare reads a configuration and takes the steps that may be refused, ending with the change of
// sockets. An error means that nothing has changed. Callers hold changing.
func (d *Daemon) prepare(read func() (*config.Config, error)) (prepared, error) {
	refuse := func(err error) (prepared, error) { return prepared{}, err }
	file, err := read()
	if err != nil {
		return refuse(err)
	}
	if err := needsRestart(d.config, file); err != nil {
		return refuse(err)
	}
	if room := d.tunnel.EthernetRoom(); file.Tap != nil && file.Tap.MaxMACs > room {
		return refuse(fmt.Errorf("%s: tap.max_macs: the forwarding database has room for %d while the instance runs: "+
			"restart it for more", file.Path, room))
	}
	if _, err := ciphers(file.Tunnel.Cipher); err != nil {
		return refuse(fmt.Errorf("%s: %w", file.Path, err))
	}
	next := d.keepAdded(file)
	agent := d.rejudge(next)
	undo := func(err error) (prepared, error) {
		d.mu.Lock()
		d.agent.peers.Undo(agent)
		d.mu.Unlock()
		return refuse(err)
	}
	if err := d.tunnel.Fits(d.reloadChange(next, agent)); err != nil {
		return undo(err)
	}
	web, err := d.prepareWeb(next)
	if err != nil {
		return undo(fmt.Errorf("%s: metrics: listen: %w", next.Path, err))
	}
	was := d.override
	d.reset(file, next)
	want := next.Tunnel.ListenPort
	if want == d.port || want == 0 && d.config.Tunnel.ListenPort == 0 {
		return prepared{next, agent, web}, nil
	}
	if err := d.rebind(next, want, d.mark(next)); err != nil {
		d.setOverride(func(o *override) { *o = was })
		return undo(errors.Join(fmt.Errorf("%s: tunnel: listen_port: %w", next.Path, err), d.cancelWeb(web)))
	}
	return prepared{next, agent, web}, nil
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
	mtu := tunMTU(d.config, d.path.device)
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

// needsRestart refuses changes that a running instance cannot make. It names all of them at once.
func needsRestart(old, next *config.Config) error {
	var errs []error
	refuse := func(key string, differs bool) {
		if differs {
			errs = append(errs, fmt.Errorf("%s: %s changed: restart the instance to apply it", next.Path, key))
		}
	}
	refuse("[tun]", (old.Tun == nil) != (next.Tun == nil))
	refuse("[tap]", (old.Tap == nil) != (next.Tap == nil))
	refuse("[agent]", (old.Agent == nil) != (next.Agent == nil))
	if old.Agent != nil && next.Agent != nil {
		refuse("agent.user", old.Agent.User != next.Agent.User)
	}
	if old.Tun != nil && next.Tun != nil {
		refuse("tun.device", old.Tun.Device != next.Tun.Device)
	}
	if old.Tap != nil && next.Tap != nil {
		refuse("tap.device", old.Tap.Device != next.Tap.Device)
	}
	o, n := &old.Tunnel, &next.Tunnel
	refuse("tunnel.offload", o.Offload != n.Offload)
	refuse("tunnel.udp_offload", o.UDPOffload != n.UDPOffload)
	refuse("tunnel.bind_device", o.BindDevice != n.BindDevice)
	refuse("tunnel.lanes", laneCount(old) != laneCount(next))
	refuse("tunnel.inner_checksum", o.VerifyInnerChecksum != n.VerifyInnerChecksum)
	return errors.Join(errs...)
}
