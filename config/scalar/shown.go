package scalar

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The longest texts that messages show, in bytes: anything longer may be a secret in the wrong
// place, and would not help the reader.
const (
	MaxShownKey  = 32
	MaxShownText = 64
)

// ShownKey returns the name of a key for a message. A long one is not shown: it may be a secret on
// a line of its own, or a key file given in place of a configuration.
func ShownKey(name string) string {
	if len(name) > MaxShownKey || MayBeSecret(name) {
		return fmt.Sprintf("(%d bytes, not shown)", len(name))
	}
	return fmt.Sprintf("%q", name)
}

// Shown returns a value for a message, unless it may be a secret in the wrong place.
func Shown(value string) string {
	if len(value) > MaxShownText || MayBeSecret(value) {
		return fmt.Sprintf("(%d bytes, not shown)", len(value))
	}
	return fmt.Sprintf("%q", value)
}

// keyText matches what could be a key, or most of one, in base64 or hexadecimal; keyTail the same
// at the end of a text, in an alphabet without what names of files mostly have; wholeKey is a key
// as wg(8) writes it.
var (
	keyText  = regexp.MustCompile(`[A-Za-z0-9+/=_-]{40}`)
	keyTail  = regexp.MustCompile(`[A-Za-z0-9+/=]{40}\s*$`)
	wholeKey = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)
	keyPart  = regexp.MustCompile(`[A-Za-z0-9+/=]{20,}`)
)

// LooksLikeKey reports whether value has something in it that could be a key.
func LooksLikeKey(value string) bool { return keyText.MatchString(value) }

// MayBeSecret reports whether value has something in it that could be a key or a good part of one:
// a key that lost some characters when it was copied is still a secret.
func MayBeSecret(value string) bool {
	return LooksLikeKey(value) || slices.ContainsFunc(keyPart.FindAllString(value, -1), func(part string) bool {
		return strings.ContainsAny(part, "0123456789") && strings.ToLower(part) != part && strings.ToUpper(part) != part
	})
}

// EndsLikeKey reports whether the name of a file could be a key, or end in one.
func EndsLikeKey(path string) bool { return keyTail.MatchString(path) || wholeKey.MatchString(path) }
