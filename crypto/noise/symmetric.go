package noise

import (
	"crypto/cipher"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// Labels of the protocol, hashed into every handshake. Whitepaper §5.4.
const (
	construction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
	identifier   = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	labelMAC1    = "mac1----"
	labelCookie  = "cookie--"
)

const (
	keySize  = 32
	tagSize  = chacha20poly1305.Overhead
	hashSize = blake2s.Size
)

// zeroNonce is the nonce of every sealed field of the handshake: each is sealed under a key of its
// own.
var zeroNonce [chacha20poly1305.NonceSize]byte

// symmetric is the symmetric state of Noise §5.2: the chaining key, the transcript hash and the key
// of the field that comes next. It is a plain value: a copy is an independent continuation, which
// is how Finish tries a response without spoiling the Pending.
type symmetric struct {
	chain [keySize]byte
	hash  [hashSize]byte
	key   [keySize]byte
}

// start is InitializeSymmetric, MixHash(prologue) and the pre-message "← s": the first lines of
// whitepaper §5.4.2. WireGuard's prologue is the identifier; vectors of others have their own.
func (s *symmetric) start(prologue []byte, responder *[32]byte) {
	// Longer than 32 bytes, so it is hashed (Noise §5.2)
	s.chain = blake2s.Sum256([]byte(construction))
	s.hash = s.chain
	s.key = [keySize]byte{}
	s.mixHash(prologue)
	s.mixHash(responder[:])
}

// mixHash absorbs public data: H = Hash(H ‖ data).
func (s *symmetric) mixHash(data []byte) {
	// The longest field of WireGuard is 48 bytes; a longer one goes to the heap.
	var buf [hashSize + 96]byte
	s.hash = blake2s.Sum256(append(append(buf[:0], s.hash[:]...), data...))
}

// mixChain absorbs a value into the chaining key alone: C = Kdf1(C, input).
func (s *symmetric) mixChain(input []byte) {
	kdf(&s.chain, input, &s.chain, nil, nil)
}

// mixKey absorbs a secret and makes the key of the next field: (C, k) = Kdf2(C, input).
func (s *symmetric) mixKey(input []byte) {
	kdf(&s.chain, input, &s.chain, &s.key, nil)
}

// mixPSK absorbs the preshared key: (C, τ, k) = Kdf3(C, Q), H = Hash(H ‖ τ). Whitepaper §5.4.3.
func (s *symmetric) mixPSK(psk *[32]byte) {
	var tau [hashSize]byte
	kdf(&s.chain, psk[:], &s.chain, &tau, &s.key)
	s.mixHash(tau[:])
	clear(tau[:])
}

// seal encrypts plaintext under the current key with the transcript as additional data, writes
// len(plaintext)+16 bytes to dst and absorbs them.
func (s *symmetric) seal(dst, plaintext []byte) {
	dst = dst[:len(plaintext)+tagSize]
	s.aead().Seal(dst[:0], zeroNonce[:], plaintext, s.hash[:])
	s.mixHash(dst)
}

// open is the inverse of seal. It writes len(sealed)-16 bytes to dst. When it returns false the
// transcript is unchanged and dst holds zeros.
func (s *symmetric) open(dst, sealed []byte) bool {
	if len(sealed) < tagSize {
		return false
	}
	n := len(sealed) - tagSize
	if _, err := s.aead().Open(dst[:0:n], zeroNonce[:], sealed, s.hash[:]); err != nil {
		return false
	}
	s.mixHash(sealed)
	return true
}

func (s *symmetric) aead() cipher.AEAD { return newAEAD(s.key[:], chacha20poly1305.New) }

// newAEAD panics where x/crypto returns an error: only for a key that is not 32 bytes, which ours
// are.
func newAEAD(key []byte, constructor func([]byte) (cipher.AEAD, error)) cipher.AEAD {
	aead, err := constructor(key)
	if err != nil {
		panic("crypto/noise: " + err.Error()) // only under GODEBUG=fips140=only
	}
	return aead
}

// split makes the two transport keys, the initiator's sending key first (whitepaper §5.4.5), and
// the exporter: the output that HKDF gives after them. The first two outputs of HKDF do not depend
// on whether a third is taken.
func (s *symmetric) split() (first, second, exporter [32]byte) {
	kdf(&s.chain, nil, &first, &second, &exporter)
	return first, second, exporter
}

// wipe forgets everything.
func (s *symmetric) wipe() { *s = symmetric{} }

// kdf is Kdf1, Kdf2 or Kdf3 of whitepaper §5.4 (HKDF, RFC 5869), by the number of outputs that are
// not nil. An output may be the key itself.
func kdf(key *[32]byte, input []byte, out1, out2, out3 *[32]byte) {
	var (
		secret = hmac(key, input)
		t      [hashSize + 1]byte // T(i-1) ‖ i
	)
	t[0] = 1
	sum := hmac(&secret, t[:1])
	*out1 = sum
	for i, out := range [2]*[32]byte{out2, out3} {
		if out == nil {
			break
		}
		copy(t[:], sum[:])
		t[hashSize] = byte(i + 2)
		sum = hmac(&secret, t[:])
		*out = sum
	}
	clear(secret[:])
	clear(sum[:])
	clear(t[:])
}

// hmac is HMAC-BLAKE2s (RFC 2104) with a 32-byte key. It is written out because crypto/hmac
// allocates several objects a call and a handshake makes some twenty calls.
func hmac(key *[32]byte, input []byte) [hashSize]byte {
	// Inputs are at most 33 bytes; a longer one goes to the heap.
	var inner [blake2s.BlockSize + 64]byte
	var outer [blake2s.BlockSize + hashSize]byte
	for i := range blake2s.BlockSize {
		var k byte
		if i < len(key) {
			k = key[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	sum := blake2s.Sum256(append(inner[:blake2s.BlockSize], input...))
	copy(outer[blake2s.BlockSize:], sum[:])
	sum = blake2s.Sum256(outer[:])
	clear(inner[:])
	clear(outer[:])
	return sum
}
