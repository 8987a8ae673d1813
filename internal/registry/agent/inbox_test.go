package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tund/internal/registry/record"
)

// A site that writes without end, documents and what is none, delays nobody: a revocation of
// another site and a record of a third count within a fifth of a second.
func TestAgent_aSiteThatWritesWithoutEnd(t *testing.T) {
	inWorld(t, 4, func(w *world) {
		w.shows()
		w.expect("at first", "s01 s02 s03")
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ctx.Err() == nil; i++ {
				for part := range 40 {
					w.store.news <- News{Key: record.StationsKey(siteOf(1), 0, uint8(part)), Value: fmt.Append(nil, "no document ", i)}
				}
				w.store.news <- News{Key: "site/" + siteOf(1).ID() + "/rec", Value: fmt.Append(nil, i)}
				w.store.news <- News{Key: fmt.Sprintf("site/%s/%d", siteOf(1).ID(), i), Value: []byte{}}
				time.Sleep(7 * time.Millisecond)
			}
		}()
		w.passes(3 * time.Second)
		w.grant(4, 1)
		w.record(4, 1)
		for _, key := range []string{"grant/" + siteOf(4).ID(), "site/" + siteOf(4).ID() + "/rec"} {
			w.store.news <- News{Key: key, Value: w.store.get(key)}
		}
		time.Sleep(200 * time.Millisecond)
		w.expect("a site that joins", "s01 s02 s03 s04")
		w.store.news <- News{Key: "crl", Value: w.sign(record.SignRevocations(record.Revocations{
			Network: "acme", Sequence: 1, Revoked: map[record.Site]uint64{siteOf(2): 1}}, private(1)))}
		time.Sleep(200 * time.Millisecond)
		w.expect("a site that is revoked", "s01 s03 s04")
		stop()
		<-done
	})
}

// What waits for a daemon that does not answer is bounded, and the newest of each key counts.
func TestInbox_isBounded(t *testing.T) {
	t.Parallel()
	b := newInbox()
	value := make([]byte, 1<<20)
	for i := range 10 * inboxBytes / len(value) {
		if !b.take(&News{Key: "site/a/rec", Value: append(value, fmt.Sprint(i)...)}) {
			t.Fatal("no room for newer values of one key")
		}
	}
	took := 0
	for ; took < 10*inboxBytes/len(value) && b.take(&News{Key: fmt.Sprintf("site/%d/rec", took), Value: value}); took++ {
	}
	if took < inboxBytes/len(value)/2 || took > inboxBytes/len(value) {
		t.Errorf("room for %d values of 1 MiB", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := make(chan struct{})
	go func() { b.put(ctx, News{Key: "site/last/rec", Value: value}); close(put) }()
	if _, changes, more := b.next(); len(changes) != took+1 || more {
		t.Errorf("%d changes", len(changes))
	}
	<-put
	if ctx.Err() != nil {
		t.Error("the store waits although there is room")
	}
	if _, changes, _ := b.next(); len(changes) != 1 || b.bytes != 0 {
		t.Errorf("%d changes, and %d bytes are left", len(changes), b.bytes)
	}
}

// Of one site so much is looked at in one step, and revocations and grants come first.
func TestInbox_takesTurns(t *testing.T) {
	t.Parallel()
	b := newInbox()
	for part := range 100 {
		b.take(&News{Key: record.StationsKey(siteOf(1), 0, uint8(part))})
	}
	for _, key := range []string{"site/z/rec", "grant/z", "crl"} {
		b.take(&News{Key: key, Value: []byte{}})
	}
	_, first, more := b.next()
	if len(first) != siteShare+3 || !more || first[0].key != "crl" || first[1].key != "grant/z" {
		t.Errorf("%d changes at first, %v left: %.3v", len(first), more, first)
	}
	total := len(first)
	for more {
		var changes []keyValue
		_, changes, more = b.next()
		total += len(changes)
	}
	if total != 103 {
		t.Errorf("%d changes in all", total)
	}
	b.take(&News{Key: "crl", Value: []byte{}})
	b.take(&News{All: map[string][]byte{}})
	if list, changes, _ := b.next(); list == nil || len(changes) != 0 {
		t.Errorf("after everything was shown: %v", changes)
	}
}
