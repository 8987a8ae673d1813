package agent

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"tund/internal/registry/record"
)

// mortal is a disk of a process that is killed while it writes for the last time: what it would
// have replaced stays, what it would have added is there by half, and nothing is written any more.
type mortal struct {
	*memory
	left int    // writes until then
	last func() // at that moment
}

func (m *mortal) dies() bool {
	if m.left--; m.left == -1 && m.last != nil {
		m.last()
	}
	return m.left < 0
}

func (m *mortal) Save(name string, write func(io.Writer) error) error {
	if m.dies() {
		return errDied
	}
	return m.memory.Save(name, write)
}

func (m *mortal) Append(name string, data []byte) error {
	if m.dies() {
		if m.left == -1 {
			_ = m.memory.Append(name, data[:len(data)/2])
		}
		return errDied
	}
	return m.memory.Append(name, data)
}

// happens has four sites join, and one be revoked meanwhile.
func (w *world) happens() {
	for i := range 4 {
		w.grant(40+i, 1)
		w.record(40+i, 1)
		if i == 2 {
			w.store.set("crl", w.sign(record.SignRevocations(record.Revocations{
				Network: "acme", Sequence: 1, Revoked: map[record.Site]uint64{siteOf(1): 1}}, private(1))))
		}
		w.shows()
		w.passes(savePause)
	}
}

// Whenever an agent is killed, or can write no more, the next one, with a registry that does not
// answer, neither takes a peer away nor brings one back that was revoked; and once the registry
// answers, all is as it has to be.
func TestAgent_isKilledAtAnyMoment(t *testing.T) {
	for write := range 9 {
		t.Run(fmt.Sprint(write), func(t *testing.T) {
			inWorld(t, 5, func(w *world) {
				w.stop()
				disk := &mortal{w.disk, write, nil}
				w.startWith(w.options(disk))
				w.happens()
				all := w.daemon.names()
				w.stop()
				if disk.left >= 0 {
					t.Errorf("the last %d writes were not put to the test", disk.left+1)
				}
				w.start()
				w.passes(firstList + time.Minute)
				if all != "s02 s03 s04 s40 s41 s42 s43" {
					t.Errorf("before, the daemon has %q", all)
				}
				w.expect("after a kill, while the registry does not answer", all)
				w.shows()
				w.passes(2 * beat)
				w.expect("once the registry answers", all)
				if _, least := w.daemon.counts(); least != 7 {
					t.Errorf("%d peers at some moment", least)
				}
			})
		})
	}
}

// A host that loses power with agent and tund, at whatever moment, does not come up with a peer
// that it had removed because it was revoked.
func TestAgent_losesPowerAtAnyMoment(t *testing.T) {
	for write := range 9 {
		t.Run(fmt.Sprint(write), func(t *testing.T) {
			inWorld(t, 5, func(w *world) {
				w.stop()
				w.startWith(w.options(&mortal{w.disk, write, func() { w.daemon.fail(errDied) }}))
				w.happens()
				w.stop()
				before := w.daemon.names()
				w.daemon.fail(nil)
				w.daemon.restart()
				w.start()
				w.passes(time.Minute)
				after := w.daemon.names()
				if !strings.Contains(before, "s01") && strings.Contains(after, "s01") {
					t.Errorf("the host comes up with %q, and had %q", after, before)
				}
				if write > 2 && !strings.Contains(after, "s04") {
					t.Errorf("the host comes up with %q", after)
				}
			})
		})
	}
}
