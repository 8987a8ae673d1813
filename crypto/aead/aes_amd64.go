//go:build !purego

package aead

import "golang.org/x/sys/cpu"

// HasAES reports whether the processor has the instructions with which the standard library
// computes AES-256-GCM quickly and in constant time (crypto/internal/fips140/aes/gcm).
func HasAES() bool {
	x := &cpu.X86
	return x.HasAES && x.HasPCLMULQDQ && x.HasSSE41 && x.HasSSSE3
}
