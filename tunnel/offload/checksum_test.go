package offload

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSum_equalsTheByteLoop(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 3000)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for n := 0; n < 2100; n++ {
		from := r.IntN(64)
		initial := uint32(r.Uint32N(1 << 16))
		got, want := fold(Sum(b[from:from+n], uint64(initial))), slowSum(b[from:from+n], initial)
		if alone := fold(sumWordsGo(b[from : from+n])); alone != fold(sumWords(b[from:from+n])) {
			t.Fatalf("%d bytes from %d: Go alone has %#x", n, from, alone)
		}
		if got != want {
			t.Fatalf("%d bytes from %d with %#x: got %#x, want %#x", n, from, initial, got, want)
		}
	}
}

func TestSum_carriesEverywhere(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 7, 8, 9, 63, 64, 65, 128, 1399, 1400, 65535} {
		ones := bytes.Repeat([]byte{0xff}, n)
		for _, initial := range []uint64{0, 1, 0xffff, 1 << 63, math.MaxUint64 - 1, math.MaxUint64} {
			got := fold(Sum(ones, initial))
			want := slowSum(ones, uint32(fold(initial)))
			if got != want {
				t.Errorf("%d bytes of ones with %#x: got %#x, want %#x", n, initial, got, want)
			}
		}
	}
}

// TestSum_readsNothingOutside sums slices that touch a page that cannot be read, before and behind.
func TestSum_readsNothingOutside(t *testing.T) {
	t.Parallel()
	page := unix.Getpagesize()
	m, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	for _, closed := range [][]byte{m[:page], m[2*page:]} {
		if err := unix.Mprotect(closed, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	b := m[page : 2*page : 2*page]
	for n := range 1500 {
		sink += Sum(b[:n:n], 0) + Sum(b[len(b)-n:], 0)
	}
}

func TestSum_isZeroOnlyForZeroes(t *testing.T) {
	t.Parallel()
	if got := fold(Sum(make([]byte, 1400), 0)); got != 0 {
		t.Errorf("sum of zeroes = %#x", got)
	}
	b := make([]byte, 1400)
	for i := range b {
		b[i] = 1
		if fold(Sum(b, 0)) == 0 {
			t.Fatalf("a byte at %d is not seen", i)
		}
		b[i] = 0
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add(bytes.Repeat([]byte{0xff}, 131), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, b []byte, initial uint64) {
		got, want := fold(Sum(b, initial)), slowSum(b, uint32(fold(initial)))
		if got != want {
			t.Errorf("got %#x, want %#x", got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 576, 1388, 65535} {
		b.Run(size(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = Sum(p, 0)
			}
		})
		b.Run(size(n)+"/go", func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = sumWordsGo(p)
			}
		})
	}
}

var sink uint64
