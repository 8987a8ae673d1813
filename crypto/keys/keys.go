// Package keys has a type for each of the three kinds of 32-byte key that WireGuard uses, so that
// the compiler tells a private key from a public one and nothing prints a secret by accident.
//
// A PrivateKey and a PresharedKey print as "(hidden)" with fmt (every verb), encoding/json,
// encoding (text), log/slog and zap. Base64 is the one explicit way to get the text. Go keeps this
// promise only for a value and for exported fields: fmt reads unexported fields directly, so a
// struct that keeps a secret in one needs a Format method of its own, which Hide reduces to one
// line.
//
// The package does not read files, compares secrets only in constant time, and can neither lock
// memory nor promise that the garbage collector left no copy behind: Zero wipes the value on which
// it is called.
//
// Values are plain arrays: comparable, copied by assignment, safe for concurrent use while nobody
// writes.
//
// Sources: WireGuard whitepaper §5.4; RFC 7748 (X25519); wg(8) for the textual form.
package keys

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// Size is the length in bytes of every key.
const Size = 32

// TextSize is the length of a key in base64, as wg(8) prints it.
const TextSize = 44

// shortSize is how many base64 characters name a peer in logs: 48 bits, enough to tell peers apart.
const shortSize = 8

// Hidden stands for a secret wherever one is printed.
const Hidden = "(hidden)"

// ErrFormat is returned for text that is not a key. It never carries the text, which may be a
// secret with one character missing.
var ErrFormat = errors.New("not a key (want 44 characters of base64, as wg genkey prints them)")

// PrivateKey is an X25519 private key. The zero PrivateKey means "no key".
type PrivateKey [Size]byte

// PublicKey is an X25519 public key, which also names a peer. The zero PublicKey means "no key".
type PublicKey [Size]byte

// PresharedKey is the symmetric key two peers may share besides. The zero PresharedKey is what the
// protocol uses when there is none (whitepaper §5.4).
type PresharedKey [Size]byte

// GeneratePrivate returns a new random private key, clamped. The error is always nil with a working
// kernel.
func GeneratePrivate() (PrivateKey, error) {
	var k PrivateKey
	if _, err := rand.Read(k[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("generate private key: %w", err)
	}
	k.Clamp()
	return k, nil
}

// GeneratePreshared returns a new random preshared key. The error is always nil with a working
// kernel.
func GeneratePreshared() (PresharedKey, error) {
	var k PresharedKey
	if _, err := rand.Read(k[:]); err != nil {
		return PresharedKey{}, fmt.Errorf("generate preshared key: %w", err)
	}
	return k, nil
}

// ParsePrivate reads a private key from its 44 characters of base64 and clamps it, as the kernel
// does. The zero key stays zero. The error is ErrFormat.
func ParsePrivate(text string) (PrivateKey, error) {
	b, err := parse(text)
	k := PrivateKey(b)
	k.Clamp()
	return k, err
}

// ParsePublic reads a public key from its 44 characters of base64. The error is ErrFormat.
// Low-order points are accepted here and refused by the handshake.
func ParsePublic(text string) (PublicKey, error) {
	b, err := parse(text)
	return PublicKey(b), err
}

// ParsePreshared reads a preshared key from its 44 characters of base64. The error is ErrFormat.
func ParsePreshared(text string) (PresharedKey, error) {
	b, err := parse(text)
	return PresharedKey(b), err
}

// parse accepts canonical base64 only: wg(8) refuses a key whose spare bits are set, for it is a
// typing error.
func parse(text string) (k [Size]byte, err error) {
	if len(text) != TextSize {
		return k, ErrFormat
	}
	// The decoder skips line breaks, so the count of decoded bytes is checked as well.
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != Size {
		return k, ErrFormat
	}
	copy(k[:], b)
	clear(b)
	return k, nil
}

// Clamp fixes the bits that X25519 fixes anyway (RFC 7748 §5), so that one key has one text. The
// zero key, "no key", is left alone.
func (k *PrivateKey) Clamp() {
	if k.IsZero() {
		return
	}
	k[0] &= 248
	k[31] = k[31]&127 | 64
}

// Public returns the public key that belongs to k; the zero key gives the zero key.
func (k PrivateKey) Public() PublicKey {
	if k.IsZero() {
		return PublicKey{}
	}
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		// Only under GODEBUG=fips140=only.
		panic("crypto/keys: X25519 refused 32 bytes: " + err.Error())
	}
	return PublicKey(private.PublicKey().Bytes())
}

// IsZero reports, in constant time, whether k is the zero key, "no key".
func (k PrivateKey) IsZero() bool { return isZero((*[Size]byte)(&k)) }

// IsZero reports whether k is the zero key, "no key".
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// IsZero reports, in constant time, whether k is the zero key, "none configured".
func (k PresharedKey) IsZero() bool { return isZero((*[Size]byte)(&k)) }

func isZero(k *[Size]byte) bool {
	var zero [Size]byte
	return subtle.ConstantTimeCompare(k[:], zero[:]) == 1
}

// Equal reports, in constant time, whether two private keys are the same.
func (k PrivateKey) Equal(other PrivateKey) bool {
	return subtle.ConstantTimeCompare(k[:], other[:]) == 1
}

// Equal reports, in constant time, whether two preshared keys are the same.
func (k PresharedKey) Equal(other PresharedKey) bool {
	return subtle.ConstantTimeCompare(k[:], other[:]) == 1
}

// Zero wipes k.
func (k *PrivateKey) Zero() { clear(k[:]) }

// Zero wipes k.
func (k *PresharedKey) Zero() { clear(k[:]) }

// String returns the key in base64, as wg(8) prints it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Short returns the first 8 characters of String: the name of a peer that was given none.
func (k PublicKey) Short() string { return k.String()[:shortSize] }

// MarshalText is String for encoding/json and its like. The error is always nil.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Base64 returns the secret key as text, for a key file or for wg(8). Nothing else lets a secret
// out.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Base64 returns the secret key as text, for a key file or for wg(8). Nothing else lets a secret
// out.
func (k PresharedKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hide answers a fmt verb, whichever it is, with "(hidden)". It is the body of the Format method of
// every type that holds a secret.
func Hide(f fmt.State) { _, _ = io.WriteString(f, Hidden) }

// Format writes "(hidden)" for every verb, so that no %x or %d prints the bytes.
func (PrivateKey) Format(f fmt.State, _ rune) { Hide(f) }

// String returns "(hidden)".
func (PrivateKey) String() string { return Hidden }

// GoString returns "(hidden)".
func (PrivateKey) GoString() string { return Hidden }

// MarshalText returns "(hidden)". The error is always nil.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(Hidden), nil }

// MarshalJSON returns "(hidden)" quoted. The error is always nil.
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + Hidden + `"`), nil }

// Format writes "(hidden)" for every verb, so that no %x or %d prints the bytes.
func (PresharedKey) Format(f fmt.State, _ rune) { Hide(f) }

// String returns "(hidden)".
func (PresharedKey) String() string { return Hidden }

// GoString returns "(hidden)".
func (PresharedKey) GoString() string { return Hidden }

// MarshalText returns "(hidden)". The error is always nil.
func (PresharedKey) MarshalText() ([]byte, error) { return []byte(Hidden), nil }

// MarshalJSON returns "(hidden)" quoted. The error is always nil.
func (PresharedKey) MarshalJSON() ([]byte, error) { return []byte(`"` + Hidden + `"`), nil }
