package heap

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestWave_beginsAndEndsOnce(t *testing.T) {
	t.Parallel()
	var w wave
	for n, c := range []struct {
		sessions     uint64
		begins, ends bool
	}{
		{0, false, false}, {400, true, false}, {500, false, false}, {90, false, false}, // too few
		// Sessions that are renewed are no wave, however long it goes on.
		{90, false, false}, {90, false, false},
		{600, true, false}, {600, false, false}, {3, false, true}, {0, false, false},
		{5000, true, false}, {0, false, true}, {0, false, false},
	} {
		if begins, ends := w.look(c.sessions); begins != c.begins || ends != c.ends {
			t.Errorf("look %d with %d sessions: begins %t, ends %t", n, c.sessions, begins, ends)
		}
	}
}

func TestQuiet_letsLittleGarbageGather(t *testing.T) {
	t.Parallel()
	for inUse, want := range map[uint64]int{0: working, 1 << 20: working, slack * 5: 20, slack * 10: 10, 1 << 30: leastQuiet} {
		if got := quiet(inUse); got != want {
			t.Errorf("%d bytes in use: collects at %d %%, want %d", inUse, got, want)
		}
	}
	runtime.GC()
	if inUse() == 0 {
		t.Error("what is in use is not known")
	}
}

const smaps = `00400000-00a46000 r-xp 00000000 fe:00 1837 /usr/sbin/tund
Size:               6424 kB
Anonymous:             0 kB
00a46000-01244000 r--p 00646000 fe:00 1837 /usr/sbin/tund (deleted)
Anonymous:             0 kB
01244000-012b5000 rw-p 00e44000 fe:00 1837 /usr/sbin/tund
Anonymous:           208 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 1900 /lib/relocated.so
Anonymous:             4 kB
7f0000001000-7f0000002000 r-xs 00000000 fe:00 1901 /memory
Anonymous:             0 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:          8192 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`

func TestUnchanged_onlyWhatTheFileHas(t *testing.T) {
	t.Parallel()
	want := []mapping{{0x400000, 0x646000}, {0xa46000, 0x7fe000}}
	if got := unchanged(strings.NewReader(smaps)); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// Code goes on running while it is dropped.
func TestDropCode_leavesTheProgramAsItIs(t *testing.T) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skipf("this kernel does not tell how much of a mapping is in memory: %v", err)
	}
	defer f.Close()
	if len(unchanged(f)) == 0 {
		t.Error("the program has no code")
	}
	for range 3 {
		dropCode()
	}
}
