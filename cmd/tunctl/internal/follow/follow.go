// Package follow follows what happens in instances, beyond their restarts, and tells which events
// concern a peer.
//
// It prints nothing and ends only when it is told to. A Follower is used by one goroutine.
package follow

import (
	"context"
	"errors"
	"time"

	"tund/internal/control"
	"tund/internal/events"
)

// Event is an event of an instance, as `tunctl monitor --json` prints it.
type Event struct {
	Instance string `json:"instance"`
	events.Event
}

// reconnectPause is the time between two attempts to follow an instance that has stopped.
const reconnectPause = time.Second

// Follower follows one instance, and again after it was restarted.
type Follower struct {
	Client  *control.Client
	Kinds   []events.Kind    // nil: all
	After   *uint64          // the number of the event to continue after; nil: with what comes next
	Lines   chan<- Event     // where events go
	Now     func() time.Time // the wall clock
	Explain func(error) string
	Log     func(text string) // says that the instance has gone, and that it is back
}

// Run follows the instance until ctx ends. The error is that it could not be followed at first.
func (f *Follower) Run(ctx context.Context) error {
	connected, lost := false, false
	for {
		err := f.Client.Follow(ctx, f.After, f.Kinds, func(e *events.Event, _ []byte) error {
			if lost {
				f.Log(f.Client.Instance() + " runs again")
			}
			connected, lost = true, false
			f.After = &e.N
			if e.Kind == control.LineHeartbeat {
				return nil
			}
			return f.pass(ctx, *e)
		})
		var answer *control.Error
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &answer) && answer.Code == control.CodeGone:
			f.After = new(uint64) // with the oldest that is remembered
			gap := events.Event{Time: f.Now(), Kind: control.LineGone, Message: "events are missing here: " + f.Client.Instance() + " was restarted, or had too many to remember"}
			if err := f.pass(ctx, gap); err != nil {
				return nil
			}
			continue
		case !connected:
			return err
		case !lost:
			f.Log(f.Explain(err))
			lost = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnectPause):
		}
	}
}

// pass hands an event over.
func (f *Follower) pass(ctx context.Context, e events.Event) error {
	select {
	case f.Lines <- Event{f.Client.Instance(), e}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
