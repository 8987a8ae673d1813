package tunnel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/internal/drop"
	"tund/tunnel/lane"
	"tund/tunnel/udp"
)

// lingering is for how long after a change of the UDP port the old one is still received from: for
// what is on its way there before the peers have heard of the new one. It covers a round trip of a
// second, and is less than what a reload waits for a port that is taken (acquire.Patiently), so
// that a port may be changed there and back.
const lingering = 500 * time.Millisecond

// maxFormer bounds the former ports that are received from at one time, in addition to the port in
// use. A port that is changed more often within half a second is left earlier.
const maxFormer = 2

// formerPort is the sockets of a port that was in use before, from which is still received. The
// zero value has none.
type formerPort struct {
	conns []udp.Conn
	loops *sync.WaitGroup
	seen  []uint64 // overflows that are counted already, by socket
	end   *time.Timer
}

// close closes the sockets, so that their loops end. It does not wait for them.
func (f *formerPort) close() error {
	var errs []error
	for _, c := range f.conns {
		errs = append(errs, c.Close())
	}
	if f.end != nil {
		f.end.Stop()
	}
	return errors.Join(errs...)
}

// Rebind replaces the sockets, one for each lane. On an error nothing has changed, and the new ones
// remain the caller's. Peers learn the new port from the next datagram they get, which is sent at
// once to those with a session; what comes to the old port in the half second after that is
// received as well, also when the port changes again in that time.
func (t *Tunnel) Rebind(conns []udp.Conn) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	if len(conns) != len(t.lanes) {
		return fmt.Errorf("rebind: %d sockets for %d lanes", len(conns), len(t.lanes))
	}
	if t.env.Stopped() {
		return errors.New("rebind: tunnel is closed")
	}
	was := t.slot()
	t.rebinds++
	t.leaveFormer(t.slot())
	former := formerPort{loops: t.loopsOf}
	t.loopsOf = new(sync.WaitGroup)
	for i, l := range t.lanes {
		conns[i].OnICMP(t.handshakes.ICMP)
		old := l.Rebind(conns[i], t.receiving[i][t.slot()])
		former.conns = append(former.conns, old)
		former.seen = append(former.seen, old.Overflows())
		t.drops.Add(drop.QueueOverflow, old.Overflows()) // the new one counts from zero
		t.receive(l)
	}
	former.end = time.AfterFunc(lingering, func() {
		t.configMu.Lock()
		defer t.configMu.Unlock()
		if t.former[was].loops == former.loops {
			t.leaveFormer(was)
		}
	})
	t.former[was] = former
	t.PathsChanged(func(udp.Endpoint) bool { return true })
	return nil
}

// slot is the place of the port in use among those that are received from. The caller holds
// configMu.
func (t *Tunnel) slot() int { return t.rebinds % len(t.former) }

// receive starts the loop of the socket that a lane has now. The caller holds configMu, or is
// about to start the tunnel.
func (t *Tunnel) receive(l *lane.Lane) {
	loop, group := lane.NewReceiveLoop(t.env, l, t.devices), t.loopsOf
	t.receives.Add(1)
	group.Add(1)
	t.running.Go(func() {
		defer t.receives.Done()
		defer group.Done()
		loop.Run()
	})
}

// leaveFormer ends what is left of the former port in a slot. The caller holds configMu.
func (t *Tunnel) leaveFormer(slot int) {
	f := t.former[slot]
	t.former[slot] = formerPort{}
	if f.loops == nil {
		return
	}
	if err := f.close(); err != nil {
		t.log.Debug("old socket", zap.Error(err))
	}
	f.loops.Wait()
	for i, c := range f.conns {
		t.drops.Add(drop.QueueOverflow, c.Overflows()-f.seen[i])
	}
}

// closeFormers closes the sockets of all former ports. The caller holds configMu.
func (t *Tunnel) closeFormers() error {
	var errs []error
	for i := range t.former {
		errs = append(errs, t.former[i].close())
	}
	return errors.Join(errs...)
}
