package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tund/config/scalar"
	"tund/crypto/keys"
)

// privateKey reads the private key from the one of its three keys that is given.
func (l *loader) privateKey(s *section) keys.PrivateKey {
	key := s.oneOf("private_key", "private_key_file", "credential")
	if key == "" {
		l.errorAt(s.at.Value, "tunnel: no private key: give private_key_file, private_key or credential")
		return keys.PrivateKey{}
	}
	var src source
	if key == "credential" {
		src = l.credential(s, key)
	} else {
		src = s.secretSource(key)
	}
	l.privateKeyAt = src.at
	errs := len(l.errs)
	k := readSecret(s, key, src, keys.ParsePrivate)
	if len(l.errs) == errs && src.ok && k.IsZero() {
		s.errorAt(src.at, key, "is all zeros, which is not a key")
	}
	return k
}

// previousKey reads the private key that the instance had before.
func (l *loader) previousKey(s *section, now keys.PrivateKey) keys.PrivateKey {
	const name = "previous_private_key_file"
	src := s.secretSource(name)
	errs := len(l.errs)
	k := readSecret(s, name, src, keys.ParsePrivate)
	if !src.ok || len(l.errs) > errs {
		return keys.PrivateKey{}
	}
	switch {
	case k.IsZero():
		s.errorAt(src.at, name, "is all zeros, which is not a key")
	case k.Equal(now):
		s.warnAt(src.at, name, "is the same key as the present one: give the key from before the change, or remove this line")
	}
	return k
}

// oneOf returns which of several keys that exclude each other is given, "" for none. Of more than
// one it reports the later ones and returns the first.
func (s *section) oneOf(options ...string) (given string) {
	for _, key := range options {
		_, ok := s.value(key, textKind(key))
		switch {
		case !ok:
		case given == "":
			given = key
		default:
			first, second := given, key
			if s.at.Child(second).Key < s.at.Child(first).Key {
				first, second = second, first
			}
			line, col := s.l.lines.Position(s.at.Child(first).Key)
			s.l.errorAt(s.at.Child(second).Key, "%s: %s beside %s at %d:%d: give one of the two",
				s.label, second, first, line, col)
		}
	}
	return given
}

// source is where the text of a secret comes from: the configuration itself, or a file.
type source struct {
	text string
	path string // "" when text is it
	at   int    // offset of the value, for messages
	ok   bool
}

// secretSource returns the source of a secret that stands in the value of key, or in the file it
// names when the name of the key ends in _file.
func (s *section) secretSource(key string) source {
	text, ok := s.text(key)
	src := source{text: text, at: s.where(key), ok: ok}
	if !ok {
		return src
	}
	if !strings.HasSuffix(key, "_file") {
		s.l.inline = true
		return src
	}
	if text == "" {
		s.errorAt(src.at, key, "is empty")
		src.ok = false
	}
	src.path = text
	if !filepath.IsAbs(text) {
		src.path = filepath.Join(filepath.Dir(s.l.cfg.Path), text)
	}
	return src
}

// credential returns the source of a secret that systemd hands over (systemd.exec(5),
// LoadCredential=).
func (l *loader) credential(s *section, key string) source {
	name, ok := s.text(key)
	src := source{at: s.where(key)}
	dir := l.host.getenv("CREDENTIALS_DIRECTORY")
	switch {
	case !ok:
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || scalar.LooksLikeKey(name):
		s.errorAt(src.at, key, "want the name of a credential, without a path")
	case dir == "":
		s.errorAt(src.at, key, "$CREDENTIALS_DIRECTORY is not set: systemd sets it for a service with LoadCredential=")
	default:
		src.path, src.ok = filepath.Join(dir, name), true
	}
	return src
}

// readSecret reads and parses a secret. No message has anything of its text.
func readSecret[K any](s *section, key string, src source, parse func(string) (K, error)) (k K) {
	if !src.ok {
		return k
	}
	text, from := src.text, ""
	if src.path != "" {
		s.l.cfg.Files = append(s.l.cfg.Files, src.path)
		data, info, err := s.l.host.readFile(src.path, maxKeyFileSize)
		if err != nil && scalar.EndsLikeKey(src.path) {
			s.errorAt(src.at, key, "looks like a key, but the name of a file is expected (not shown)")
			return k
		}
		if errors.Is(err, fs.ErrNotExist) && key == "private_key_file" {
			s.errorAt(src.at, key, "%v: make one with `tunctl genkey`, mode 0600", err)
			return k
		}
		if err != nil {
			s.errorAt(src.at, key, "%v%s", err, s.l.host.whoMayRead(err))
			return k
		}
		// Systemd grants access to those by ACL, which shows as a group's right.
		if key != "credential" {
			s.checkKeyMode(key, src, info)
		}
		text, from = strings.TrimSpace(string(data)), src.path+": "
	}
	why := scalar.Key(text)
	if strings.HasSuffix(key, "_key") && strings.HasSuffix(text, ".key") && len(text) < keys.TextSize {
		why = "is the name of a file: use " + key + "_file"
	}
	if why != "" {
		s.errorAt(src.at, key, "%s%s", from, why)
		return k
	}
	k, err := parse(text)
	if err != nil {
		s.errorAt(src.at, key, "%s%v", from, err)
	}
	return k
}

// checkKeyMode warns about a key file that others than its owner may use.
func (s *section) checkKeyMode(key string, src source, info fs.FileInfo) {
	if info == nil || !info.Mode().IsRegular() {
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		s.warnAt(src.at, key, "%s is open to others (mode %04o): %s", src.path, mode, oursAlone(info))
	}
}

// oursAlone is what makes a file with a secret ours alone. Where it belongs to somebody else, as a
// key that root made for the service does, a mode without an owner would keep us out.
func oursAlone(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		return "chown it to the user that runs tund (the service's is tund), then chmod 400"
	}
	return "chmod 600"
}

// positionOf names a place for a message: line:column.
func (l *loader) positionOf(p place) string {
	line, col := l.lines.Position(p.at)
	return fmt.Sprintf("%d:%d", line, col)
}
