// Package agent keeps the peers of a running tund as a registry says they are to be, and publishes
// what the site says of itself.
//
// It connects three parts that know nothing of each other: a Store, which shows signed documents
// (package dirstore); a view, which decides what they mean (package view, where the rules are); and
// the daemon, which is told the difference (agent.sock). It keeps the view on disk, so that a start
// without a registry leads to the peers known last.
//
// Nothing here is a reason to remove a peer: not an empty store, nor one that does not answer, nor
// an agent that has lost its state, or that was killed before it saved it. Peers that the daemon
// has of an earlier run, and of which neither the store nor the saved state says anything, stay
// until the store has shown everything, and for an hour from then on.
package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/internal/control"
	"tund/internal/limit"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// Times of the loop.
const (
	// settle gathers changes that come together into one.
	settle = 50 * time.Millisecond
	// beat is how often the daemon is asked whether it still has what it was told.
	beat = 5 * time.Second
	// again is how often everything is handed in again, so that what the daemon has refused is
	// permitted once its file permits it.
	again = 10 * time.Minute
	// After a failure the daemon is tried again after firstRetry, doubling up to lastRetry.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// doubt is for how long peers of an earlier run stay of which the store says nothing.
	doubt = time.Hour
	// callTimeout bounds one request to the daemon.
	callTimeout = 2 * time.Minute
)

// Store shows the documents of a network.
type Store interface {
	// Run tells sink what the store has until ctx ends: first everything, then changes, or
	// everything again. Failures are told, too, and tried again. It may be called again once it has
	// returned, and then begins with everything.
	Run(ctx context.Context, sink func(News))
	// Put writes the document of a key.
	Put(ctx context.Context, key string, value []byte) error
}

// News is what a store tells.
type News struct {
	// All is everything that the store has, by key; nil: the news is about one key.
	All   map[string][]byte
	Key   string
	Value []byte // nil: the key is gone
	Err   error  // the store does not answer; nothing else counts
	// With All: how many values were passed over because no document belongs at their keys, or one
	// site has too many, and the prefix of the first.
	Surplus int
	Whose   string
}

// Daemon is a running tund, by its agent.sock (control.AgentClient).
type Daemon interface {
	Put(context.Context, control.SourcePut) (control.SourceAnswer, error)
	Patch(context.Context, control.SourcePatch) (control.SourceAnswer, error)
	Sources(context.Context) (control.SourceTable, error)
	// AgentPeers returns the public keys of the peers that belong to the agent.
	AgentPeers(context.Context) ([]string, error)
}

// Disk keeps files across restarts.
type Disk interface {
	// Open returns what was saved under a name; nil: nothing was.
	Open(name string) (io.ReadCloser, error)
	// Save replaces a file by what write writes. After a crash there is either the old one or the
	// new one.
	Save(name string, write func(io.Writer) error) error
	// Append adds to a file that was saved. After a crash a part of data may be missing.
	Append(name string, data []byte) error
}

// Options is what an agent is made of.
type Options struct {
	View   view.Options
	Store  Store
	Daemon Daemon
	Disk   Disk
	Log    *zap.Logger
	// Key signs our records; Own is what we say of ourselves, less network, site, grant and
	// serials. Lifetime is for how long a record counts.
	Key      ed25519.PrivateKey
	Own      record.Record
	Lifetime time.Duration
	Static   []StaticHost // hosts on our LAN that tund need not hear
	// Worked is called after everything that the store has was worked on, with the number of sites;
	// nil: nothing is.
	Worked func(sites int)
	// Now is the clock by which documents begin and end; nil: time.Now.
	Now func() time.Time
}

// Agent is the state of one agent. It belongs to the goroutine of Run.
type Agent struct {
	o     Options
	view  *view.View
	in    *inbox
	epoch string // of the generations we count

	remembered bool // the state of an earlier run was there
	listed     bool // the store has shown everything

	applied    []view.Peer // what the daemon was told, by site, ascending
	synced     bool        // the daemon has just that
	ask        bool        // a beat has passed since the daemon was asked whether it has
	generation uint64
	handedIn   time.Time // when everything was handed in last
	doubting   bool      // the daemon has more, of which nothing is known
	doubtSince time.Time // when the store had shown everything, and nothing of that; zero: never
	retry      time.Duration
	retryAt    time.Time // of the daemon; zero: at once

	dirty   bool // the view may differ from the one on disk
	savedAt time.Time
	// savedStatus is what the file of the status says.
	savedStatus []byte
	state       stateFile

	clock        clock
	own          ownHosts
	wanted, told toldHosts // what tund is to have of the hosts of all sites, and what it has
	begun        time.Time // of Run
	held         bool      // the store was given what it may forget
	soon         bool      // another step is due
	worked       bool      // in this step, on everything that the store has

	published publishing
	status    Status
	shown     atomic.Pointer[Status] // a copy for others
	warned    map[string]bool        // warnings that were logged and still hold
	// conflictLines is how many lines about conflicts were logged lately.
	conflictLines limit.Until
}

// New returns an agent with the state that an earlier run has left on disk.
func New(o Options) (*Agent, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Agent{
		o: o, view: view.New(o.View), in: newInbox(), epoch: hex.EncodeToString(id[:]),
		warned: make(map[string]bool), own: newOwnHosts(&o), published: newPublishing(),
	}
	return a, a.restore()
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	a.begun = a.o.Now()
	stopped := make(chan struct{})
	again := make(chan struct{}, 1)
	go func() { defer close(stopped); a.followStore(ctx, again) }()
	defer func() { <-stopped }()
	if a.own.lan != nil {
		followed := make(chan struct{})
		go func() { defer close(followed); a.followLAN(ctx) }()
		defer func() { <-followed }()
	}
	due := alarm{timer: time.NewTimer(0), set: true, at: time.Now()}
	defer due.timer.Stop()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			a.read(a.o.Now())
			a.save(a.o.Now(), true)
			return
		case <-a.in.kick:
			due.within(settle)
		case w := <-a.published.done:
			a.wrote(w, a.o.Now())
			due.within(settle)
		case <-a.own.news:
			a.own.dirty = true
			due.within(settle)
		case <-ticker.C:
			a.ask = true
			if a.clock.wasSet(a.o.Now(), time.Now()) {
				a.o.Log.Warn("the clock was set; reading the registry again")
				signal(again)
			}
			due.within(0)
		case <-due.timer.C:
			due.set = false
			if a.step(ctx) {
				due.within(settle)
			}
			if a.soon || a.own.dirty && a.own.lan != nil {
				due.within(lookPause)
			}
		}
	}
}

// alarm is when the next step is due. What comes later does not put it off, or a registry in which
// something changes all the time would never be followed.
type alarm struct {
	timer *time.Timer
	set   bool
	at    time.Time
}

// within has the alarm ring within d.
func (a *alarm) within(d time.Duration) {
	at := time.Now().Add(d)
	if a.set && !at.Before(a.at) {
		return
	}
	a.timer.Reset(d)
	a.set, a.at = true, at
}

// warn logs an error about something once, until it is gone or another one.
func (a *Agent) warn(what string, err error) {
	text := what + ": "
	for known := range a.warned {
		if len(known) > len(text) && known[:len(text)] == text && (err == nil || known != text+err.Error()) {
			delete(a.warned, known)
		}
	}
	if err == nil || a.warned[text+err.Error()] {
		return
	}
	a.warned[text+err.Error()] = true
	a.o.Log.Warn(what, zap.Error(err))
}

// step reads, decides, tells the daemon, publishes and saves. It reports whether there is more to
// read.
func (a *Agent) step(ctx context.Context) (more bool) {
	now := a.o.Now()
	more = a.read(now)
	a.soon = false
	if a.view.Unsaved() {
		a.save(now, true)
	}
	if a.listed || a.remembered {
		d := a.view.Decide(now)
		a.report(&d, now)
		a.tell(ctx, &d, now)
		if a.listed {
			a.holdAgain()
			fresh := a.look(ctx, now) && a.synced
			a.soon = a.publishHosts(ctx, &d, now, fresh)
		}
	}
	a.publish(ctx, now)
	a.save(now, false)
	a.show()
	if a.worked && a.o.Worked != nil {
		a.o.Worked(a.view.Sites())
	}
	a.worked = false
	return more
}

// show makes the status visible to others. What it points to is not changed later.
func (a *Agent) show() {
	s := a.status
	a.shown.Store(&s)
}

// Status returns what an operator should know of the agent. Its slices and maps are not to be
// changed. It may be called at any time, by any goroutine.
func (a *Agent) Status() Status {
	if s := a.shown.Load(); s != nil {
		return *s
	}
	return Status{}
}

// report logs what an operator should know about a decision.
func (a *Agent) report(d *view.Decision, now time.Time) {
	var held, outdated error
	if d.Held > 0 {
		held = errHeld
	}
	if d.Outdated {
		outdated = errors.New("no newer list has come: sign it again (tunctl net revoke without a site), or find out what delays it")
	}
	a.warn("removals", held)
	a.warn("revocations", outdated)
	a.status.Grant = a.view.Standing(now)
	a.warn("our own grant", standing(a.status.Grant))
	for _, c := range d.Conflicts {
		if !slices.Contains(a.status.Conflicts, c) && a.conflictLines.Take(boottime.Time(now.Sub(a.begun)), conflictRate) {
			a.o.Log.Warn("two sites claim the same resource", zap.String("conflict", c))
		}
	}
	a.warn("hosts", a.frozen(d))
	a.status.Frozen, a.status.Hosts, a.status.HostsSurplus, a.status.HostsAbsent = len(d.Frozen), len(d.Hosts), d.Surplus, d.Absent
	a.status.Replicators = d.Replicators
	a.status.Up, a.status.Present = a.view.Up()
	a.status.Sites, a.status.Held, a.status.Conflicts = a.view.Sites(), d.Held, d.Conflicts
	a.status.SitesAbsent = d.Lacking
	var absent error
	if a.status.SitesAbsent > 0 {
		absent = errAbsent
	}
	a.warn("records", absent)
	a.status.Refused = a.view.Refused()
}

// conflictRate bounds the lines about conflicts: a hostile site may claim the addresses of other
// hosts every time. All are in the status.
var conflictRate = limit.Each(time.Minute, 16)

// standing says what is wrong with our own grant; nil: nothing is, or it has not come yet.
func standing(s view.Standing) error {
	switch s {
	case view.Revoked:
		return errors.New("is revoked: other sites have removed us as a peer, and only a new one of the signers changes that " +
			"(for a new key, if someone else may have ours)")
	case view.Ended:
		return errors.New("has expired: other sites remove us as a peer until the signers grant it again")
	}
	return nil
}

// maxFrozenNamed bounds the hosts that one warning names: a hostile site may have many of them
// move.
const maxFrozenNamed = 8

// frozen says which hosts have moved too often; nil: none.
func (a *Agent) frozen(d *view.Decision) error {
	if len(d.Frozen) == 0 {
		return nil
	}
	var list []string
	for _, id := range d.Frozen[:min(len(d.Frozen), maxFrozenNamed)] {
		list = append(list, fmt.Sprintf("%s in VLAN %d at %s", id.MAC, id.VLAN, a.view.Name(d.Hosts[id].Site)))
	}
	if len(d.Frozen) > maxFrozenNamed {
		list = append(list, "and others")
	}
	return fmt.Errorf("have moved between sites %d times in a short time, and are frozen for a while (two hosts may have one address): %s",
		view.FreezeMoves-1, strings.Join(list, ", "))
}

var errAbsent = errors.New("the registry lacks the records of sites that are peers (sites_absent in --status): " +
	"they go after seven days, unless the sites write them again")

var errHeld = errors.New("many peers would go at once, by expiry or because the store has lacked them for long: " +
	"they stay for an hour, unless they are revoked")
