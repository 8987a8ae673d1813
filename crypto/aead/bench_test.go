package aead

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkCipher compares the assembly, where there is any, with x/crypto and the standard
// library.
func BenchmarkCipher(b *testing.B) {
	key := &[KeySize]byte{1}
	for _, n := range []int{64, 96, 256, 576, 1424, 9000} {
		for _, impl := range implementations() {
			c, name := impl.new(key), strings.ReplaceAll(impl.name, " ", "-")
			nonce, plain, sealed := new([NonceSize]byte), make([]byte, n), make([]byte, n+Overhead)
			b.Run(fmt.Sprintf("Seal-%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					c.Seal(sealed, nonce, plain)
				}
			})
			c.Seal(sealed, nonce, plain)
			b.Run(fmt.Sprintf("Open-%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, ok := c.Open(plain, nonce, sealed); !ok {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}

// BenchmarkNewAES is the cost of a key.
func BenchmarkNewAES(b *testing.B) {
	key := &[KeySize]byte{1}
	for _, impl := range implementations() {
		if impl.suite == AES256GCM {
			b.Run(strings.ReplaceAll(impl.name, " ", "-"), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					impl.new(key)
				}
			})
		}
	}
}
