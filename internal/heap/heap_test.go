package heap

import "testing"

func TestWave_endsOnceItIsQuiet(t *testing.T) {
	t.Parallel()
	var w wave
	for n, c := range []struct {
		sessions uint64
		ended    bool
	}{
		{0, false}, {400, false}, {500, false}, {90, false}, // too few
		{90, false}, {90, false}, // sessions that are renewed are no wave, however long it goes on
		{600, false}, {600, false}, {3, true}, {0, false},
		{5000, false}, {0, true}, {0, false},
	} {
		if got := w.ended(c.sessions); got != c.ended {
			t.Errorf("look %d with %d sessions: ended %t", n, c.sessions, got)
		}
	}
}
