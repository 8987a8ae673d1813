package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"tund/config/scalar"
)

const (
	// maxDNS bounds the elements of [tun] dns. Few resolvers use more than three servers.
	maxDNS = 16
	// maxDomain is the length of a domain in characters (RFC 1035 §2.3.4).
	maxDomain = 253
)

// domainName matches a domain, as systemd-resolved takes it: a tilde before it means that it is for
// routing only, and "~." is every name (resolved.conf(5)).
var domainName = regexp.MustCompile(`^~?(\.|([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.?)$`)

// IsDNS reports whether a word can be an element of [tun] dns.
func IsDNS(word string) bool {
	if addr, err := netip.ParseAddr(word); err == nil {
		return isServer(addr)
	}
	return isDomain(word)
}

func isServer(addr netip.Addr) bool {
	return (addr.IsGlobalUnicast() || addr.IsLoopback()) && !addr.Is4In6() && addr.Zone() == ""
}

func isDomain(word string) bool {
	domain := strings.ToLower(word)
	return len(domain) <= maxDomain && domain != "." && domainName.MatchString(domain) && !scalar.MayBeSecret(word)
}

// dns returns the servers and the domains at key.
func (s *section) dns(key string) (servers []netip.Addr, domains []string) {
	words, at := s.words(key)
	if len(words) > maxDNS {
		s.errorAt(s.where(key), key, "has %d elements, and at most %d are possible", len(words), maxDNS)
		return nil, nil
	}
	for i, word := range words {
		if addr, err := netip.ParseAddr(word); err == nil {
			switch {
			case !isServer(addr):
				s.errorAt(at[i], key, "%s is not the address of a server", scalar.Shown(word))
			case slices.Contains(servers, addr):
				s.errorAt(at[i], key, "%s is there twice", scalar.Shown(word))
			default:
				servers = append(servers, addr)
			}
			continue
		}
		domain := strings.ToLower(word)
		switch {
		case !isDomain(word):
			s.errorAt(at[i], key, "%s is neither an address nor a domain", scalar.Shown(word))
		case slices.Contains(domains, domain):
			s.errorAt(at[i], key, "%s is there twice", scalar.Shown(word))
		default:
			domains = append(domains, domain)
		}
	}
	if len(servers) == 0 && len(words) > 0 && len(domains) == len(words) {
		s.errorAt(s.where(key), key, "has domains, and no server to ask for them")
	}
	return servers, domains
}
