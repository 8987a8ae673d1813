// Package record is what the sites of a network say about themselves and are permitted to say:
// grants, records and revocations, each signed with Ed25519 (RFC 8032).
//
// A signer, who keeps a key offline, grants a site its name, its public keys and the most that it
// may claim. The site signs a record that says where it is and what is behind it, within its grant.
// Signers revoke grants. Whoever stores and carries these documents needs no trust: they are
// verified where they are used, against the keys of signers that are pinned there. A store can
// withhold documents, delay them, or show old ones until they expire; it can neither make nor
// change one.
//
// A document is JSON in an envelope of JSON: the payload as base64, so that the signed bytes are
// kept exactly, and its signatures. Each signature covers the kind of the document, so that none
// passes as another. Fields that a version does not know are covered by the signature and kept.
//
// The package computes: bytes and the time in, values out. It reads no file and no clock, and holds
// no state: which serial was the highest is for the caller to remember.
package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is the kind of a document.
type Kind string

// The kinds.
const (
	KindGrant       Kind = "grant"
	KindRecord      Kind = "record"
	KindRevocations Kind = "revocations"
)

// Bounds of documents, in bytes.
const (
	MaxDocument    = 4 << 10 // a grant or a record; a usual one has 700
	MaxRevocations = 1 << 20 // 10,000 revocations
	maxSignatures  = 16
)

// Slack is how far clocks of two hosts may differ: a document counts that long before it begins and
// after it ends.
const Slack = 10 * time.Minute

// domain separates our signatures from those that a key makes elsewhere.
const domain = "tund registry v1\x00"

// Key is a public Ed25519 key.
type Key [ed25519.PublicKeySize]byte

// ParseKey reads a key from base64.
func ParseKey(text string) (Key, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(Key{}) {
		return Key{}, errors.New("is not an Ed25519 public key (want 44 characters of base64)")
	}
	return Key(b), nil
}

// String returns the key in base64.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText returns String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseKey.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

// envelope is a document as it is stored.
type envelope struct {
	Kind       Kind        `json:"kind"`
	Payload    []byte      `json:"payload"` // JSON
	Signatures []signature `json:"signatures"`
}

type signature struct {
	Key Key    `json:"key"`
	Sig []byte `json:"sig"`
}

// message returns the bytes that a signature covers.
func message(kind Kind, payload []byte) []byte {
	return slices.Concat([]byte(domain), []byte(kind), []byte{0}, payload)
}

// seal returns a document of that kind with one signature.
func seal(kind Kind, payload any, key ed25519.PrivateKey) ([]byte, error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	return marshal(&envelope{Kind: kind, Payload: text}, key)
}

// marshal adds a signature to an envelope, or replaces that of the same key, and returns the
// document.
func marshal(e *envelope, key ed25519.PrivateKey) ([]byte, error) {
	s := signature{Key: Key(key.Public().(ed25519.PublicKey)), Sig: ed25519.Sign(key, message(e.Kind, e.Payload))}
	e.Signatures = append(slices.DeleteFunc(e.Signatures, func(o signature) bool { return o.Key == s.Key }), s)
	if len(e.Signatures) > maxSignatures {
		return nil, fmt.Errorf("more than %d signatures", maxSignatures)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if limit := e.Kind.limit(); len(text) > limit {
		return nil, fmt.Errorf("the %s has %d bytes, of at most %d", e.Kind, len(text), limit)
	}
	return append(text, '\n'), nil
}

func (k Kind) limit() int {
	switch k {
	case KindRevocations:
		return MaxRevocations
	case KindStations:
		return maxStationsDocument
	}
	return MaxDocument
}

// open reads an envelope and verifies nothing.
func open(data []byte) (*envelope, error) {
	if len(data) > MaxRevocations+1 {
		return nil, fmt.Errorf("%d bytes are too many", len(data))
	}
	var e envelope
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("not a document: %w", err)
	}
	switch e.Kind {
	case KindGrant, KindRecord, KindRevocations, KindStations:
	default:
		return nil, fmt.Errorf("%.20q is not a kind of document", string(e.Kind))
	}
	if len(data) > e.Kind.limit()+1 {
		return nil, fmt.Errorf("a %s of %d bytes, of at most %d", e.Kind, len(data), e.Kind.limit())
	}
	if len(e.Signatures) > maxSignatures {
		return nil, fmt.Errorf("more than %d signatures", maxSignatures)
	}
	return &e, nil
}

// KindOf returns what kind of document data claims to be.
func KindOf(data []byte) (Kind, error) {
	e, err := open(data)
	if err != nil {
		return "", err
	}
	return e.Kind, nil
}

// About returns which network a document claims to be about and, unless it is a list of
// revocations, which site. Nothing is verified.
func About(data []byte) (network string, site Site, err error) {
	e, err := open(data)
	if err != nil {
		return "", site, err
	}
	var about struct {
		Network string `json:"network"`
		Site    Site   `json:"site"`
	}
	err = e.payload(e.Kind, &about)
	return about.Network, about.Site, err
}

// AddSignature returns the document with one more signature: for a network whose documents need
// several signers.
func AddSignature(data []byte, key ed25519.PrivateKey) ([]byte, error) {
	e, err := open(data)
	if err != nil {
		return nil, err
	}
	return marshal(e, key)
}

// signers returns how many of the given keys have signed e, each counted once.
func (e *envelope) signers(keys []Key) int {
	n := 0
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue
		}
		if slices.ContainsFunc(e.Signatures, func(s signature) bool {
			return s.Key == key && ed25519.Verify(key[:], message(e.Kind, e.Payload), s.Sig)
		}) {
			n++
		}
	}
	return n
}

// payload decodes the payload of a document of the wanted kind.
func (e *envelope) payload(want Kind, into any) error {
	if e.Kind != want {
		return fmt.Errorf("is a %s, not a %s", e.Kind, want)
	}
	if err := json.Unmarshal(e.Payload, into); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return nil
}

// Trust is whom a site believes: keys of signers, how many of them have to agree, and the network
// that they speak for.
type Trust struct {
	Network   string
	Signers   []Key
	Threshold int // at least 1
}

// ErrUntrusted is wrapped by the error for a document without enough valid signatures.
var ErrUntrusted = errors.New("not signed by enough trusted signers")

func (t Trust) verify(e *envelope) error {
	need := max(t.Threshold, 1)
	if n := e.signers(t.Signers); n < need {
		return fmt.Errorf("%w: %d of %d", ErrUntrusted, n, need)
	}
	return nil
}

func (t Trust) network(name string) error {
	if name != t.Network {
		return fmt.Errorf("is of the network %.40q, not %q", name, t.Network)
	}
	return nil
}
