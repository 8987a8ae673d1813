package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tund/internal/control"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// Peers that tund has of an earlier run of the agent, and that this run knows nothing of. The
// earlier one may have been killed before it saved them, its state may have been lost or be that of
// an older backup, and the store may be one that withholds them. They are not removed before the
// store has shown everything, and then not for as long as doubt. Nor are those whose grants have
// expired, as far as we know, while we were away.

// firstList is how long the store has at the start to say that a grant which has expired meanwhile
// was renewed.
const firstList = 5 * time.Minute

// errDoubt says that peers are kept of which nothing is known.
var errDoubt = errors.New("tund has peers of an earlier run of the agent of which neither the registry nor the saved state says anything: " +
	"they stay for an hour")

// errOthers says that somebody has replaced what we have handed in.
var errOthers = errors.New("another program hands in peers of this instance as well, and both undo what the other does: " +
	"only one agent can steer an instance")

// strangers is what tund has of an earlier run.
type strangers struct {
	epoch      string
	generation uint64
	has        map[string]bool // by key
	leaving    []string        // keys of peers that are to go, of those that it has
}

// strange returns what tund has, if there are peers among it of which nothing is known, and which
// are to stay for now, or if others are missing of which only the saved state knows; nil: tund can
// be told everything.
func (a *Agent) strange(ctx context.Context, d *view.Decision, now time.Time) (*strangers, error) {
	table, err := a.o.Daemon.Sources(ctx)
	if err != nil {
		return nil, err
	}
	var s strangers
	has := 0
	for _, source := range table.Sources {
		if source.Name == control.SourceAgent {
			s.epoch, s.generation, has = source.Epoch, source.Generation, source.Peers
		}
	}
	var others error
	if !a.handedIn.IsZero() && s.epoch != "" && s.epoch != a.epoch {
		others = errOthers
	}
	a.warn("peers", others)
	if has == 0 {
		return nil, nil
	}
	keys, err := a.o.Daemon.AgentPeers(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool, len(d.Peers))
	for i := range d.Peers {
		wanted[d.Peers[i].Key] = true
	}
	s.has = make(map[string]bool, len(keys))
	unknown, missing := 0, len(wanted)
	for _, key := range keys {
		s.has[key] = true
		site, err := record.ParseSite(key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tund has a peer %.60q: %w", key, err)
		case wanted[key]:
			missing--
		case a.view.Revoked(site), a.view.Judged(site) && (a.listed || now.Sub(a.begun) > firstList):
			s.leaving = append(s.leaving, key)
		default:
			unknown++
		}
	}
	switch {
	case !a.listed && missing > 0: // see add
		return &s, nil
	case unknown == 0:
		return nil, nil
	case a.listed && a.doubtSince.IsZero():
		a.doubtSince = now
	}
	if a.listed && now.Sub(a.doubtSince) >= doubt {
		return nil, nil
	}
	return &s, nil
}

// add hands in what was decided beside the strangers that tund has. Until the store has shown
// everything, no peer is added to those: one that only the saved state knows was perhaps removed by
// the earlier run, which then could not save that any more.
func (a *Agent) add(ctx context.Context, d *view.Decision, s *strangers, now time.Time) error {
	patch := control.SourcePatch{Epoch: s.epoch, IfGeneration: s.generation, Generation: s.generation + 1}
	for i := range d.Peers {
		if a.listed || s.has[d.Peers[i].Key] {
			patch.Peers.Set = append(patch.Peers.Set, d.Peers[i].Values)
		}
	}
	patch.Peers.Remove = s.leaving
	a.told = toldHosts{} // which hosts tund has is not known either
	a.patchHosts(&patch)
	answer, err := a.o.Daemon.Patch(ctx, patch)
	if err != nil {
		return err
	}
	a.epoch, a.handedIn, a.told = s.epoch, now, a.wanted
	a.done(answer, d.Peers)
	return nil
}
