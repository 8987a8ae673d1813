package agent

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// leaves has the site leave while the store tells news.
func (w *world) leaves(ctx context.Context, news ...News) error {
	w.t.Helper()
	left := make(chan error, 1)
	go func() {
		left <- Leave(ctx, Options{
			View:  view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(0)},
			Store: w.store, Disk: w.disk, Log: zap.NewNop(), Key: private(2), Lifetime: 24 * time.Hour,
		})
	}()
	for _, n := range news {
		w.store.news <- n
	}
	return <-left
}

func (w *world) own() record.Record {
	w.t.Helper()
	r, err := record.Kept(w.store.get(recordKey(siteOf(0))))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestLeave(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		w.shows()
		first := w.own()
		w.stop()
		if err := w.leaves(context.Background(), News{Err: errors.New("not now")}, News{All: maps.Clone(w.store.values)}); err != nil {
			t.Fatal(err)
		}
		last := w.own()
		if !last.Gone || !last.Newer(&first) || len(last.Endpoints) > 0 {
			t.Errorf("the last record: %+v", last)
		}
		if err := w.leaves(context.Background(), News{All: maps.Clone(w.store.values)}); err != nil || w.own().Serial != last.Serial {
			t.Errorf("the second time: %v, %+v", err, w.own())
		}
		// Whoever knows the last record has to take what a later agent says for newer, also if the
		// registry has lost that record.
		full := w.store.replace(map[string][]byte{})
		w.store.set("grant/"+siteOf(0).ID(), full["grant/"+siteOf(0).ID()])
		w.start()
		w.shows()
		if back := w.own(); back.Gone || !back.Newer(&last) {
			t.Errorf("the site is back with %+v", back)
		}
	})
}

func TestLeave_says(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		w.stop()
		refused := errors.New("permission denied")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.leaves(ctx, News{Err: refused}); !errors.Is(err, refused) {
			t.Errorf("with a registry that does not answer: %v", err)
		}
		if err := w.leaves(context.Background(), News{All: map[string][]byte{}}); !errors.Is(err, errNoGrant) {
			t.Errorf("without a grant: %v", err)
		}
		w.start()
	})
}
