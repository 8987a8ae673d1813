package wgquick

import (
	"regexp"
	"strings"
	"unicode"

	"tund/internal/names"
)

// WireGuard has no names for peers, so people write them into comments: above the section, beside
// its header, below it, or behind the public key. The greater the rank, the likelier a comment is a
// name.
const (
	nameAtKey = iota + 1
	nameAbove
	nameInside
	nameBeside
	nameSaid // "Name = ..." anywhere there
)

// nameKey is how Format writes the name of a peer, as a comment.
const nameKey = "Name"

// What a comment has around a name: words of wireguard-install (Nyr's and angristan's), wg-easy,
// the Prometheus exporter and others.
var (
	saidName   = regexp.MustCompile(`(?i)^(?:friendly_|peer[ _]?|client[ _]?)?name\s*[=:]\s*(\S.*)$`)
	aroundName = regexp.MustCompile(`(?i)^(?:begin[_ ]peer|client|peer|user|device)(?:\s*[:=]\s*|\s+)(\S.*)$`)
	numbered   = regexp.MustCompile(`^\((\S+)\)$`)
)

// Bounds of a name: a longer comment is a sentence. maxName is in bytes.
const (
	maxNameWords = 3
	maxName      = names.MaxPeer
)

// offerName takes the name of the peer out of a comment, when there is one and no better one was
// found.
func (p *peerState) offerName(comment string, rank int) {
	text := strings.TrimSpace(strings.Trim(strings.TrimSpace(comment), "#"))
	if m := saidName.FindStringSubmatch(text); m != nil {
		if text, rank = m[1], nameSaid; usable(text) && rank > p.nameRank {
			p.Name, p.nameRank = text, rank
		}
	} else {
		if strings.HasPrefix(strings.ToLower(text), "end") || strings.ContainsAny(text, "=") {
			return // the end of another peer, or a key that is commented out
		}
		if m := aroundName.FindStringSubmatch(text); m != nil {
			text = m[1]
		}
		if len(strings.Fields(text)) > maxNameWords {
			return
		}
	}
	if name := fit(text); name != "" && rank > p.nameRank {
		p.Name, p.nameRank = name, rank
	}
}

// fit makes a name that tund takes out of text, "" where nothing of it can be one. Of what it
// returned before it makes the same.
func fit(text string) string {
	if keyText.MatchString(text) {
		return ""
	}
	text = strings.TrimSpace(text)
	for m := numbered.FindStringSubmatch(text); m != nil; m = numbered.FindStringSubmatch(text) {
		text = m[1]
	}
	var b strings.Builder
	for _, r := range strings.NewReplacer("/", "-", `\`, "-").Replace(strings.Join(strings.Fields(text), "-")) {
		if unicode.IsGraphic(r) && r != unicode.ReplacementChar && !strings.ContainsRune(names.NotInPeer, r) &&
			b.Len()+len(string(r)) <= maxName-numberRoom {
			b.WriteRune(r)
		}
	}
	name := strings.TrimRight(strings.TrimLeft(b.String(), "-"), "-.,:;")
	if strings.Trim(name, ".-_*=~+:()[]<>!") == "" {
		return ""
	}
	return name
}

// usable reports whether text is a name as it stands.
func usable(text string) bool {
	return len(text) <= maxName && text != "." && text != ".." && !strings.HasPrefix(text, "-") && !keyText.MatchString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool {
			return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar || strings.ContainsRune(names.NotInPeer, r)
		})
}

// numberRoom is left free at the end of a name: for "-2" behind one that is there twice.
const numberRoom = 6
