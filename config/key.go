package config

import (
	"encoding/hex"
	"regexp"
	"strings"

	"tund/crypto/keys"
)

// placeholderWords are in the keys that stand in documentation, in any case. A random key has one
// of them by chance once in a hundred million.
var placeholderWords = []string{"publickey", "privatekey", "presharedkey", "placeholder", "changeme", "yourkey", "replaceme"}

// padding is a run of one character, by which a text is brought to the length of a key. Runs of A
// and / are zero bits and one bits, which keys made by programs for tests have.
var padding = regexp.MustCompile(`[B-Zb-z0-9]{12,}`)

// isPlaceholder reports whether the text of a key was written by a human to show where a key
// belongs.
func isPlaceholder(text string) bool {
	lower := strings.ToLower(text)
	for _, word := range placeholderWords {
		if strings.Contains(lower, word) {
			return true
		}
	}
	for _, run := range padding.FindAllString(text, -1) {
		same := 1
		for i := 1; i < len(run); i++ {
			if run[i] != run[i-1] {
				same = 0
			}
			if same++; same == 12 {
				return true
			}
		}
	}
	return false
}

// checkKey says why a text cannot be a key, or returns "". It never has anything of the text in
// what it says.
func checkKey(text string) string {
	switch trimmed := strings.TrimSpace(text); {
	case trimmed == "":
		return "is empty: want 44 characters of base64"
	case isPlaceholder(trimmed), strings.ContainsAny(trimmed, "<>…"), strings.EqualFold(trimmed, "base64"):
		return "is the placeholder from an example: put a real key in its place"
	case trimmed != text:
		return "has spaces or line breaks around the key"
	case len(trimmed) == 2*keys.Size && isHex(trimmed):
		return "is hexadecimal: want the same key in base64, 44 characters"
	case strings.Contains(trimmed, "-----BEGIN"):
		return "is a PEM file: want a WireGuard key, which `tunctl genkey` prints"
	case len(trimmed) == keys.TextSize-1 && !strings.HasSuffix(trimmed, "="):
		return `has 43 characters: the "=" at the end of the key is missing`
	}
	if _, err := keys.ParsePublic(text); err != nil {
		return err.Error()
	}
	return ""
}

func isHex(text string) bool { _, err := hex.DecodeString(text); return err == nil }

// publicKey reads the key of a peer, and compares it with our own and with those of the other
// peers.
func (l *loader) publicKey(s *section) (key keys.PublicKey) {
	const name = "public_key"
	text, ok := s.text(name)
	if !s.has(name) {
		l.errorAt(s.at.Value, "%s: public_key: missing", s.label)
	}
	if !ok {
		return key
	}
	at := s.where(name)
	if why := checkKey(text); why != "" {
		s.errorAt(at, name, "%s", why)
		return key
	}
	key, _ = keys.ParsePublic(text) // checkKey did
	own := place{at: l.privateKeyAt}
	switch {
	case key.IsZero():
		s.errorAt(at, name, "is all zero, which is no key")
		return keys.PublicKey{}
	case key.IsLowOrder():
		s.errorAt(at, name, "is a low-order point, with which no handshake can succeed")
		return keys.PublicKey{}
	case l.isOwnPrivateKey(text):
		s.errorAt(at, name, "is our own private key, that of %s: put the public key of the peer here", l.positionOf(own))
		return keys.PublicKey{}
	case key == l.ownKey:
		s.errorAt(at, name, "is our own public key, that of the private key at %s: put that of the peer here", l.positionOf(own))
	}
	if first, ok := l.keys[key]; ok {
		s.errorAt(at, name, "is also the key of %s, at %s", first.peer.label, l.positionOf(first))
	} else {
		l.keys[key] = place{at: at, peer: s}
	}
	return key
}

// isOwnPrivateKey reports whether text is the private key of the instance.
func (l *loader) isOwnPrivateKey(text string) bool {
	key, err := keys.ParsePrivate(text)
	return err == nil && !key.IsZero() && key.Equal(l.cfg.Tunnel.PrivateKey)
}

// presharedKey reads the secret that a peer shares with us.
func (l *loader) presharedKey(s *section) keys.PresharedKey {
	key := s.oneOf("preshared_key", "preshared_key_file")
	if key == "" {
		return keys.PresharedKey{}
	}
	src := s.secretSource(key)
	errs := len(l.errs)
	psk := readSecret(s, key, src, keys.ParsePreshared)
	if len(l.errs) > errs {
		return psk
	}
	public := keys.PublicKey(psk)
	switch {
	case !src.ok:
	case psk.IsZero():
		s.warnAt(src.at, key, "is all zero, which is the same as none")
	case l.isOwnPrivateKey(psk.Base64()):
		s.errorAt(src.at, key, "is our own private key, which is shared with nobody: make one with `tunctl genpsk`")
	case public == l.ownKey:
		s.errorAt(src.at, key, "is our own public key, which is no secret: make one with `tunctl genpsk`")
	case public == s.publicKey:
		s.errorAt(src.at, key, "is the public key of the peer, which is no secret: make one with `tunctl genpsk`")
	}
	return psk
}
