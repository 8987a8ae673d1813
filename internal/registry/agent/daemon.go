package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tund/internal/control"
	"tund/internal/registry/view"
)

// tell makes the daemon have what was decided.
func (a *Agent) tell(ctx context.Context, d *view.Decision, now time.Time) {
	if now.Before(a.retryAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if a.own.lan != nil && a.wanted.version != d.HostsVersion {
		a.wanted = a.wantedHosts(d, now)
	}
	err := a.apply(ctx, d, now)
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code == control.CodeGeneration {
		a.synced = false // the daemon was restarted, or somebody else has changed our peers
		err = a.apply(ctx, d, now)
	}
	failed := err != nil
	if !failed && a.doubting && a.listed {
		err = errDoubt
	}
	a.warn("tund", err)
	a.status.DaemonError = ""
	if err != nil {
		a.status.DaemonError = err.Error()
	}
	if failed {
		a.synced = false
		a.retry = min(max(2*a.retry, firstRetry), lastRetry)
		var dial *control.DialError
		if errors.As(err, &dial) && (dial.Missing() || dial.Stale()) {
			a.retry = min(a.retry, beat) // nobody is there, whom more attempts would keep from work
		}
		a.retryAt = now.Add(a.retry)
		return
	}
	a.retry, a.retryAt = 0, time.Time{}
}

// apply hands in everything, or what has changed.
func (a *Agent) apply(ctx context.Context, d *view.Decision, now time.Time) error {
	if a.synced && now.Sub(a.handedIn) < again {
		return a.patch(ctx, d.Peers)
	}
	if !a.synced || a.doubting {
		s, err := a.strange(ctx, d, now)
		if err != nil {
			return err
		}
		if a.doubting = s != nil; a.doubting {
			return a.add(ctx, d, s, now)
		}
	}
	put := control.SourcePut{Epoch: a.epoch, Generation: a.generation + 1}
	for _, p := range d.Peers {
		put.Peers = append(put.Peers, p.Values)
	}
	// An agent that remembers nothing does not know which hosts its tund has, nor does one that has
	// not seen what has become of them since: it adds to them.
	knows := a.listed && (a.remembered || now.Sub(a.begun) > doubt)
	if a.own.lan != nil && knows {
		put.FDB = slices.AppendSeq([]control.HostEntry{}, maps.Values(a.wanted.hosts))
		put.Neighbors = slices.AppendSeq([]control.NeighborEntry{}, maps.Values(a.wanted.addrs))
	}
	answer, err := a.o.Daemon.Put(ctx, put)
	if err != nil {
		return err
	}
	a.handedIn = now
	a.done(answer, d.Peers)
	if a.own.lan == nil {
		return nil
	}
	if !knows {
		a.told = toldHosts{}
		return a.patch(ctx, d.Peers)
	}
	a.told = a.wanted
	return nil
}

// patch hands in what has changed. Nothing is a change, too, once in a beat: it asks whether the
// daemon still has what it was told. What happens in a registry without a change for the daemon, as
// when many sites come and go, is no reason to ask more often.
func (a *Agent) patch(ctx context.Context, wanted []view.Peer) error {
	patch := control.SourcePatch{Epoch: a.epoch, IfGeneration: a.generation, Generation: a.generation}
	patch.Peers.Set, patch.Peers.Remove = difference(a.applied, wanted)
	a.patchHosts(&patch)
	switch {
	case len(patch.Peers.Set)+len(patch.Peers.Remove) > 0 || !patch.FDB.IsZero() || !patch.Neighbors.IsZero():
		patch.Generation++
	case !a.ask:
		a.told = a.wanted
		return nil
	}
	answer, err := a.o.Daemon.Patch(ctx, patch)
	if err != nil {
		return err
	}
	a.told, a.ask = a.wanted, false
	if patch.Generation != patch.IfGeneration {
		a.done(answer, wanted)
	}
	return nil
}

// difference returns the values of the peers that are to be set, and the keys of those that are to
// go, between two lists in ascending order. Of thousands of peers, few differ: what has not changed
// is the same string in memory, of which a comparison costs nothing.
func difference(applied, wanted []view.Peer) (set []map[string]any, remove []string) {
	for len(applied) > 0 || len(wanted) > 0 {
		order := 0
		switch {
		case len(applied) == 0:
			order = 1
		case len(wanted) == 0:
			order = -1
		default:
			order = bytes.Compare(applied[0].Site[:], wanted[0].Site[:])
		}
		if order > 0 || order == 0 && applied[0].Text != wanted[0].Text {
			set = append(set, wanted[0].Values)
		}
		if order < 0 {
			remove = append(remove, applied[0].Key)
		}
		if order <= 0 {
			applied = applied[1:]
		}
		if order >= 0 {
			wanted = wanted[1:]
		}
	}
	return set, remove
}

// patchHosts adds to a change what has changed of the hosts.
func (a *Agent) patchHosts(patch *control.SourcePatch) {
	if a.own.lan == nil || a.told.version == a.wanted.version {
		return
	}
	for id, e := range a.wanted.hosts {
		if was, known := a.told.hosts[id]; !known || was != e {
			patch.FDB.Set = append(patch.FDB.Set, e)
		}
	}
	for id, e := range a.told.hosts {
		if _, stays := a.wanted.hosts[id]; !stays {
			patch.FDB.Remove = append(patch.FDB.Remove, e.HostID)
		}
	}
	for id, e := range a.wanted.addrs {
		if was, known := a.told.addrs[id]; !known || was != e {
			patch.Neighbors.Set = append(patch.Neighbors.Set, e)
		}
	}
	for id, e := range a.told.addrs {
		if _, stays := a.wanted.addrs[id]; !stays {
			patch.Neighbors.Remove = append(patch.Neighbors.Remove, e.NeighborID)
		}
	}
}

// done notes that the daemon has what was wanted.
func (a *Agent) done(answer control.SourceAnswer, wanted []view.Peer) {
	a.applied = wanted
	a.synced, a.generation = true, answer.Generation
	a.status.Peers, a.status.Applied, a.status.Generation = len(wanted), time.Now(), answer.Generation
	a.status.Rejected = answer.RejectedTotal
	var refused error
	if answer.RejectedTotal > 0 {
		first := "(not listed)"
		if len(answer.Rejected) > 0 {
			first = answer.Rejected[0].Message
		}
		refused = fmt.Errorf("tund refuses %d peers or parts of peers, the first: %s", answer.RejectedTotal, first)
	}
	a.warn("refused", refused)
	var routes error
	if answer.Warning != "" {
		routes = errors.New(answer.Warning)
	}
	a.warn("routes", routes)
}
