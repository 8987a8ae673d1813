//go:build gc && !purego && !tund_xcrypto

package aead

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// supported reports whether the processor has what the assembly needs and the kernel saves the
// registers it uses. x/sys/cpu sets its AVX-512 flags only if XCR0 has the bits of the opmask and
// ZMM state.
func supported() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512VL && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512IFMA && x.HasBMI2
}

// chachaXOR writes src[:n] XORed with the keystream of blocks 1, 2, … to dst[:n], and the first
// half of block 0, the one-time key of Poly1305, to otk. dst[:n] is src[:n] or disjoint from it.
//
//go:noescape
func chachaXOR(dst, src *byte, n int, key *[32]byte, nonce *[12]byte, otk *[32]byte)

// polyTag writes to tag the Poly1305 tag, under otk, of msg[:n] as the ciphertext of an AEAD
// without additional data. It overwrites otk with zeros. tag does not overlap msg[:n].
//
//go:noescape
func polyTag(tag *[16]byte, msg *byte, n int, otk *[32]byte)

// codesAES are the ways in which this processor can compute AES-256-GCM, the fastest last.
func codesAES() []aesCode {
	codes := []aesCode{libraryAES}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasAES || !x.HasPCLMULQDQ || !hasVectorAES() {
		return codes
	}
	codes = append(codes, vaes256)
	if x.HasAVX512F && x.HasAVX512VL && x.HasAVX512BW && x.HasBMI2 {
		codes = append(codes, vaes512)
	}
	return codes
}

// hasVectorAES is vectorAES, which is slow in a virtual machine (CPUID traps), asked once.
var hasVectorAES = sync.OnceValue(vectorAES)

// vectorAES reports whether the processor has VAES and VPCLMULQDQ. It must have AVX2. (x/sys/cpu
// asks for them only together with AVX-512.)
func vectorAES() bool

// gcmExpand writes to to what the functions below need of key.
//
//go:noescape
func gcmExpand(key *[32]byte, to *gcmKey)

// gcmSeal writes src[:n], encrypted, to dst[:n], and to tag the tag of that as a message without
// additional data. dst[:n] is src[:n] or disjoint from it; tag is disjoint from both.
//
//go:noescape
func gcmSeal(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)

// gcmOpen writes src[:n], decrypted, to dst[:n], and to tag the tag that src[:n] should have. The
// same holds for its arguments.
//
//go:noescape
func gcmOpen(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)

// gcmSeal256 is gcmSeal without AVX-512.
//
//go:noescape
func gcmSeal256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)

// gcmOpen256 is gcmOpen without AVX-512.
//
//go:noescape
func gcmOpen256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)
