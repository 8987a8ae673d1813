package config

import (
	"regexp"
	"strings"
)

// wgHeader and wgKey match lines of a wg-quick(8) file that TOML does not allow or tund does not
// have.
var (
	wgHeader = regexp.MustCompile(`(?mi)^[ \t]*\[(interface|peer)\][ \t\r]*(#.*)?$`)
	wgKey    = regexp.MustCompile(`(?mi)^[ \t]*(PrivateKey|PublicKey|PresharedKey|Address|AllowedIPs|Endpoint)` +
		`[ \t]*=[ \t]*[^"'\[ \t\r\n]`)
	ownHeader = regexp.MustCompile(`(?m)^[ \t]*\[{1,2}[ \t]*(tunnel|tun|tap|peer)[ \t]*\]`)
	keyAlone  = regexp.MustCompile(`^\s*[A-Za-z0-9+/]{43}=\s*$`)
)

// otherFormat says what the source is if it is not TOML at all: the file of another program, a key,
// or text in another encoding. Then nothing else is said of it.
func (l *loader) otherFormat() (at int, msg string) {
	src := l.src
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(src, mark) {
			return 0, "this file is UTF-16: save it as UTF-8"
		}
	}
	if strings.HasPrefix(src, "\ufeff") { // load removed the one that is allowed
		return 0, "this file begins with two byte order marks: save it as UTF-8 without any"
	}
	if keyAlone.MatchString(src) {
		return 0, "this is a key file, not a configuration"
	}
	if strings.HasPrefix(strings.TrimSpace(src), "{") {
		return 0, "this looks like JSON: want TOML, as docs/config.md describes it"
	}
	header := wgHeader.FindStringIndex(src)
	if header != nil && wgKey.MatchString(src) && !ownHeader.MatchString(src) {
		return header[0] + strings.IndexByte(src[header[0]:], '['),
			"this is a wg-quick file: convert it with `tunctl import " + l.cfg.Path + "`"
	}
	return 0, ""
}
