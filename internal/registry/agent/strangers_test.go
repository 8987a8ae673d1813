package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tund/internal/control"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// Peers that tund has of an earlier run, and that this run knows nothing of, are not removed
// because of that: not if the earlier run was killed before it had saved them, nor if its state was
// cut or lost, however small the network is. Those that are revoked go nevertheless.
func TestAgent_keepsPeersOfWhichItKnowsNothing(t *testing.T) {
	for name, test := range map[string]struct {
		sites  int
		before func(w *world) // while the earlier run is there
		damage func(w *world) // when it is not
	}{
		"killed before it had saved a new one": {5, func(w *world) {
			w.disk.fail(errDied)
			w.grant(40, 1)
			w.record(40, 1)
			w.shows()
		}, func(w *world) { w.disk.fail(nil) }},
		"the end of its state is gone": {12, nil, func(w *world) {
			w.damage(func(b []byte) []byte { return bytes.Join(bytes.SplitAfter(b, []byte("\n"))[:4], nil) })
		}},
		"its state is gone, and there are few peers": {5, nil, func(w *world) { clear(w.disk.files) }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inWorld(t, test.sites, func(w *world) {
				w.shows()
				w.passes(time.Minute)
				if test.before != nil {
					test.before(w)
				}
				all := w.daemon.names()
				w.stop()
				test.damage(w)
				full := w.store.replace(map[string][]byte{})
				w.start()
				w.passes(firstList + again + time.Minute)
				w.expect("while the store does not answer", all)
				w.shows()
				w.passes(doubt - time.Minute)
				w.expect("while the store is empty", all)
				w.store.set("crl", w.sign(record.SignRevocations(record.Revocations{
					Network: "acme", Sequence: 1, Revoked: map[record.Site]uint64{siteOf(2): 1}}, private(1))))
				w.shows()
				all = strings.Replace(all, "s02 ", "", 1)
				w.expect("once one is revoked", all)
				for key, value := range full {
					w.store.set(key, value)
				}
				w.shows()
				w.passes(again + beat)
				w.expect("once the store is full again", all)
			})
		})
	}
}

// What tund has of an earlier run goes in the end, if the store says nothing of it.
func TestAgent_doubtEnds(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		w.shows()
		w.stop()
		clear(w.disk.files)
		w.store.replace(map[string][]byte{})
		w.start()
		w.shows()
		w.passes(doubt + again + time.Minute)
		w.expect("after an hour", "")
	})
}

// Grants that have expired while the agent was away may have been renewed: their peers stay until
// the store has had the time to say so.
func TestAgent_startsAfterGrantsWereRenewed(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		w.shows()
		all := w.daemon.names()
		w.passes(time.Minute)
		w.stop()
		w.passes(5001 * time.Hour)
		w.start()
		w.passes(time.Minute)
		w.expect("while the store does not answer", all)
		for i := 1; i < 4; i++ {
			w.grant(i, 2)
		}
		w.shows()
		w.passes(time.Minute)
		if _, least := w.daemon.counts(); least != 3 {
			t.Errorf("%d peers at some moment, of which three were renewed", least)
		}
		w.expect("once the store has answered", "s01 s02 s03")
		w.stop()
		w.passes(5000 * time.Hour)
		w.start()
		w.passes(again + time.Minute)
		w.expect("with a store that does not answer for long", "")
	})
}

// Whoever replaces what the agent has handed in is named, once: two agents that steer one tund undo
// what the other does.
func TestAgent_isNotAlone(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		w.stop()
		core, logs := observer.New(zap.WarnLevel)
		w.startWith(Options{
			View:   view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(0)},
			Daemon: w.daemon, Log: zap.New(core),
		})
		w.shows()
		all := w.daemon.names()
		w.daemon.restart()
		w.passes(time.Minute)
		if n := logs.FilterMessage("peers").Len(); n != 0 {
			t.Errorf("after a restart of tund: %v", logs.All())
		}
		for range 3 {
			if _, err := w.daemon.Put(t.Context(), control.SourcePut{Epoch: "another", Generation: 1}); err != nil {
				t.Fatal(err)
			}
			w.passes(2 * beat)
			w.expect("after another program has removed all", all)
		}
		if n := logs.FilterMessage("peers").Len(); n != 1 {
			t.Errorf("%d warnings about another program: %v", n, logs.All())
		}
	})
}
