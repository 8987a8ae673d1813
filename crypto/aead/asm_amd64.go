//go:build gc && !purego && !tund_xcrypto

package aead

import "golang.org/x/sys/cpu"

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

// supportedAES reports the same of the assembly for AES-256-GCM.
func supportedAES() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512VL && x.HasAVX512BW && x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ &&
		x.HasAES && x.HasBMI2
}

// gcmExpand writes to to what gcmSeal and gcmOpen need of key.
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
