package resolve

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tund/config"
)

// TestPrefix is the table of RFC 6052 §2.4, with the addresses that it has for 192.0.2.33, and what
// a DNS64 server says there of the well-known name.
func TestPrefix(t *testing.T) {
	t.Parallel()
	v4 := netip.MustParseAddr("192.0.2.33")
	for text, want := range map[string]string{
		"2001:db8::/32":            "2001:db8:c000:221::",
		"2001:db8:100::/40":        "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":        "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":    "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":    "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":    "2001:db8:122:344::192.0.2.33",
		"64:ff9b::/96":             "64:ff9b::192.0.2.33",
		"2001:db8:1:2:ff00:3::/96": "2001:db8:1:2:ff00:3:c000:221",
	} {
		prefix := netip.MustParsePrefix(text)
		got, ok := translated(prefix, v4)
		if !ok || got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
		known, _ := translated(prefix, wellKnownAddrs[1])
		if found, ok := prefixIn([]netip.Addr{wellKnownAddrs[0], known}); !ok || found != prefix {
			t.Errorf("%s: found %v in %v", text, found, known)
		}
	}
	for _, a := range []string{"10.0.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "2001:db8::1"} {
		if got, ok := translated(netip.MustParsePrefix("64:ff9b::/96"), netip.MustParseAddr(a)); ok {
			t.Errorf("%s is translated to %v", a, got)
		}
	}
	if found, ok := prefixIn([]netip.Addr{netip.MustParseAddr("2001:db8::1"), wellKnownAddrs[0]}); ok {
		t.Errorf("a prefix %v in addresses that have none", found)
	}
}

// TestResolver_NAT64: an IPv4 endpoint gets an address in IPv6 on a network that has no IPv4 and
// translates, and loses it where there is IPv4 again.
func TestResolver_NAT64(t *testing.T) {
	t.Parallel()
	paris := peerAt("paris", "198.51.100.7#7")
	resolving(t, []config.Peer{paris}, func(n *names) {
		prefixes := 0
		n.o.PrefixChanged = func() { prefixes++ }
		endpoints := func(want ...string) {
			t.Helper()
			if got := fmt.Sprint(n.Endpoints(paris)); got != fmt.Sprint(want) {
				t.Errorf("endpoints %s, want %s", got, want)
			}
		}
		n.knows(wellKnownName, "192.0.0.170", "192.0.0.171", "64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171")
		_, asked := n.pass(2*time.Minute, wellKnownName)
		if len(asked) != 0 {
			t.Errorf("asked %v although IPv4 works", asked)
		}
		endpoints("198.51.100.7:1")

		reach := func(ok bool) {
			n.mu.Lock()
			n.unreachable[somewhere] = !ok
			n.mu.Unlock()
			n.Retry() // the network changed
		}
		reach(false)
		if _, asked := n.pass(time.Second, wellKnownName); len(asked) != 1 {
			t.Errorf("asked %v", asked)
		}
		endpoints("[64:ff9b::c633:6407]:1", "198.51.100.7:1")

		n.knows(wellKnownName) // the server is away: what is known stays
		n.Retry()
		n.pass(time.Minute, wellKnownName)
		endpoints("[64:ff9b::c633:6407]:1", "198.51.100.7:1")

		reach(true)
		n.pass(time.Second, wellKnownName)
		endpoints("198.51.100.7:1")
		if prefixes != 2 {
			t.Errorf("told %d changes, want 2", prefixes)
		}
		reach(false)
		n.knows(wellKnownName, "192.0.0.170") // a network without translation
		n.pass(time.Second, wellKnownName)
		endpoints("198.51.100.7:1")
	})
}
