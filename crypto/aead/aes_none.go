//go:build (!amd64 && !arm64) || purego

package aead

// HasAES reports whether the processor has the instructions with which the standard library
// computes AES-256-GCM quickly and in constant time. This build asks no such processor.
func HasAES() bool { return false }
