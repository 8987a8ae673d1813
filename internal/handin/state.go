package handin

import (
	"fmt"
	"time"

	"tund/internal/control"
	"tund/internal/sources"
)

// State is how far an agent has come: the generation of what it has handed in, and for how long it
// may be silent. The zero State is that of an agent that has handed in nothing. It has no lock.
type State struct {
	epoch      string
	generation uint64
	applied    time.Time
	rejected   int           // elements refused in the last change
	stale      bool          // somebody else has changed what is the agent's
	hold       time.Duration // 0: it may be silent for ever
	heard      time.Time
}

// Follows returns nil if a change that is not of the whole starts from this state. Otherwise the
// error, a *control.Error, tells the agent what is in force and to hand in everything.
func (s *State) Follows(head control.SourceHead) error {
	if !s.stale && head.Epoch == s.epoch && head.IfGeneration == s.generation {
		return nil
	}
	return &control.Error{Code: control.CodeGeneration, Message: fmt.Sprintf(
		"the change starts from generation %d of epoch %q; in force is %d of %q: hand in everything (PUT)",
		head.IfGeneration, head.Epoch, s.generation, s.epoch)}
}

// Renumbers reports whether a change counts the moves of hosts from the beginning, because it has a
// new epoch.
func (s *State) Renumbers(head control.SourceHead) bool { return head.Epoch != s.epoch }

// Applied notes a change that was applied, of which so many elements were refused.
func (s *State) Applied(head control.SourceHead, whole bool, refused int, now time.Time) {
	if whole {
		s.hold = head.Hold
	}
	s.epoch, s.generation, s.stale = head.Epoch, head.Generation, false
	s.applied, s.heard, s.rejected = now, now, refused
}

// Cleared notes that nothing is left of what the agent had handed in.
func (s *State) Cleared(now time.Time) {
	s.epoch, s.generation, s.rejected, s.applied, s.hold = "", 0, 0, now, 0
}

// Touched notes that somebody else has changed what is the agent's: it has to hand in everything
// again.
func (s *State) Touched() { s.stale = true }

// Silent reports whether the agent has been silent for longer than it said that it may be.
func (s *State) Silent(now time.Time) bool { return s.hold > 0 && now.Sub(s.heard) > s.hold }

// Source describes the agent as a source of these peers and hosts.
func (s *State) Source(peers *sources.Peers, hosts *sources.Hosts) control.Source {
	all, shadowed := peers.Len()
	stations, neighbors := hosts.Len()
	return control.Source{
		Name: sources.Agent, Generation: s.generation, Epoch: s.epoch, Applied: control.At(s.applied),
		Peers: all, Shadowed: shadowed, FDB: stations, Neighbors: neighbors, Rejected: s.rejected, HoldS: s.hold.Seconds(),
	}
}
