package resolve

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// An IPv4 endpoint can be reached from a network that has IPv6 only, if that network translates:
// NAT64 (RFC 6146). The prefix under which it does is found with a name that has IPv4 addresses and
// no others, unless the DNS server of such a network adds some (DNS64).
//
// Sources: RFC 7050 (discovery), RFC 6052 (form of the addresses).

// wellKnownName and wellKnownAddrs: RFC 7050 §8.
const wellKnownName = "ipv4only.arpa"

var wellKnownAddrs = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// recheckPrefix is how often a prefix that is known is looked up again; one that is not, as often
// as a name whose peer is down.
const recheckPrefix = 10 * time.Minute

// somewhere stands for the IPv4 Internet: a documentation address (RFC 5737) takes the default
// route.
var somewhere = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// prefixLengths are those of RFC 6052 §2.2, with the place of the four bytes of the IPv4 address.
var prefixLengths = []struct {
	bits   int
	places [4]int
}{
	{96, [4]int{12, 13, 14, 15}}, {64, [4]int{9, 10, 11, 12}}, {56, [4]int{7, 9, 10, 11}},
	{48, [4]int{6, 7, 9, 10}}, {40, [4]int{5, 6, 7, 9}}, {32, [4]int{4, 5, 6, 7}},
}

// prefixIn returns the prefix under which a DNS64 server gave the well-known name an address.
func prefixIn(addrs []netip.Addr) (prefix netip.Prefix, ok bool) {
	for _, a := range addrs {
		if !a.Is6() || a.Is4In6() {
			continue
		}
		b := a.As16()
		if b[8] != 0 { // reserved, RFC 6052 §2.2; but for a prefix of 96 bits it is the network's
			if p, ok := try(a, b, 0); ok {
				return p, true
			}
			continue
		}
		for i := range prefixLengths {
			if p, ok := try(a, b, i); ok {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// try reports whether an address has a well-known one in it behind a prefix of a certain length.
func try(a netip.Addr, b [16]byte, length int) (netip.Prefix, bool) {
	l := &prefixLengths[length]
	var v4 [4]byte
	for i, at := range l.places {
		v4[i] = b[at]
	}
	if !slices.Contains(wellKnownAddrs, netip.AddrFrom4(v4)) {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix(l.bits)
	return p, err == nil
}

// translated returns the IPv6 address under which a network reaches an IPv4 address. Addresses that
// are not on the Internet have none (RFC 6052 §3.1).
func translated(prefix netip.Prefix, v4 netip.Addr) (netip.Addr, bool) {
	if !prefix.IsValid() || !v4.Is4() || v4.IsPrivate() || !v4.IsGlobalUnicast() {
		return netip.Addr{}, false
	}
	b, from := prefix.Addr().As16(), v4.As4()
	for i := range prefixLengths {
		if l := &prefixLengths[i]; l.bits == prefix.Bits() {
			for n, at := range l.places {
				b[at] = from[n]
			}
			return netip.AddrFrom16(b), true
		}
	}
	return netip.Addr{}, false
}

// nat64 is what is known of the network's translation. The Resolver's lock guards it.
type nat64 struct {
	wanted bool         // a peer has an IPv4 address for an endpoint
	prefix netip.Prefix // zero: there is none, or it is not needed
	busy   bool         // a lookup is under way
	next   time.Time    // of the next lookup
}

// prefixDue reports whether to look for a prefix now, and notes that somebody does.
func (r *Resolver) prefixDue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.nat64.wanted || r.nat64.busy || r.nat64.next.After(time.Now()) {
		return false
	}
	r.nat64.busy = true
	return true
}

// askPrefix looks for a prefix, unless the IPv4 Internet can be reached without.
func (r *Resolver) askPrefix(ctx context.Context) answer {
	if r.o.Reachable(somewhere) {
		return answer{name: wellKnownName}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := r.o.Lookup(ctx, wellKnownName)
	return answer{name: wellKnownName, addrs: found, err: err}
}

// takePrefix notes the result of askPrefix. A lookup that failed says nothing: what was known
// stays.
func (r *Resolver) takePrefix(a answer) {
	r.mu.Lock()
	was := r.nat64.prefix
	if a.err == nil {
		r.nat64.prefix, _ = prefixIn(a.addrs)
	}
	r.nat64.busy = false
	pause := recheckEvery
	if r.nat64.prefix.IsValid() {
		pause = recheckPrefix
	}
	r.nat64.next = time.Now().Add(jittered(pause))
	changed := r.nat64.prefix != was
	r.mu.Unlock()
	if changed && r.o.PrefixChanged != nil {
		r.o.PrefixChanged()
	}
}
