package daemon

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/acquire"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/events"
	"tund/internal/handin"
	"tund/internal/sources"
	"tund/internal/statusview"
	"tund/tunnel/l2"
)

// agentState is what the agent has handed in. It is written with both changing and mu held, and
// read with either.
type agentState struct {
	peers *sources.Peers
	hosts *sources.Hosts
	state handin.State
	// Networks whose traffic an earlier process has left blocked, or an agent that is silent. Those
	// that may be the agent's stay so until it has handed in its peers: it may be absent, and has
	// not said that they are gone.
	blocked []netip.Prefix

	// What the configuration says about it, for the configuration that memo belongs to.
	memo   *config.Config
	others *sources.Others
	reader *config.PeerReader
}

// openAgentSocket binds agent.sock, if the configuration has an agent. The instance continues
// without it: the traffic of the file's peers does not depend on an agent.
func (d *Daemon) openAgentSocket(context.Context) error {
	if d.config.Agent == nil {
		return nil
	}
	name := d.config.Agent.User
	uid, err := acquire.UserID(name)
	if err == nil {
		d.agentSocket, err = d.control.ListenAgent(uid)
	}
	if err != nil {
		d.log.Warn("no agent.sock: no agent can hand in peers until a restart", zap.Error(err))
		d.problems.Note(statusview.KindAgent, "", "no agent.sock: "+oneLine(err))
		return nil
	}
	d.undo.push(d.agentSocket.Close)
	return nil
}

// serveAgent answers the agent until its socket is closed.
func (d *Daemon) serveAgent() {
	if d.agentSocket == nil {
		return
	}
	d.background.Go(func() {
		if err := d.agentSocket.Serve(agentAPI{d}); err != nil {
			d.log.Error("agent.sock failed; the tunnel continues without it", zap.Error(err))
		}
	})
	d.background.Go(d.expireAgent)
}

// agentAPI is the instance from the point of view of an agent (control.AgentBackend).
type agentAPI struct{ d *Daemon }

// Sources describes what belongs to whom (control.AgentBackend).
func (a agentAPI) Sources() []control.Source { return a.d.sources() }

// Events returns what happens in the instance (control.AgentBackend).
func (a agentAPI) Events() *events.Log { return a.d.events }

// FDB describes the forwarding database (control.AgentBackend).
func (a agentAPI) FDB() control.FDBInstance {
	return statusview.FDB(a.d.instance(), a.d.tunnel.EthernetStatus(), nil)
}

// Begin starts a change (control.AgentBackend).
func (a agentAPI) Begin(whole bool) (control.SourceChange, error) {
	d := a.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if whole {
		d.heap.Working(d.config.Agent.Peers)
	}
	if d.agent.memo != d.config {
		d.agent.memo, d.agent.reader = d.config, d.config.NewPeerReader()
		d.agent.others = sources.NewOthers(d.config.Peers, d.byHand)
	}
	return &agentChange{handin.New(d.agent.reader, d.config.Agent.Peers, time.Now()), d, whole}, nil
}

// agentChange is a change as it was read (control.SourceChange).
type agentChange struct {
	*handin.Batch
	d     *Daemon
	whole bool
}

// Commit applies the change (control.SourceChange).
func (c *agentChange) Commit(head control.SourceHead) (control.SourceAnswer, error) {
	d := c.d
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping || d.life.Err() != nil {
		return control.SourceAnswer{}, errStopping
	}
	s := &d.agent
	if err := s.state.Follows(head); err != nil && !c.whole {
		return control.SourceAnswer{}, err
	}
	if s.memo != d.config { // a reload came between
		s.memo, s.others, s.reader = d.config, d.others(d.config), d.config.NewPeerReader()
	}
	c.Peers.Whole = c.whole
	diff, err := d.changeAgent(func() sources.Diff { return s.peers.Change(c.Peers, d.config.Agent, s.others) })
	if err != nil {
		return control.SourceAnswer{}, invalid(err)
	}
	for _, r := range diff.Rejected {
		c.Reject(handin.Peers, r)
	}
	d.hostsFollow(diff)
	d.changeHosts(c.Batch, c.whole, head)
	freed := c.whole && d.unblock()
	rejected, refused := c.Rejections()
	d.mu.Lock()
	s.state.Applied(head, c.whole, refused, time.Now())
	d.mu.Unlock()
	answer := control.SourceAnswer{Generation: head.Generation, Start: d.runName(), RejectedTotal: refused, Rejected: rejected}
	if err := d.followAgent(diff, freed); err != nil {
		answer.Warning = "the kernel refused a part, which will be tried again: " + oneLine(err)
	}
	d.heap.Worked(len(c.Peers.Set))
	return answer, nil
}

// Clear removes all that the agent has handed in (control.AgentBackend).
func (a agentAPI) Clear() (int, error) { return a.clear(nil) }

// clear is Clear, if the state of the agent is still as wanted (nil: always). Silence is no word
// that the networks are gone: what is sent to them stays blocked then, until the agent speaks.
func (a agentAPI) clear(wanted func(*handin.State) bool) (int, error) {
	d := a.d
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping || d.life.Err() != nil {
		return 0, errStopping
	}
	if wanted != nil && !wanted(&d.agent.state) {
		return 0, nil
	}
	blocks := wanted != nil && d.config.Tun != nil && d.config.Tun.Guard != config.GuardOff
	removed, _ := d.agent.peers.Len()
	former := d.agentPrefixes()
	diff, err := d.changeAgent(func() sources.Diff {
		return d.agent.peers.Change(sources.Change{Whole: true}, d.config.Agent, d.others(d.config))
	})
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	d.agent.hosts = sources.NewHosts()
	d.agent.state.Cleared(time.Now())
	if blocks {
		d.agent.blocked = former
	}
	d.mu.Unlock()
	d.tellSwitch(l2.Assignment{Whole: true})
	if blocks {
		return removed, nil // the kernel keeps what it has
	}
	return removed, d.followAgent(diff, d.unblock())
}

// changeAgent changes the agent's peers and the tunnel accordingly, or neither. Callers hold
// changing.
func (d *Daemon) changeAgent(change func() sources.Diff) (sources.Diff, error) {
	d.mu.Lock()
	diff := change()
	d.mu.Unlock()
	if err := d.tunnel.Configure(desired.AgentPeers(diff, d.names.Endpoints)); err != nil {
		d.undoAgent(diff)
		return sources.Diff{}, err
	}
	d.names.Change(diff.Peers())
	return diff, nil
}

// undoAgent takes back a change of the agent's peers that the tunnel did not take. Callers hold
// changing.
func (d *Daemon) undoAgent(diff sources.Diff) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agent.peers.Undo(diff)
}

// unblock notes that the agent has said which networks it has, and reports whether others were
// blocked. Callers hold changing.
func (d *Daemon) unblock() (freed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	freed = len(d.agent.blocked) > 0
	d.agent.blocked = nil
	return freed
}

// followAgent makes the kernel's routes follow a change of the agent's peers; freed says that more
// may have changed than that. Callers hold changing.
func (d *Daemon) followAgent(diff sources.Diff, freed bool) error {
	if freed {
		return d.applyRoutes(d.life)
	}
	come, leave := d.agent.peers.Prefixes(diff)
	if len(come)+len(leave) == 0 || d.config.Tun == nil || !d.config.Tun.Routes {
		return nil
	}
	if d.routes.Patch(d.config.Tun.Device, desired.Routes(d.config, come), desired.Routes(d.config, leave)) {
		return nil
	}
	return d.applyRoutes(d.life)
}

// runName names this run of the daemon.
func (d *Daemon) runName() string {
	return strconv.FormatInt(d.process.Started.UnixNano(), 36) + "-" + strconv.Itoa(d.process.PID)
}

// Handshake begins a handshake with a peer (control.AgentBackend).
func (a agentAPI) Handshake(publicKey string) error {
	key, err := keys.ParsePublic(publicKey)
	if err != nil {
		return invalid(errors.New("public_key: want a key in base64"))
	}
	if !a.d.tunnel.Handshake(key) {
		return &control.Error{Code: control.CodeNotFound, Message: "no peer has this public key"}
	}
	return nil
}

// Peers describes the peers in few words (control.AgentBackend).
func (a agentAPI) Peers() []control.PeerRow {
	d := a.d
	status := d.tunnel.Status()
	d.heap.Worked(len(status.Peers))
	d.mu.Lock()
	defer d.mu.Unlock()
	return statusview.PeerRows(status.Peers, d.sourceNames())
}
