package replay

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// step is one counter and whether it is to be accepted.
type step struct {
	counter uint64
	want    bool
}

func run(t *testing.T, w *Window, steps []step) {
	t.Helper()
	for i, s := range steps {
		if got := w.check(s.counter); got != s.want {
			t.Errorf("step %d: Check(%d) = %t, want %t", i+1, s.counter, got, s.want)
		}
		if got := w.Accept(s.counter); got != s.want {
			t.Errorf("step %d: Accept(%d) = %t, want %t", i+1, s.counter, got, s.want)
		}
	}
}

// The 34 numbered cases are the facts of the kernel's own test (selftest/counter.c); lim is its
// T_LIM.
func TestWindow_numberedCasesOfTheKernel(t *testing.T) {
	t.Parallel()
	const lim = Size + 1
	run(t, new(Window), []step{
		{0, true}, {1, true}, {1, false}, {9, true}, {8, true}, {7, true}, {7, false},
		{lim, true}, {lim - 1, true}, {lim - 1, false}, {lim - 2, true}, {2, true}, {2, false},
		{lim + 16, true}, {3, false}, {lim + 16, false},
		{lim * 4, true}, {lim*4 - (lim - 1), true}, {10, false},
		{lim*4 - lim, false}, {lim*4 - (lim + 1), false}, {lim*4 - (lim - 2), true}, {lim*4 + 1 - lim, false},
		{0, false},
		{Limit, false}, {Limit - 1, true}, {Limit, false}, {Limit - 1, false}, {Limit - 2, true},
		{Limit + 1, false}, {Limit + 2, false}, {Limit - 2, false}, {Limit - 3, true},
		{0, false},
	})
}

// The six runs are those of the same test: up or down through the window, then the edges.
func TestWindow_runsOfTheKernel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to uint64 // inclusive; downwards when from is greater
		then     []step
	}{
		"up from 1, 0 just fits":               {1, Size, []step{{0, true}, {0, false}}},
		"up from 2, 0 is too old":              {2, Size + 1, []step{{1, true}, {0, false}}},
		"down to 0":                            {Size, 0, nil},
		"down from one more, 0 is too old":     {Size + 1, 1, []step{{0, false}}},
		"down to 1, one forward, 0 is too old": {Size, 1, []step{{Size + 1, true}, {0, false}}},
		"down to 1, 0 just fits, then forward": {Size, 1, []step{{0, true}, {Size + 1, true}}},
	} {
		w := new(Window)
		for i := c.from; ; {
			if !w.Accept(i) {
				t.Errorf("%s: %d refused", name, i)
			}
			if i == c.to {
				break
			}
			if c.from < c.to {
				i++
			} else {
				i--
			}
		}
		run(t, w, c.then)
	}
}

func TestWindow_zeroValueHasSeenNothing(t *testing.T) {
	t.Parallel()
	var w Window
	if w.Highest() != 0 || !w.check(0) || !w.check(Limit-1) {
		t.Error("the zero window refuses")
	}
	if w.check(Limit) || w.check(1<<64-1) {
		t.Error("the zero window takes a counter past the limit")
	}
}

func TestWindow_limitIsTheStricterOfPaperAndKernel(t *testing.T) {
	t.Parallel()
	const paper, kernel = uint64(1<<64 - 1<<13 - 1), uint64(1<<64-1) - 8128 - 1
	if want := min(paper, kernel); Limit != want {
		t.Errorf("Limit = %d, want %d", uint64(Limit), want)
	}
	if Size != 8128 {
		t.Errorf("Size = %d, want 8128", Size)
	}
}

// model remembers every counter: obviously right and without bound.
type model struct {
	seen    map[uint64]bool
	highest uint64
}

func (m *model) accept(c uint64) bool {
	if c >= Limit || m.seen[c] || m.highest > c && m.highest-c > Size {
		return false
	}
	m.seen[c] = true
	m.highest = max(m.highest, c)
	return true
}

func TestWindow_agreesWithAMapOnRandomCounters(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		w, m := new(Window), &model{seen: map[uint64]bool{}}
		base := uint64(0)
		if round%4 == 3 {
			base = Limit - 20000
		}
		for i := range 5000 {
			var c uint64
			switch rnd.IntN(12) {
			case 0:
				c = max(base, m.highest) + rnd.Uint64N(3*Size) // a jump, often past the whole ring
			case 1, 2, 3:
				c = max(base, m.highest) + rnd.Uint64N(70)
			case 4:
				c = m.highest - min(m.highest, Size-2+rnd.Uint64N(5)) // the far edge
			case 5:
				c = rnd.Uint64()
				if round%4 != 2 {
					c %= 3 * Size
				}
			default:
				c = m.highest - min(m.highest, rnd.Uint64N(Size+100))
			}
			check, got, want := w.check(c), w.Accept(c), m.accept(c)
			if got != want || check != want || w.Highest() != m.highest {
				t.Fatalf("seed %d, round %d, step %d: counter %d: Check %t, Accept %t, want %t; highest %d, want %d",
					seed, round, i, c, check, got, want, w.Highest(), m.highest)
			}
		}
	}
}

func TestWindow_doesNotAllocate(t *testing.T) {
	var w Window
	c := uint64(0)
	if got := testing.AllocsPerRun(1000, func() {
		c += 100
		if !w.Accept(c) || w.Accept(c) {
			t.Fatal("wrong answer")
		}
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func BenchmarkWindow_acceptInOrder(b *testing.B) {
	var w Window
	c := uint64(0)
	for b.Loop() {
		if !w.Accept(c) {
			b.Fatal("refused")
		}
		c++
	}
}

// check reports whether Accept would take the counter, and changes nothing.
func (w *Window) check(counter uint64) bool {
	if counter >= Limit {
		return false
	}
	if counter > w.highest {
		return true
	}
	return w.highest-counter <= Size && w.block(counter)&(1<<(counter%blockBits)) == 0
}

// block returns the block of a counter that is not above the greatest.
func (w *Window) block(counter uint64) uint64 {
	if w.ring == nil {
		return w.first
	}
	return w.ring[counter/blockBits%blocks]
}

// Whatever it has seen, a saved window goes on where it was, with its ring or without.
func TestWindow_savedAndRestored(t *testing.T) {
	t.Parallel()
	for _, last := range []uint64{0, 1, blockBits - 1, blockBits, 3 * ringBits} {
		w := new(Window)
		for c := last % 2; c <= last; c += 2 {
			w.Accept(c)
		}
		var again Window
		again.Accept(9)
		if err := again.Restore(w.Save()); err != nil {
			t.Fatal(err)
		}
		for c := range last + 2*blockBits {
			if got, want := again.Accept(c), w.Accept(c); got != want {
				t.Fatalf("saved at %d: Accept(%d) = %t, want %t", last, c, got, want)
			}
		}
		if again.Highest() != w.Highest() {
			t.Errorf("saved at %d: highest is %d, want %d", last, again.Highest(), w.Highest())
		}
	}
}

// The sessions of very many peers carry a few messages each: these need no kilobyte.
func TestWindow_fewCountersTakeNoMemory(t *testing.T) {
	var w Window
	if got := testing.AllocsPerRun(1, func() {
		for c := range uint64(blockBits) {
			w.Accept(c)
		}
	}); got != 0 {
		t.Errorf("%v allocations for the first %d counters, want none", got, blockBits)
	}
	if size := unsafe.Sizeof(w); size > 32 {
		t.Errorf("a window takes %d bytes", size)
	}
}
