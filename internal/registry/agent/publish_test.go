package agent

import (
	"slices"
	"testing"
	"time"

	"tund/internal/registry/record"
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
		if err != nil || r.Serial != 1 || r.Grant != 1 || !slices.Equal(r.Endpoints, []string{"192.0.2.9:51820"}) {
			t.Fatalf("published %+v, %v", r, err)
		}
		w.passes(11 * time.Hour)
		if string(w.store.get(key)) != string(first) {
			t.Error("the record is published again although it says the same")
		}
		w.passes(2 * time.Hour)
		if r, err = record.Kept(w.store.get(key)); err != nil || r.Serial != 2 {
			t.Errorf("half-way through its life: %+v, %v", r, err)
		}
		w.grant(0, 2)
		w.shows()
		w.passes(publishPause + publishJitter)
		if r, err = record.Kept(w.store.get(key)); err != nil || r.Serial != 3 || r.Grant != 2 {
			t.Errorf("after a new grant: %+v, %v", r, err)
		}
		w.stop()
		clear(w.disk.files) // the count is lost, but the registry has it
		w.start()
		w.shows()
		w.grant(0, 3)
		w.shows()
		w.passes(publishPause + publishJitter)
		if r, err = record.Kept(w.store.get(key)); err != nil || r.Serial != 4 {
			t.Errorf("after the state was lost: %+v, %v", r, err)
		}
	})
}
