package tunnel

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"sync"
	"time"

	"tund/crypto/keys"
	"tund/tunnel/ethernet"
	"tund/tunnel/peer"
)

// A tunnel can go on in another process, which takes over the devices, the sockets and the
// sessions: Suspend in the one, Continue in the other. A counter is never used twice, because the
// first process has stopped sending before the sessions are read, and neither is a datagram
// accepted twice, because the replay windows go along.

// savedVersion changes with the meaning of saved.
const savedVersion = 1

// saved is what Suspend returns, encoded by encoding/gob.
type saved struct {
	Version int
	Peers   []*peer.Saved
	LAN     *ethernet.Saved // nil: none, or the other process was of a version without
}

// interruptEvery is how often a receive loop that may have missed the request to stop is asked
// again.
const interruptEvery = time.Millisecond

// Suspend ends the tunnel as Close does, except that it leaves the sockets as they are, with what
// waits in them, for a duplicate of each to go on. It sends what was read from the devices, writes
// what was received, and returns the sessions, which contain keys, with what the switch has
// learned; the caller wipes them. If the
// loops have not ended within the given time, it closes everything and returns an error, and then
// the sessions are not to be continued. A tunnel that was closed before cannot be suspended.
func (t *Tunnel) Suspend(patience time.Duration) (sessions []byte, err error) {
	err = errors.New("tunnel is closed")
	t.stopOnce.Do(func() { err = t.halt(patience) })
	if err != nil {
		return nil, fmt.Errorf("suspend tunnel: %w", err)
	}
	s := saved{Version: savedVersion}
	for _, p := range t.peers.All() {
		if one := p.Save(); one != nil {
			s.Peers = append(s.Peers, one)
		}
	}
	s.LAN = t.lan.Save()
	var out bytes.Buffer
	err = gob.NewEncoder(&out).Encode(&s)
	wipe(s.Peers)
	if err != nil {
		return nil, fmt.Errorf("suspend tunnel: %w", err)
	}
	return out.Bytes(), nil
}

// halt stops the loops: first those that receive, since they write to the devices, then those that
// send, and at last the sockets.
func (t *Tunnel) halt(patience time.Duration) error {
	t.configMu.Lock() // a Rebind under way finishes first
	defer t.configMu.Unlock()
	close(t.stop)
	t.env.Taps.Close(captureEnds)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(interruptEvery)
	defer again.Stop()
	errs := []error{t.closeFormers()}
	ask := func() {
		for _, l := range t.lanes {
			l.Conn().StopReceiving()
		}
	}
	ask()
	ended := t.await(&t.receives, deadline.C, again.C, ask)
	for _, d := range t.devices {
		for _, q := range d.Queues {
			errs = append(errs, q.Close())
		}
	}
	if ended {
		ended = t.await(&t.running, deadline.C, nil, nil)
	}
	for _, l := range t.lanes {
		errs = append(errs, l.Conn().Close())
	}
	if !ended {
		errs = append(errs, errors.New("its loops have not stopped"))
	}
	return errors.Join(errs...)
}

// await waits for a group of loops, and calls ask again and again meanwhile. It reports false if
// the deadline came first.
func (t *Tunnel) await(group *sync.WaitGroup, deadline, again <-chan time.Time, ask func()) bool {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return true
		case <-deadline:
			return false
		case <-again:
			ask()
		}
	}
}

// Continue gives the peers the sessions with which another process was suspended, and the switch
// what it had learned of those peers and of the LAN. It returns how many peers have a session now.
// It is called after Configure and before Start. Peers that are not configured any more are left
// out, and so are sessions of a key that is not ours any more. An error means that no session is
// continued.
func (t *Tunnel) Continue(sessions []byte) (peers int, err error) {
	var s saved
	if err := gob.NewDecoder(bytes.NewReader(sessions)).Decode(&s); err != nil {
		return 0, fmt.Errorf("continue sessions: %w", err)
	}
	defer wipe(s.Peers)
	if s.Version != savedVersion {
		return 0, fmt.Errorf("continue sessions: they have version %d, and this tund reads version %d", s.Version, savedVersion)
	}
	t.configMu.Lock()
	defer t.configMu.Unlock()
	now := t.env.Clock.Now()
	alive := make(map[keys.PublicKey]*peer.Peer)
	for _, one := range s.Peers {
		p := t.peers.Get(one.PublicKey)
		if p == nil {
			continue
		}
		if p.Continue(one, t.env.Index, len(t.lanes), t.handshakes.Holds, now) {
			peers++
			alive[one.PublicKey] = p
			t.env.SessionUp(p, now)
		}
		if next, ok := p.NextDeadline(); ok {
			t.env.Deadlines.Arm(&p.Deadline, next)
		}
	}
	t.lan.Continue(s.LAN, func(key keys.PublicKey) *peer.Peer { return alive[key] })
	return peers, nil
}

// wipe erases the keys of saved sessions.
func wipe(peers []*peer.Saved) {
	for _, p := range peers {
		for i := range p.Sessions {
			p.Sessions[i].Zero()
		}
	}
}
