package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/registry/record"
)

// A registry that was emptied, or restored from a backup, gets our record again: without it, others
// would give us up after Silence. It is the same one, which they need not verify again.
func TestAgent_publishesIntoARegistryThatHasLostItsRecord(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		key := "site/" + siteOf(0).ID() + "/rec"
		w.shows()
		first := w.store.get(key)
		w.grant(0, 2)
		w.shows()
		w.passes(publishPause + publishJitter + beat)
		second := w.store.get(key)
		for _, shown := range [][]byte{nil, first, []byte("garbage")} {
			all := map[string][]byte{"grant/" + siteOf(0).ID(): w.store.get("grant/" + siteOf(0).ID())}
			if shown != nil {
				all[key] = shown
			}
			w.store.replace(all)
			w.shows()
			w.passes(publishPause + publishJitter + beat)
			if got := w.store.get(key); string(got) != string(second) {
				t.Errorf("a registry that shows %.20q in place of our record now has %.20q", shown, got)
			}
			w.shows()
			w.passes(2 * publishPause)
			if string(w.store.get(key)) != string(second) {
				t.Error("our record is written again although the registry has it")
			}
		}
	})
}

// A tund that is killed in the middle of a change, before or after it has applied it, is told
// everything again.
func TestAgent_tundDiesInTheMiddleOfAChange(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		all := w.daemon.names()
		for i, dies := range []func(control.SourcePatch){
			func(control.SourcePatch) { w.daemon.restart() },
			func(p control.SourcePatch) { _, _ = w.daemon.Patch(context.Background(), p) },
			func(p control.SourcePatch) { _, _ = w.daemon.Patch(context.Background(), p); w.daemon.restart() },
		} {
			w.daemon.mu.Lock()
			w.daemon.dies = dies
			w.daemon.mu.Unlock()
			w.grant(40+i, 1)
			w.record(40+i, 1)
			w.shows()
			w.passes(lastRetry)
			all += " s4" + string(rune('0'+i))
			w.expect("after a change that was cut off", all)
			if w.daemon.dies != nil {
				t.Fatal("no change was cut off")
			}
		}
	})
}

// errDied is what a client sees of a tund that dies.
var errDied = errors.New("EOF")

// An agent whose file names other signers than before, before they have signed, leaves the peers of
// tund alone, and follows once they have.
func TestAgent_withOtherSigners(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		all := w.daemon.names()
		w.passes(time.Minute)
		w.stop()
		w.signers = []record.Key{public(7)}
		w.start()
		w.passes(time.Minute)
		w.shows()
		w.passes(50 * time.Minute)
		w.expect("with signers who have signed nothing", all)
		for key, value := range w.store.replace(map[string][]byte{}) {
			if strings.HasPrefix(key, "grant/") {
				value = w.sign(record.AddSignature(value, private(7)))
			}
			w.store.set(key, value)
		}
		w.shows()
		w.passes(lastRetry)
		w.expect("once they have signed", all)
		if _, least := w.daemon.counts(); least != 29 {
			t.Errorf("%d peers at some moment", least)
		}
	})
}

// A registry in which something happens all the time that concerns no peer does not have tund asked
// all the time.
func TestAgent_asksTundOnceInABeat(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		w.shows()
		w.daemon.mu.Lock()
		before := w.daemon.patches
		w.daemon.mu.Unlock()
		const beats = 4
		for range int(beats * beat / (2 * settle)) {
			w.store.news <- News{Key: "site/" + siteOf(2).ID() + "/up", Value: []byte("{}")}
			w.passes(2 * settle)
		}
		w.daemon.mu.Lock()
		asked := w.daemon.patches - before
		w.daemon.mu.Unlock()
		if asked < beats-1 || asked > beats+1 {
			t.Errorf("tund was asked %d times in %d beats", asked, beats)
		}
	})
}
