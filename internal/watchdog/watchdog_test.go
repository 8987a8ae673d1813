package watchdog

import "testing"

func TestBeat_stuck(t *testing.T) {
	t.Parallel()
	var p Progress
	read := func() Beat { c := p.count.Load(); return Beat{Count: c, Idle: c%2 == 1} }
	then := read()
	if !read().Stuck(then) {
		t.Error("a loop that does nothing is not stuck")
	}
	for what, f := range map[string]func(){
		"rests": p.Idle, "wakes": p.Busy, "wakes again": p.Busy, "rests, wakes": func() { p.Idle(); p.Busy() },
		"rests twice": func() { p.Idle(); p.Idle() },
	} {
		then := read()
		f()
		if read().Stuck(then) {
			t.Errorf("%s: stuck", what)
		}
	}
}
