package noise

import (
	"crypto/ecdh"
	"fmt"

	"golang.org/x/crypto/blake2s"

	"tund/crypto/keys"
)

// Identity is our static key in the form handshakes need. It never changes; a new key is a new
// Identity, and every Remote has to be made again for it.
type Identity struct {
	private   *ecdh.PrivateKey // nil when made from the zero key
	public    keys.PublicKey
	mac1Key   [hashSize]byte // of messages sent to us
	cookieKey [hashSize]byte // of cookie replies we send
}

// NewIdentity returns the identity of a private key. With the zero key every handshake fails with
// ErrNoKey and every mac1 is wrong.
func NewIdentity(key keys.PrivateKey) *Identity {
	if key.IsZero() {
		return &Identity{}
	}
	private, err := ecdh.X25519().NewPrivateKey(key[:])
	if err != nil {
		panic("crypto/noise: " + err.Error()) // only under GODEBUG=fips140=only
	}
	id := &Identity{private: private, public: keys.PublicKey(private.PublicKey().Bytes())}
	id.mac1Key = labelledKey(labelMAC1, &id.public)
	id.cookieKey = labelledKey(labelCookie, &id.public)
	return id
}

// Public returns our public key; the zero key when there is none.
func (id *Identity) Public() keys.PublicKey { return id.public }

// Format prints "(hidden)" for every verb.
func (id *Identity) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Remote is a peer's public key with what can be computed from it once and for all. It never
// changes.
type Remote struct {
	public keys.PublicKey
	// DH(our static, its static): one scalar multiplication less per handshake.
	shared    [32]byte
	err       error          // why no handshake with this key can succeed, or nil
	mac1Key   [hashSize]byte // of messages sent to it
	cookieKey [hashSize]byte // of cookie replies it sends
}

// NewRemote prepares handshakes between id and the peer with the given public key. With a low-order
// key every one of them fails with ErrLowOrder, with an id that has no key with ErrNoKey.
func NewRemote(id *Identity, public keys.PublicKey) *Remote {
	r := &Remote{
		public:    public,
		mac1Key:   labelledKey(labelMAC1, &public),
		cookieKey: labelledKey(labelCookie, &public),
	}
	if id.private == nil {
		r.err = ErrNoKey
		return r
	}
	r.err = dh(&r.shared, id.private, r.public[:])
	return r
}

// Public returns the peer's public key.
func (r *Remote) Public() keys.PublicKey { return r.public }

// Format prints "(hidden)" for every verb.
func (r *Remote) Format(f fmt.State, _ rune) { keys.Hide(f) }

// labelledKey is Hash(label ‖ public key), the key of mac1 and of cookie replies. Whitepaper
// §5.4.4, §5.4.7.
func labelledKey(label string, public *keys.PublicKey) [hashSize]byte {
	var buf [len(labelMAC1) + keys.Size]byte
	copy(buf[:], label)
	copy(buf[len(labelMAC1):], public[:])
	return blake2s.Sum256(buf[:])
}

// dh writes the X25519 shared secret to out. The error is ErrLowOrder.
func dh(out *[32]byte, private *ecdh.PrivateKey, public []byte) error {
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		// Callers slice exactly 32 bytes.
		panic("crypto/noise: X25519 refused a public key: " + err.Error())
	}
	shared, err := private.ECDH(p)
	if err != nil {
		return ErrLowOrder
	}
	copy(out[:], shared)
	clear(shared)
	return nil
}
