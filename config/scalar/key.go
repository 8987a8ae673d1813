package scalar

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

// IsPlaceholder reports whether the text of a key was written by a human to show where a key
// belongs.
func IsPlaceholder(text string) bool {
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

// Key returns why text cannot be a key, as the end of a sentence, or "" if it can. The answer never
// contains anything of the text, which may be a secret.
func Key(text string) string {
	switch trimmed := strings.TrimSpace(text); {
	case trimmed == "":
		return "is empty: want 44 characters of base64"
	case IsPlaceholder(trimmed), strings.ContainsAny(trimmed, "<>…"), strings.EqualFold(trimmed, "base64"):
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
