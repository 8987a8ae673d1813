package agent

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

func TestAgent_publishesItsRecord(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		key := "site/" + siteOf(0).ID() + "/rec"
		w.passes(time.Minute)
		if w.store.get(key) != nil {
			t.Error("a record is published before the grant is known")
		}
		w.shows()
		first := w.store.get(key)
		r, err := record.Kept(first)
		if err != nil || r.Serial == 0 || r.Grant != 1 || !slices.Equal(r.Endpoints, []string{"192.0.2.9:51820"}) {
			t.Fatalf("published %+v, %v", r, err)
		}
		last := r.Serial
		later := func(r record.Record) bool { defer func() { last = r.Serial }(); return r.Serial > last }
		w.passes(11 * time.Hour)
		if string(w.store.get(key)) != string(first) {
			t.Error("the record is published again although it says the same")
		}
		w.passes(2 * time.Hour)
		if r, err = record.Kept(w.store.get(key)); err != nil || !later(r) {
			t.Errorf("half-way through its life: %+v, %v", r, err)
		}
		w.grant(0, 2)
		w.shows()
		w.passes(publishPause + publishJitter + beat)
		if r, err = record.Kept(w.store.get(key)); err != nil || !later(r) || r.Grant != 2 {
			t.Errorf("after a new grant: %+v, %v", r, err)
		}
		w.stop()
		clear(w.disk.files) // the count is lost, but the registry has it
		w.start()
		w.shows()
		w.grant(0, 3)
		w.shows()
		w.passes(publishPause + publishJitter + beat)
		if r, err = record.Kept(w.store.get(key)); err != nil || !later(r) {
			t.Errorf("after the state was lost: %+v, %v", r, err)
		}
	})
}

// A site whose state is lost, in a registry that has lost its record, is heard by those who have
// known it before.
func TestAgent_countsItsRecordsByTheClock(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		others := view.New(view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(9)})
		for range 2 {
			w.shows()
			w.passes(publishPause + publishJitter + beat)
			if err := others.List(w.store.replace(map[string][]byte{"grant/" + siteOf(0).ID(): w.store.get("grant/" + siteOf(0).ID())}), time.Now()); err != nil {
				t.Error(err)
			}
			w.stop()
			clear(w.disk.files)
			w.passes(time.Second)
			w.start()
		}
	})
}

// slowStore is one that takes its time to write.
type slowStore struct {
	*fakeStore
	takes time.Duration
}

func (s slowStore) Put(ctx context.Context, key string, value []byte) error {
	select {
	case <-time.After(s.takes):
		return s.fakeStore.Put(ctx, key, value)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A registry that takes long to write keeps no change from being applied.
func TestAgent_doesNotWaitForTheRegistry(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		w.stop()
		w.startWith(Options{
			Store:  slowStore{w.store, time.Minute},
			View:   view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(0)},
			Daemon: w.daemon, Own: record.Record{Endpoints: []string{"192.0.2.9:51820"}},
		})
		w.shows()
		crl := w.sign(record.SignRevocations(record.Revocations{Network: "acme", Sequence: 1, Revoked: map[record.Site]uint64{siteOf(2): 1}}, private(1)))
		w.store.news <- News{Key: "crl", Value: crl}
		w.passes(100 * time.Millisecond)
		w.expect("revoked while a record is written", "s01")
		w.passes(time.Minute)
		if w.store.get("site/"+siteOf(0).ID()+"/rec") == nil {
			t.Error("the record was not written")
		}
	})
}

// Two agents that publish for one site, as on a copy of its host, are told so, and keep all other
// sites ever less busy.
func TestAgent_hasARival(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		key := recordKey(siteOf(0))
		w.stop()
		core, logs := observer.New(zap.WarnLevel)
		o := w.options(w.disk)
		o.Log = zap.New(core)
		w.startWith(o)
		w.shows()
		ours := 0
		for range 240 {
			r := w.own()
			if len(r.Endpoints) > 0 {
				ours++
				r.Endpoints, r.Serial = nil, r.Serial+1
				w.store.set(key, w.sign(record.SignRecord(r, private(2))))
				w.store.news <- News{Key: key, Value: w.store.get(key)}
			}
			w.passes(30 * time.Second)
		}
		if ours < 3 || ours > 12 {
			t.Errorf("published %d times in two hours", ours)
		}
		if n := logs.FilterMessage("our record").Len(); n != 1 {
			t.Errorf("%d warnings: %v", n, logs.All())
		}
	})
}
