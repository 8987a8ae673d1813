package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of names.
const (
	maxDeviceName   = 15 // IFNAMSIZ less the zero byte
	maxInstanceName = 64 // it becomes a part of directory and nftables table names
	maxPeerName     = 63
	maxHostName     = 253 // RFC 1035 §2.3.4, as text
	maxHostLabel    = 63
)

// The functions below return why a text is not what its name says, as the end of a sentence that begins with the
// text, or "".

// checkAlphabet allows what wg-quick(8) allows in the name of an interface.
func checkAlphabet(name string) string {
	for _, r := range name {
		if !(r < utf8.RuneSelf && (isBare(byte(r)) || strings.ContainsRune("=+.", r))) {
			return "has a character other than letters, digits and _=+.-"
		}
	}
	switch name {
	case "":
		return "is empty"
	case ".", "..":
		return "is the name of a directory"
	}
	return ""
}

func checkInstance(name string) string {
	if len(name) > maxInstanceName {
		return fmt.Sprintf("is longer than %d bytes", maxInstanceName)
	}
	return checkAlphabet(name)
}

func checkDevice(name string) string {
	if len(name) > maxDeviceName {
		return fmt.Sprintf("is longer than %d bytes", maxDeviceName)
	}
	if name == "all" || name == "default" { // names of their own under /proc/sys/net/ipv4/conf
		return "is reserved by the kernel"
	}
	return checkAlphabet(name)
}

// checkName allows any name for a peer that can be printed, typed as one word and put into a path.
func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxPeerName:
		return fmt.Sprintf("is longer than %d bytes", maxPeerName)
	case name == "." || name == "..":
		return "is the name of a directory"
	case looksLikeKey(name):
		return "looks like a key"
	case strings.HasPrefix(name, "-"):
		return "begins like an option"
	}
	for _, r := range name {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'`\\/%?#&", r) {
			return "has a space or another character that a name may not have"
		}
	}
	return ""
}

// parsePrefix reads address/length, or an address alone, which stands for itself.
func parsePrefix(text string) (p netip.Prefix, why string) {
	address, length, hasLength := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return p, "is not an address (want 10.20.0.0/16 or fd00::/64)"
	case a.Zone() != "":
		return p, "has a zone, which means nothing here"
	case a.Is4In6():
		return p, "is an IPv4 address in IPv6 dress: write it as IPv4"
	case !hasLength:
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err = netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Sprintf("has length %s, which is not 0 to %d", shown(length), a.BitLen())
	}
	return p, ""
}

// parseMAC reads the address of one Ethernet station.
func parseMAC(text string) (m MAC, why string) {
	hw, err := net.ParseMAC(text)
	switch {
	case err != nil || len(hw) != len(m):
		return m, "is not a MAC address (want 02:00:00:00:00:01)"
	case hw[0]&1 != 0:
		return m, "is a group address, which no station has"
	}
	copy(m[:], hw)
	if m == (MAC{}) {
		return m, "is all zero"
	}
	return m, ""
}

// checkHost checks the host of an endpoint and returns it in its usual form.
func checkHost(host string, bracketed bool) (usual, why string) {
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && a.Unmap().IsUnspecified(), err == nil && a.Unmap().IsMulticast():
		return "", shown(host) + " is no address of a host"
	case err == nil:
		return a.Unmap().String(), ""
	case bracketed || strings.Contains(host, ":"):
		return "", shown(host) + " is not an IPv6 address"
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", shown(host) + " is not an IPv4 address"
	}
	for _, label := range labels {
		if label == "" || len(label) > maxHostLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return r >= utf8.RuneSelf || !isBare(byte(r)) }) {
			return "", shown(host) + " is not a host name"
		}
	}
	if len(name) > maxHostName {
		return "", shown(host) + " is not a host name"
	}
	return host, ""
}
