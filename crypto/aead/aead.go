// Package aead implements the ciphers of transport data, ChaCha20-Poly1305 and AES-256-GCM: no
// additional data, a nonce of 12 bytes, and whole messages.
//
// On amd64 processors with AVX-512 (Ice Lake, Zen 4 and later) both are our own assembly, at the
// size of a packet up to three times as fast as golang.org/x/crypto and the standard library.
// ChaCha20-Poly1305 needs F, VL, BW, DQ and IFMA; AES-256-GCM needs F, VL, BW, VAES and VPCLMULQDQ,
// or AVX2 and the last two (Zen 3, Alder Lake). Every other machine, and every build with the tag
// tund_xcrypto, uses the libraries. All give the same bytes; the tests hold one against the other.
//
// HasAES tells whether this processor computes AES-256-GCM in instructions of its own. Without them
// it is slow, and its duration may depend on the key.
//
// It does not choose nonces, and it takes no additional data: the handshake, which needs that, uses
// x/crypto.
//
// Neither branches, addresses nor the choice of instructions depend on keys or on message bytes,
// only on lengths and on whether a tag was right. The one-time key of a message is on the stack
// while it is used, and overwritten then; registers keep what they held, but for the key.
//
// A Cipher never changes: all methods are safe for concurrent use and do not allocate.
//
// Sources: RFC 8439; NIST SP 800-38D (GCM); RFC 8452, appendix A (GHASH and POLYVAL); S. Gueron and
// M. Kounavis, "Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM
// Mode", for one reduction of the sum of several products; M. Goll and S. Gueron, "Vectorization on
// ChaCha Stream Cipher" and "Vectorization of Poly1305 Message Authentication Code", for rows in
// lanes and powers of r in lanes; Intel SDM, volume 2.
package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"

	"tund/crypto/keys"
)

const (
	// KeySize is the length of a key in bytes.
	KeySize = chacha20poly1305.KeySize
	// NonceSize is the length of a nonce in bytes.
	NonceSize = chacha20poly1305.NonceSize
	// Overhead is how many bytes longer a sealed message is: the tag.
	Overhead = chacha20poly1305.Overhead
)

// Suite is an AEAD. Both have keys of KeySize, nonces of NonceSize and tags of Overhead bytes. The
// zero Suite is WireGuard's.
type Suite uint8

// The suites.
const (
	ChaCha20Poly1305 Suite = iota
	AES256GCM
)

// String returns the name by which people know the suite.
func (s Suite) String() string {
	switch s {
	case ChaCha20Poly1305:
		return "chacha20-poly1305"
	case AES256GCM:
		return "aes-256-gcm"
	}
	return "unknown suite"
}

// maxPlaintext is the longest message the block counter of 32 bits has room for (RFC 8439 §2.8).
// x/crypto refuses longer ones.
const maxPlaintext = 1<<38 - 64

// maxGCM is the same for AES-256-GCM (SP 800-38D §5.2.1.1), less the tag that a ciphertext has.
const maxGCM = 1<<36 - 32

// Cipher is one key.
type Cipher struct {
	key     [KeySize]byte
	generic cipher.AEAD // nil when the assembly is used
	gcm     *gcmKey     // nil unless assembly for AES is used
	code    aesCode     // which
}

// New returns the cipher of a suite and a key. It copies the key; wiping it is up to the caller.
func New(s Suite, key *[KeySize]byte) *Cipher {
	if s == AES256GCM {
		return newAES(key, bestAES())
	}
	return newCipher(key, supported())
}

// newAES returns a cipher of AES-256-GCM.
func newAES(key *[KeySize]byte, code aesCode) *Cipher {
	if code != libraryAES {
		c := &Cipher{key: *key, gcm: new(gcmKey), code: code}
		gcmExpand(&c.key, c.gcm)
		return c
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("crypto/aead: " + err.Error()) // only for a key of another length
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("crypto/aead: " + err.Error()) // only for a block of another length
	}
	return &Cipher{key: *key, generic: gcm}
}

func newCipher(key *[KeySize]byte, assembly bool) *Cipher {
	c := &Cipher{key: *key}
	if !assembly {
		c.generic = c.xcrypto()
	}
	return c
}

// xcrypto is what the assembly does not do.
func (c *Cipher) xcrypto() cipher.AEAD {
	if c.generic != nil {
		return c.generic
	}
	aead, err := chacha20poly1305.New(c.key[:])
	if err != nil {
		panic("crypto/aead: " + err.Error()) // only under GODEBUG=fips140=only
	}
	return aead
}

// Key returns a copy of the key, which is the caller's to wipe: for a process that hands its
// sessions over to another.
func (c *Cipher) Key() [KeySize]byte { return c.key }

// Format prints "(hidden)" for every verb.
func (c *Cipher) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Seal writes the ciphertext of plaintext and its tag to dst[:len(plaintext)+16] and returns that
// length. dst is long enough and does not overlap plaintext; both stay the caller's. (If dst is
// plaintext itself Seal may be slower and allocate; if it overlaps it otherwise Seal panics.) A
// nonce used twice with one key gives both plaintexts away.
func (c *Cipher) Seal(dst []byte, nonce *[NonceSize]byte, plaintext []byte) int {
	n := len(plaintext)
	dst = dst[: n+Overhead : n+Overhead]
	if c.gcm != nil {
		checkGCM(dst, plaintext)
		if tag := (*[Overhead]byte)(dst[n:]); c.code == vaes512 {
			gcmSeal(&dst[0], unsafe.SliceData(plaintext), n, c.gcm, nonce, tag)
		} else {
			gcmSeal256(&dst[0], unsafe.SliceData(plaintext), n, c.gcm, nonce, tag)
		}
		return len(dst)
	}
	if c.generic != nil || uint64(n) > maxPlaintext || overlap(dst, plaintext) {
		c.xcrypto().Seal(dst[:0], nonce[:], plaintext, nil)
		return len(dst)
	}
	var otk [32]byte
	chachaXOR(&dst[0], unsafe.SliceData(plaintext), n, &c.key, nonce, &otk)
	polyTag((*[Overhead]byte)(dst[n:]), &dst[0], n, &otk)
	return len(dst)
}

// Open decrypts ciphertext, which ends with its tag, to dst[:len(ciphertext)-16] and returns that
// length. ok is false when the tag is wrong, ciphertext has no room for one, or dst none for the
// plaintext; n is 0 then, and what would have held the plaintext is zero. dst does not overlap
// ciphertext; both stay the caller's. (If dst is ciphertext itself Open may be slower and allocate;
// if it overlaps it otherwise Open panics.)
func (c *Cipher) Open(dst []byte, nonce *[NonceSize]byte, ciphertext []byte) (n int, ok bool) {
	n = len(ciphertext) - Overhead
	if n < 0 || n > len(dst) {
		return 0, false
	}
	dst = dst[:n:n]
	var tag [Overhead]byte
	if c.gcm != nil {
		checkGCM(dst, ciphertext)
		if c.code == vaes512 {
			gcmOpen(unsafe.SliceData(dst), &ciphertext[0], n, c.gcm, nonce, &tag)
		} else {
			gcmOpen256(unsafe.SliceData(dst), &ciphertext[0], n, c.gcm, nonce, &tag)
		}
		return verified(dst, &tag, (*[Overhead]byte)(ciphertext[n:]))
	}
	if c.generic != nil || uint64(n) > maxPlaintext || overlap(dst, ciphertext) {
		if _, err := c.xcrypto().Open(dst[:0], nonce[:], ciphertext, nil); err != nil {
			return 0, false
		}
		return n, true
	}
	var otk [32]byte
	chachaXOR(unsafe.SliceData(dst), &ciphertext[0], n, &c.key, nonce, &otk)
	polyTag(&tag, &ciphertext[0], n, &otk)
	return verified(dst, &tag, (*[Overhead]byte)(ciphertext[n:]))
}

// verified leaves the plaintext in dst if the tags are equal, and zeros if they are not.
func verified(dst []byte, computed, received *[Overhead]byte) (n int, ok bool) {
	if !equal(computed, received) {
		clear(dst)
		return 0, false
	}
	return len(dst), true
}

// checkGCM panics for what the standard library panics for: a message too long for the counter of
// 32 bits, whose first two values are taken, and buffers that overlap without being the same.
func checkGCM(dst, src []byte) {
	if uint64(len(src)) > maxGCM {
		panic("crypto/aead: message too large for AES-GCM")
	}
	if overlap(dst, src) && &dst[0] != &src[0] {
		panic("crypto/aead: invalid buffer overlap")
	}
}

// equal compares in constant time.
func equal(a, b *[Overhead]byte) bool {
	low := binary.LittleEndian.Uint64(a[:8]) ^ binary.LittleEndian.Uint64(b[:8])
	high := binary.LittleEndian.Uint64(a[8:]) ^ binary.LittleEndian.Uint64(b[8:])
	return low|high == 0
}

// overlap reports whether a and b share a byte.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	first, second := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return first < second+uintptr(len(b)) && second < first+uintptr(len(a))
}
