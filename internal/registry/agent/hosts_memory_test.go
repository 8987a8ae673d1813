package agent

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"tund/internal/registry/record"
)

// An agent whose state has lost the hosts takes nothing away either while the store does not
// answer. What is no longer published goes once it does.
func TestHosts_withHalfOfItsMemory(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		w.says(1, 1, record.Station{MAC: mac2})
		w.passes(time.Minute)
		want := w.lan.knows()
		w.stop()
		w.damage(func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(slices.DeleteFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte("stations")) }), nil)
		})
		w.begin(nil)
		w.passes(time.Hour)
		if got := w.lan.knows(); got != want || want == "" {
			t.Errorf("while the store does not answer, tund knows %q, want %q", got, want)
		}
		w.says(1, 2)
		w.shows()
		if got := w.lan.knows(); got == want {
			t.Errorf("tund still knows %q, which is no longer published", got)
		}
	})
}
