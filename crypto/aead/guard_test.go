//go:build unix

package aead

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded is memory between two pages that fault when they are touched.
func guarded(t *testing.T, pages int) []byte {
	t.Helper()
	size := unix.Getpagesize()
	all, err := unix.Mmap(-1, 0, (pages+2)*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(all) })
	for _, page := range [][]byte{all[:size], all[len(all)-size:]} {
		if err := unix.Mprotect(page, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return all[size : len(all)-size]
}

// A fault ends the test binary; nothing here fails otherwise but for a wrong result.
func TestCipher_touchesNothingBeyondItsBuffers(t *testing.T) {
	src, dst := guarded(t, 2), guarded(t, 2)
	r := rand.New(rand.NewPCG(4, 1))
	var key [KeySize]byte
	var nonce [NonceSize]byte
	fill(r, key[:], nonce[:])
	plain := make([]byte, 5000)
	fill(r, plain)
	at := func(b []byte, n int, end bool) []byte {
		if end {
			return b[len(b)-n:]
		}
		return b[:n:n]
	}
	check := func(impl implementation, n int) {
		c, want := impl.new(&key), impl.oracle(&key, &nonce, plain[:n])
		for _, end := range [][2]bool{{false, false}, {true, true}, {false, true}, {true, false}} {
			from, to := at(src, n, end[0]), at(dst, n+Overhead, end[1])
			copy(from, plain)
			if c.Seal(to, &nonce, from); !bytes.Equal(to, want) {
				t.Fatalf("%s: Seal of %d bytes: %x, want %x", impl.name, n, to, want)
			}
			from, to = at(src, n+Overhead, end[0]), at(dst, n, end[1])
			copy(from, want)
			if _, ok := c.Open(to, &nonce, from); !ok || !bytes.Equal(to, plain[:n]) {
				t.Fatalf("%s: Open of %d bytes: %t", impl.name, n, ok)
			}
		}
	}
	for _, impl := range implementations() {
		for n := 0; n < len(plain); n += 1 + n/700*16 {
			check(impl, n)
		}
	}
}
