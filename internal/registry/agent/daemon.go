package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	wanted := make(map[string]string, len(d.Peers))
	values := make(map[string]map[string]any, len(d.Peers))
	for _, p := range d.Peers {
		text, err := json.Marshal(p.Values)
		if err != nil {
			// They are strings and numbers.
			panic("internal/registry/agent: cannot encode a peer: " + err.Error())
		}
		key := p.Site.String()
		wanted[key], values[key] = string(text), p.Values
	}
	err := a.apply(ctx, d, wanted, values, now)
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code == control.CodeGeneration {
		a.synced = false // the daemon was restarted, or somebody else has changed our peers
		err = a.apply(ctx, d, wanted, values, now)
	}
	a.warn("tund", err)
	a.status.DaemonError = ""
	if err != nil {
		a.status.DaemonError = err.Error()
		a.synced = false
		a.retry = min(max(2*a.retry, firstRetry), lastRetry)
		a.retryAt = now.Add(a.retry)
		return
	}
	a.retry, a.retryAt = 0, time.Time{}
}

// apply hands in everything, or what has changed.
func (a *Agent) apply(ctx context.Context, d *view.Decision, wanted map[string]string, values map[string]map[string]any, now time.Time) error {
	if a.synced && now.Sub(a.handedIn) < again {
		return a.patch(ctx, wanted, values)
	}
	if err := a.believe(ctx, len(wanted), now); err != nil {
		return err
	}
	put := control.SourcePut{Epoch: a.epoch, Generation: a.generation + 1}
	for _, p := range d.Peers {
		put.Peers = append(put.Peers, p.Values)
	}
	answer, err := a.o.Daemon.Put(ctx, put)
	if err != nil {
		return err
	}
	a.handedIn = now
	a.done(answer, wanted)
	return nil
}

// patch hands in what has changed. Nothing is a change, too: it asks whether the daemon still has
// what it was told.
func (a *Agent) patch(ctx context.Context, wanted map[string]string, values map[string]map[string]any) error {
	patch := control.SourcePatch{Epoch: a.epoch, IfGeneration: a.generation, Generation: a.generation}
	for key, text := range wanted {
		if a.applied[key] != text {
			patch.Peers.Set = append(patch.Peers.Set, values[key])
		}
	}
	for key := range a.applied {
		if _, stays := wanted[key]; !stays {
			patch.Peers.Remove = append(patch.Peers.Remove, key)
		}
	}
	if len(patch.Peers.Set)+len(patch.Peers.Remove) > 0 {
		patch.Generation++
	}
	answer, err := a.o.Daemon.Patch(ctx, patch)
	if err != nil {
		return err
	}
	if patch.Generation != patch.IfGeneration {
		a.done(answer, wanted)
	}
	return nil
}

// done notes that the daemon has what was wanted.
func (a *Agent) done(answer control.SourceAnswer, wanted map[string]string) {
	a.synced, a.applied, a.generation = true, wanted, answer.Generation
	a.status.Peers, a.status.Applied, a.status.Generation = len(wanted), time.Now(), answer.Generation
	a.status.Rejected = answer.RejectedTotal
	var refused error
	if answer.RejectedTotal > 0 {
		first := "(not listed)"
		if len(answer.Rejected) > 0 {
			first = answer.Rejected[0].Message
		}
		refused = fmt.Errorf("tund refuses %d peers or parts of them, the first: %s", answer.RejectedTotal, first)
	}
	a.warn("refused", refused)
	var routes error
	if answer.Warning != "" {
		routes = errors.New(answer.Warning)
	}
	a.warn("routes", routes)
}

// errDoubt keeps peers that an agent without memory would remove.
var errDoubt = errors.New("the daemon has many more peers of an earlier run than the store shows, and that run's state is lost: " +
	"nothing is removed for an hour")

// believe returns errDoubt if an agent that remembers nothing would remove many peers.
func (a *Agent) believe(ctx context.Context, wanted int, now time.Time) error {
	if a.remembered || !a.handedIn.IsZero() {
		return nil
	}
	table, err := a.o.Daemon.Sources(ctx)
	if err != nil {
		return err
	}
	has := 0
	for _, s := range table.Sources {
		if s.Name == "agent" {
			has = s.Peers
		}
	}
	if has-wanted <= view.Allowance(has) {
		return nil
	}
	if a.doubtSince.IsZero() {
		a.doubtSince = now
	}
	if now.Sub(a.doubtSince) < doubt {
		return errDoubt
	}
	return nil
}
