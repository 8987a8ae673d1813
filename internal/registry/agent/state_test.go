package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// file returns the state on disk.
func (w *world) file() []byte {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	return bytes.Clone(w.disk.files[stateName])
}

// damage changes the state on disk.
func (w *world) damage(change func([]byte) []byte) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	w.disk.files[stateName] = change(w.disk.files[stateName])
}

// tells the agent of the newest record of a site.
func (w *world) tells(i int, serial uint64) {
	w.record(i, serial)
	key := "site/" + siteOf(i).ID() + "/rec"
	w.store.news <- News{Key: key, Value: w.store.get(key)}
}

// A change of one site among many adds one line to the state, which does not grow without end.
func TestState_aChangeIsALine(t *testing.T) {
	inWorld(t, 200, func(w *world) {
		w.shows()
		w.passes(time.Minute)
		before := w.file()
		w.tells(7, 2)
		w.passes(time.Minute)
		after := w.file()
		added, is := bytes.CutPrefix(after, before)
		if !is || bytes.Count(added, []byte("\n")) != 1 || len(added) > len(after)/100 {
			t.Errorf("a change of one site of 200 adds %d bytes to %d", len(added), len(before))
		}
		w.disk.mu.Lock()
		saves := w.disk.saves
		w.disk.mu.Unlock()
		w.passes(time.Hour)
		w.disk.mu.Lock()
		saves = w.disk.saves - saves
		w.disk.mu.Unlock()
		if most := int(time.Hour / again); !bytes.Equal(w.file(), after) || saves > most {
			t.Errorf("the files are written although nothing has changed, that of the status %d times, want %d at the most", saves, most)
		}
		most := 0
		for serial := range uint64(20) {
			for i := 1; i < 200; i++ {
				w.tells(i, serial+3)
			}
			w.passes(savePause + beat)
			most = max(most, len(w.file()))
		}
		if limit := len(before) + addedLeast + len(before); most > limit {
			t.Errorf("the file grows to %d bytes, from %d", most, len(before))
		}
		if len(w.file()) >= most {
			t.Error("the file was never rewritten")
		}
		all := w.daemon.names()
		w.daemon.restart()
		w.stop()
		w.start() // and the store does not answer
		w.passes(time.Minute)
		w.expect("after a restart", all)
	})
}

// A process may be killed while it writes, and a disk may lose what was written last.
func TestState_damaged(t *testing.T) {
	for name, test := range map[string]struct {
		change func([]byte) []byte
		lost   bool
	}{
		"the last line is cut": {func(b []byte) []byte { return b[:len(b)-10] }, false},
		"zeros behind it":      {func(b []byte) []byte { return append(b, make([]byte, 100)...) }, true},
		"half of it is gone": {func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return append(bytes.Join(lines[:15], nil), "garbage\n"...)
		}, true},
		"no state at all": {func([]byte) []byte { return []byte("[1, 2]\n") }, true},
		"empty":           {func([]byte) []byte { return nil }, true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inWorld(t, 30, func(w *world) {
				w.shows()
				w.passes(time.Minute)
				w.tells(7, 2)
				w.passes(time.Minute)
				all := w.daemon.names()
				w.stop()
				w.damage(test.change)
				w.start() // and the store does not answer
				w.passes(time.Minute)
				w.expect("with the state as it is", all)
				if puts, least := w.daemon.counts(); least != 29 || test.lost != (puts == 1) {
					t.Errorf("everything was handed in %d times, %d peers at some moment", puts, least)
				}
				w.shows()
				w.passes(time.Minute)
				w.expect("once the store answers", all)
				w.stop()
				w.daemon.restart()
				w.start()
				w.passes(time.Minute)
				w.expect("after another restart", all)
			})
		})
	}
}

// A disk that is full for a while loses nothing that was known.
func TestState_fullDisk(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		w.passes(time.Minute)
		w.disk.fail(fmt.Errorf("no space left on device"))
		w.grant(40, 1)
		w.record(40, 1)
		w.shows()
		w.passes(time.Minute)
		all := w.daemon.names()
		w.disk.fail(nil)
		w.passes(time.Minute)
		w.stop()
		w.daemon.restart()
		w.start()
		w.passes(time.Minute)
		w.expect("after a restart", all)
	})
}
