// Package scalar reads the single values of a configuration file that have a form of their own:
// names, addresses with a prefix length, hosts and keys. Where a text is not one, it says why, in
// the terms of whoever wrote it.
//
// It also decides how much of a text a message may show, since secrets end up in the wrong places.
//
// It knows neither sections nor positions in a file, and it resolves no names. Its functions may be
// called from several goroutines.
package scalar

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tund/internal/names"
)

// Bounds of the name of a host, as text.
const (
	maxHostName  = 253 // RFC 1035 §2.3.4
	maxHostLabel = 63
)

// Name returns why text cannot be the name of a peer, as the end of a sentence that begins with the
// text, or "" if it can.
func Name(name string) string {
	err := names.Peer(name)
	switch {
	case LooksLikeKey(name) && len(name) <= names.MaxPeer:
		return "looks like a key"
	case err != nil:
		return err.Error()
	}
	return ""
}

// unmapped writes an IPv4-mapped address as the IPv4 one that is meant, with the length that its
// prefix has there.
func unmapped(a netip.Addr, length string) string {
	const mapped = 96 // bits before the IPv4 address (RFC 4291, section 2.5.5.2)
	bits, err := strconv.Atoi(length)
	if err != nil || bits < mapped || bits >= a.BitLen() {
		return a.Unmap().String()
	}
	return netip.PrefixFrom(a.Unmap(), bits-mapped).String()
}

// Prefix reads address/length, or an address alone, which stands for itself. If text is neither,
// why is the end of a sentence that begins with the text; otherwise it is "".
func Prefix(text string) (p netip.Prefix, why string) {
	address, length, hasLength := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil, strings.ContainsAny(text, ", \t"):
		return p, notAnAddress(text, address)
	case a.Zone() != "":
		return p, "has a zone, which has no meaning here"
	case a.Is4In6():
		return p, fmt.Sprintf("is an IPv4 address in the form of IPv6: write %s", unmapped(a, length))
	case !hasLength:
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err = netip.ParsePrefix(text)
	if mask, maskErr := netip.ParseAddr(length); err != nil && maskErr == nil && mask.Is4() && a.Is4() {
		if bits, size := net.IPMask(mask.AsSlice()).Size(); size != 0 {
			return p, fmt.Sprintf("has a netmask: write %s/%d", a, bits)
		}
	}
	if err != nil {
		return p, fmt.Sprintf("has length %s, which is not 0 to %d", Shown(length), a.BitLen())
	}
	return p, ""
}

// notAnAddress says why what stands before the length of text is no address.
func notAnAddress(text, address string) string {
	const want = " (want 10.20.0.0/16 or fd00::/64)"
	switch {
	case text == "":
		return "is empty" + want
	case strings.TrimSpace(text) != text:
		return "has spaces around it"
	case strings.Contains(text, ","):
		return `is more than one: put each in quotes of its own: ["10.20.0.0/16", "fd00::/64"]`
	case strings.ContainsAny(text, " \t"):
		return "has spaces in it" + want
	case slices.Contains([]string{"any", "all", "default", "*"}, text):
		return `is not an address (for everything, want ["0.0.0.0/0", "::/0"])`
	case strings.HasPrefix(address, "["):
		return "has brackets, which belong around addresses with a port only"
	}
	if _, err := netip.ParseAddrPort(address); err == nil {
		return "has a port, which belongs in endpoint"
	}
	return "is not an address" + want
}

// Host checks the host of an endpoint, an address or a name (RFC 1123, section 2.1), and returns it
// in its usual form. What stood in brackets (bracketed) can only be an IPv6 address. If it is no
// host, why is a sentence that says so; otherwise it is "".
func Host(host string, bracketed bool) (usual, why string) {
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && a.Unmap().IsUnspecified(), err == nil && a.Unmap().IsMulticast():
		return "", Shown(host) + " is not the address of a host"
	case err == nil:
		return a.Unmap().String(), ""
	case bracketed || strings.Contains(host, ":"):
		return "", Shown(host) + " is not an IPv6 address"
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", Shown(host) + " is not an IPv4 address"
	}
	for _, label := range labels {
		if label == "" || len(label) > maxHostLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return r >= utf8.RuneSelf || !isHostByte(byte(r)) }) {
			return "", Shown(host) + " is not a host name"
		}
	}
	if len(name) > maxHostName {
		return "", Shown(host) + " is not a host name"
	}
	return host, ""
}

// isHostByte reports whether c may be in a label of a host name. Underscores are no part of host
// names, but of names that name services hold all the same.
func isHostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
