package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/internal/registry/record"
)

// Bounds of what waits between the store and the agent.
const (
	// inboxBytes is for changes of all documents of some thousand sites at once. With more, the
	// store waits.
	inboxBytes = 32 << 20
	// siteShare is how many changes of one site are looked at in one step: each costs 60 µs if it
	// is not what it should be, and a site may write as many as it likes.
	siteShare = 32
)

// inbox is what the store has told since the last step. Of each key it keeps the newest value, so
// that a site that writes without end costs no more than one that writes once in a step, and a
// store is not kept waiting by a daemon that is slow.
type inbox struct {
	kick chan struct{} // there is something
	room chan struct{} // there is room again

	mu      sync.Mutex // guards what follows
	list    *News      // everything, which has not been looked at; nil: none
	changes map[string][]byte
	bytes   int // of changes
	err     error
	heard   bool // whatever err says is new
}

func newInbox() *inbox {
	return &inbox{kick: make(chan struct{}, 1), room: make(chan struct{}, 1), changes: make(map[string][]byte)}
}

// put takes news of the store. It waits while there is no room, until ctx ends.
func (b *inbox) put(ctx context.Context, n News) {
	for !b.take(&n) {
		select {
		case <-b.room:
		case <-ctx.Done():
			return
		}
	}
	signal(b.kick)
}

// signal makes sure that something is in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take reports whether there was room.
func (b *inbox) take(n *News) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case n.Err != nil:
	case n.All != nil:
		b.list, b.bytes = n, 0
		clear(b.changes)
	default:
		was, there := b.changes[n.Key]
		more := len(n.Value) - len(was)
		if !there {
			more += len(n.Key)
		}
		if len(b.changes) > 0 && b.bytes+more > inboxBytes {
			return false
		}
		b.changes[n.Key] = n.Value
		b.bytes += more
	}
	b.err, b.heard = n.Err, true
	return true
}

// keyValue is one change.
type keyValue struct {
	key   string
	value []byte // nil: the key is gone
}

// next returns what is to be looked at now: everything, if the store has shown it, and changes
// since, in the order in which they depend on each other. more says that something is left.
func (b *inbox) next() (list *News, changes []keyValue, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, b.list = b.list, nil
	taken := make(map[string]int)
	for _, key := range slices.SortedFunc(maps.Keys(b.changes), byRank) {
		group, _ := record.Place(key)
		if taken[group]++; group != "" && taken[group] > siteShare {
			continue
		}
		value := b.changes[key]
		changes = append(changes, keyValue{key, value})
		b.bytes -= len(key) + len(value)
		delete(b.changes, key)
	}
	signal(b.room)
	return list, changes, len(b.changes) > 0
}

// byRank orders keys such that revocations come first, then grants.
func byRank(a, b string) int {
	rank := func(key string) int {
		switch {
		case key == "crl":
			return 0
		case strings.HasPrefix(key, "grant/"):
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// failure returns whether the store has said anything since the last call, and why it does not
// answer.
func (b *inbox) failure() (heard bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	heard, b.heard = b.heard, false
	return heard, b.err
}

// read takes what the store has told. It reports whether something is left for another step.
func (a *Agent) read(now time.Time) (more bool) {
	if heard, err := a.in.failure(); heard {
		a.warn("store", err)
		a.status.StoreError = ""
		if err != nil {
			a.status.StoreError = err.Error()
			a.view.Unreadable()
		}
	}
	list, changes, more := a.in.next()
	if list != nil {
		a.warn("documents", a.view.List(list.All, now))
		a.warn("registry", surplus(list))
		// The store may say more of what tund has beside what we have handed in.
		a.synced = a.synced && !a.doubting && (a.listed || a.own.lan == nil)
		a.listed, a.dirty, a.worked = true, true, true
		a.status.Listed, a.status.StoreSurplus = now, list.Surplus
	}
	for _, c := range changes {
		a.dirty = true
		if c.value == nil {
			a.view.Gone(c.key, now)
		} else if err := a.view.Put(c.key, c.value, now); err != nil {
			a.o.Log.Debug("a document is refused", zap.Error(err))
		}
	}
	return more
}

// surplus says that somebody has put into the registry what does not belong there; nil: nobody has.
func surplus(list *News) error {
	if list.Surplus == 0 {
		return nil
	}
	return fmt.Errorf("holds values that are not documents, or more documents than one site may have; they are ignored: %d, the first below %q",
		list.Surplus, list.Whose)
}
