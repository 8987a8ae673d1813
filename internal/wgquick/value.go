package wgquick

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"tund/config"
)

var errZero = errors.New("is all zeros")

// prefix reads address/length, or an address alone, which stands for itself; why says what is wrong
// with it.
func prefix(text string) (p netip.Prefix, why string) {
	address, _, hasLength := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return p, "is not an address (want 10.20.0.0/16 or fd00::/64)"
	}
	if !hasLength {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err = netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, "has a length that is not 0 to " + strconv.Itoa(a.BitLen())
	case a.Is4In6() && p.Bits() >= 96:
		return netip.PrefixFrom(a.Unmap(), p.Bits()-96), ""
	case a.Is4In6():
		return p, "is an IPv4 address in IPv6 dress: write it as IPv4"
	}
	return p, ""
}

// endpoint reads host:port. As with wg, what stands behind the last colon is the port, so that an
// IPv6 address does without brackets.
func endpoint(text string) (e config.Endpoint, why string) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 || strings.HasSuffix(text, "]") {
		return e, "missing port (want host:port)"
	}
	host, port := text[:i], text[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return e, "port " + shown(port) + " is not a number from 1 to 65535"
	}
	if host == "" {
		return e, "missing host (want host:port)"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	return config.Endpoint{Host: host, Port: uint16(n)}, ""
}

// maxShown bounds what a message quotes.
const maxShown = 64

// keyText matches what could be a key in base64 or hexadecimal, or most of one.
var keyText = regexp.MustCompile(`[A-Za-z0-9+/=_-]{40}`)

// shown returns text for a message, unless it may be a secret in the wrong place.
func shown(text string) string {
	if len(text) > maxShown || keyText.MatchString(text) {
		return "(" + strconv.Itoa(len(text)) + " bytes, not shown)"
	}
	return strconv.Quote(text)
}
