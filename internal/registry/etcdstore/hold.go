package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// Documents that the registry forgets when we are gone hang on a lease. A lease that is lost, for
// instance because the members of the cluster could not agree for long, is nothing special: a new
// one is made after a while, and everything is written again.

const (
	// leaseTTL is the life of the lease. It is renewed three times in that time. Leases of ten
	// seconds were all lost when a leader stood still for 15 seconds, and none of 20 or more.
	leaseTTL = 60 // seconds
	// leasePause is the most that a site waits before it makes a new lease, so that not all do at
	// once.
	leasePause = 5 * time.Second
	// Writes of one site: a burst, then one each writePause.
	writeBurst = 20
	writePause = 200 * time.Millisecond
	// maxHeld bounds the documents on the lease.
	maxHeld = 1024
	// longestPut is the most that a document is waited for, which takes a line of 24 kbit/s for the
	// longest, and of 6 for a usual one.
	longestPut = 16 * time.Second
)

// holding is what is to hang on the lease.
type holding struct {
	mu     sync.Mutex
	wanted map[string][]byte
	dirty  map[string]bool // not written as it is to be
	passed map[string]bool // of these, what the registry has refused of late
	lease  int64           // the one that they are to hang on
	kick   chan struct{}
	lost   chan struct{} // the registry has lost one of them
	err    error
}

func newHolding() holding {
	return holding{wanted: make(map[string][]byte), dirty: make(map[string]bool), passed: make(map[string]bool), kick: make(chan struct{}, 1), lost: make(chan struct{}, 1)}
}

// Hold keeps a document in the registry for as long as we are there (agent.Holder).
func (s *Store) Hold(key string, value []byte) {
	h := &s.holding
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.wanted[key]; !there && len(h.wanted) >= maxHeld {
		h.err = fmt.Errorf("more than %d documents of this site", maxHeld)
		return
	}
	h.wanted[key], h.dirty[key] = value, true
	delete(h.passed, key)
	signal(h.kick)
}

// signal makes sure that something is in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// gone notes that the registry no longer has a key. If it is one of ours its lease has ended, which
// the client would notice only when it renews the lease.
func (h *holding) gone(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ours := h.wanted[key]; ours {
		signal(h.lost)
	}
}

// HoldError returns why documents could not be written lately; nil: all were (agent.Holder).
func (s *Store) HoldError() error {
	s.holding.mu.Lock()
	defer s.holding.mu.Unlock()
	return s.holding.err
}

// next returns a document that has to be written. Those that were refused are passed over, or one
// that the site may not write would keep all others from being written.
func (h *holding) next() (key string, value []byte, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := make([]string, 0, len(h.dirty))
	for key := range h.dirty {
		if !h.passed[key] {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return "", nil, false
	}
	key = slices.Max(keys) // of site/…/up and l2/…, the former
	return key, h.wanted[key], true
}

// wrote notes what became of writing a document. Whoever was not answered may have written it, and
// has it in the end if the registry has shown it: a busy cluster would otherwise be kept busy by
// documents that it has, which each time it tells to everybody.
func (h *holding) wrote(key string, value []byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && key != "" && !h.dirty[key] {
		err = nil
	}
	if err == nil && string(h.wanted[key]) == string(value) {
		delete(h.dirty, key)
	}
	if refused(err) {
		h.passed[key] = true
	}
	if err != nil || len(h.passed) == 0 {
		h.err = err
	}
}

// shown notes what the registry has at a key, and on which lease; 0: on none.
func (h *holding) shown(key string, value []byte, lease int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dirty[key] && lease == h.lease && string(h.wanted[key]) == string(value) {
		delete(h.dirty, key)
		if delete(h.passed, key); len(h.passed) == 0 {
			h.err = nil
		}
	}
}

// begin has everything written, to hang on a lease.
func (h *holding) begin(lease clientv3.LeaseID) {
	h.mu.Lock()
	h.lease = int64(lease)
	h.mu.Unlock()
	h.all()
}

// forgive has what was refused written again.
func (h *holding) forgive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.passed)
}

// refuses reports whether something was refused of late.
func (h *holding) refuses() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.passed) > 0
}

// coded is an error of the registry, which has been reached then.
type coded interface{ Code() codes.Code }

// refused reports whether a document was refused for its own sake. Others may be accepted.
func refused(err error) bool {
	var e coded
	return errors.As(err, &e) && (e.Code() == codes.PermissionDenied || e.Code() == codes.InvalidArgument)
}

// leaseless reports whether there is no lease of that number any more.
func leaseless(err error) bool {
	var e coded
	return errors.As(err, &e) && e.Code() == codes.NotFound
}

// empty reports whether nothing is to hang on the lease.
func (h *holding) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.wanted) == 0
}

// all marks everything as not written.
func (h *holding) all() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.wanted {
		h.dirty[key] = true
	}
	clear(h.passed)
}

// keep keeps a lease and the documents on it, until ctx ends. The lease is then left to expire, so
// that a restart is not noticed.
func (s *Store) keep(ctx context.Context) {
	if s.holding.empty() {
		select {
		case <-ctx.Done():
			return
		case <-s.holding.kick:
		}
	}
	pause := time.Duration(0)
	for ctx.Err() == nil {
		err := s.lease(ctx)
		s.holding.all()
		if ctx.Err() != nil {
			return
		}
		s.holding.wrote("", nil, err)
		pause = min(max(2*pause, firstRetry), lastRetry)
		if errors.Is(err, errLost) {
			pause = firstRetry
		}
		wait(ctx, pause/2+rand.N(leasePause))
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// errLost ends a lease that the registry no longer has.
var errLost = errors.New("etcd: the lease of this site has ended; a new one follows")

// lease makes a lease and writes what is to hang on it, until it is lost.
func (s *Store) lease(ctx context.Context) error {
	select {
	case <-s.holding.lost: // with the lease before
	default:
	}
	call, cancel := context.WithTimeout(ctx, s.callTimeout)
	granted, err := s.client.Grant(call, leaseTTL)
	cancel()
	if err != nil {
		return fmt.Errorf("etcd: make a lease: %w", err)
	}
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	alive, err := s.client.KeepAlive(ctx, granted.ID)
	if err != nil {
		return fmt.Errorf("etcd: keep the lease: %w", err)
	}
	s.holding.begin(granted.ID)
	w := writing{lease: granted.ID, budget: writeBurst, patience: s.putTimeout}
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for {
		if err := s.writeSome(ctx, &w); err != nil {
			return err
		}
		var next <-chan time.Time // an agent that has nothing to write sleeps
		if w.budget < writeBurst || w.rest > 0 {
			next = tick.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.holding.lost:
			return errLost
		case answer, open := <-alive:
			if !open || answer == nil {
				return errLost
			}
		case <-next:
			w.budget = min(w.budget+1, writeBurst)
			if w.rest -= writePause; w.rest <= 0 {
				s.holding.forgive()
			}
		case <-s.holding.kick:
		}
	}
}

// writing is how far the documents of a lease have come.
type writing struct {
	lease  clientv3.LeaseID
	budget int
	// pause is the last pause after a failure, and rest what is left of it.
	pause, rest time.Duration
	patience    time.Duration // with the next document
}

// writeSome writes documents until all are written, the budget is used up, or the registry does not
// take them. After a document that could not be written in time the next attempt has more: over a
// slow line nothing would ever be written otherwise, and the line never be free.
func (s *Store) writeSome(ctx context.Context, w *writing) error {
	for w.budget > 0 && w.rest <= 0 {
		key, value, ok := s.holding.next()
		if !ok {
			if s.holding.refuses() {
				w.wait()
			}
			return nil
		}
		w.budget--
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, w.patience)
		_, err := s.client.Put(call, s.prefix+key, string(value), clientv3.WithLease(w.lease))
		cancel()
		s.holding.wrote(key, value, err)
		switch {
		case err == nil:
			w.pause = 0
			if time.Since(began) < s.putTimeout {
				w.patience = s.putTimeout
			}
		case leaseless(err):
			return errLost
		case !refused(err):
			if errors.Is(err, context.DeadlineExceeded) {
				w.patience = min(2*w.patience, longestPut)
			}
			w.wait()
		}
	}
	return nil
}

// wait has nothing written for a while, which doubles.
func (w *writing) wait() {
	w.pause = min(max(2*w.pause, firstRetry), lastRetry)
	w.rest = w.pause + rand.N(w.pause)
}
