package aead

import (
	"fmt"
	"testing"
)

// BenchmarkCipher compares the assembly, where there is any, with x/crypto, and with AES-256-GCM.
func BenchmarkCipher(b *testing.B) {
	key := &[KeySize]byte{1}
	for _, n := range []int{64, 96, 256, 576, 1424, 9000} {
		for _, name := range []string{"avx512", "xcrypto", "aes"} {
			if name == "avx512" && !supported() {
				continue
			}
			c := newCipher(key, name == "avx512")
			if name == "aes" {
				c = New(AES256GCM, key)
			}
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
