package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func hasManyPeers(c contender) bool {
	_, ok := c.(manyPeers)
	return ok
}

// handshakePeers bounds the peers of the case handshakes: enough for a steady figure, few enough
// for short rounds.
const handshakePeers = 4000

// handshakeRate measures how fast a responder answers initiations that are all from different
// peers.
func handshakeRate(ctx context.Context, m *measurement) (metrics, error) {
	peers, err := newIdentities(min(m.peers, handshakePeers))
	if err != nil {
		return nil, err
	}
	initiator, stop, err := m.startInitiator(ctx, peers)
	if err != nil {
		return nil, err
	}
	defer stop()
	pid := m.pair.daemons[0].pid()
	before, err := processSeconds(pid)
	if err != nil {
		return nil, err
	}
	var r shakeReport
	if err := initiator.ask(ctx, shakeOrder{}, &r); err != nil {
		return nil, err
	}
	if r.Answered == 0 {
		return nil, errors.New("no initiation was answered")
	}
	after, err := processSeconds(pid)
	if err != nil {
		return nil, err
	}
	return metrics{
		"per_s":      float64(r.Answered) / r.Took.Seconds(),
		"cpu_us":     (after - before) * 1e6 / float64(r.Answered),
		"unanswered": float64(len(peers) - r.Answered),
	}, nil
}

// rest is how long a daemon has to become quiet before its memory is read.
const rest = 2 * time.Second

// peerMemory starts a responder with many peers, reads its memory, opens a session with each and
// reads it again.
func peerMemory(ctx context.Context, m *measurement) (metrics, error) {
	peers, err := newIdentities(m.peers)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	initiator, stop, err := m.startInitiator(ctx, peers)
	if err != nil {
		return nil, err
	}
	defer stop()
	out := metrics{"start_s": m.responderUp.Sub(began).Seconds()}
	pid := m.pair.daemons[0].pid()
	if out["idle_mib"], err = residentAfter(ctx, rest, pid); err != nil {
		return nil, err
	}
	var r shakeReport
	if err := initiator.ask(ctx, shakeOrder{Confirm: true}, &r); err != nil {
		return nil, err
	}
	out["unanswered"] = float64(len(peers) - r.Answered)
	out["live_mib"], err = residentAfter(ctx, rest, pid)
	return out, err
}

func residentAfter(ctx context.Context, pause time.Duration, pid int) (float64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(pause):
		return residentMiB(pid)
	}
}

// startInitiator starts the contender as a responder for peers and the worker that plays all of
// them. It notes when the responder was up.
func (m *measurement) startInitiator(ctx context.Context, peers []identity) (*worker, func(), error) {
	public, err := m.contender.(manyPeers).startResponder(ctx, m.pair, peers)
	if err != nil {
		return nil, nil, err
	}
	m.responderUp = time.Now()
	play := shakePlay{Responder: public.String(), At: fmt.Sprintf("%s:%d", m.pair.b.underlay, listenPort)}
	for _, p := range peers {
		play.Private = append(play.Private, p.private.String())
	}
	text, err := json.Marshal(play)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(m.pair.dir, "initiators.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, nil, err
	}
	w, err := m.startWorker(m.pair.a.ns, "handshakes", path)
	if err != nil {
		return nil, nil, err
	}
	return w, w.stop, nil
}

// flowAmongPeers is the case tcp1 with many configured peers beside the one that is used.
func flowAmongPeers(ctx context.Context, m *measurement) (metrics, error) {
	peers, err := newIdentities(m.peers)
	if err != nil {
		return nil, err
	}
	if err := m.contender.start(ctx, m.pair, demand{morePeers: peers}); err != nil {
		return nil, err
	}
	if err := m.pair.waitUp(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	if err := startIperfServers(ctx, m.pair, 1); err != nil {
		return nil, err
	}
	return flow(ctx, m, flowPlan{processes: 1, flows: 1, length: m.length})
}
