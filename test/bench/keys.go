package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
)

// key is a WireGuard key, raw.
type key [32]byte

// String is the key as `wg` prints it. Keys here live as long as one measurement and protect
// nothing.
func (k key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// identity is one peer's pair of keys and the inner address it owns.
type identity struct {
	private, public key
	inner           netip.Addr
}

// newIdentity makes a key pair. private is clamped as WireGuard stores it.
func newIdentity(inner netip.Addr) (identity, error) {
	var id identity
	if _, err := rand.Read(id.private[:]); err != nil {
		return identity{}, err
	}
	id.private[0] &= 248
	id.private[31] = id.private[31]&127 | 64
	priv, err := ecdh.X25519().NewPrivateKey(id.private[:])
	if err != nil {
		return identity{}, err
	}
	copy(id.public[:], priv.PublicKey().Bytes())
	id.inner = inner
	return id, nil
}

// newIdentities makes n peers with inner addresses from 10.128.0.0 on.
func newIdentities(n int) ([]identity, error) {
	out := make([]identity, n)
	for i := range out {
		var err error
		out[i], err = newIdentity(netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)}))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
