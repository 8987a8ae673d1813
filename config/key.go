package config

import (
	"tund/config/scalar"
	"tund/crypto/keys"
)

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
	if why := scalar.Key(text); why != "" {
		s.errorAt(at, name, "%s", why)
		return key
	}
	key, _ = keys.ParsePublic(text) // scalar.Key has checked it
	own := place{at: l.privateKeyAt}
	switch {
	case key.IsZero():
		s.errorAt(at, name, "is all zeros, which is not a key")
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
		s.warnAt(src.at, key, "is all zeros, which is the same as none")
	case l.isOwnPrivateKey(psk.Base64()):
		s.errorAt(src.at, key, "is our own private key, which is shared with nobody: make one with `tunctl genpsk`")
	case public == l.ownKey:
		s.errorAt(src.at, key, "is our own public key, which is no secret: make one with `tunctl genpsk`")
	case public == s.publicKey:
		s.errorAt(src.at, key, "is the public key of the peer, which is no secret: make one with `tunctl genpsk`")
	}
	return psk
}
