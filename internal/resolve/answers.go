package resolve

import (
	"fmt"
	"net/netip"
	"strings"
)

// unfit says why an address cannot be where a peer is, when a name service gave it for host; ""
// when it can. Whoever answers for a name could otherwise have a host send its handshakes to
// itself, or to everybody on its network. An address that stands in the configuration is taken as
// it is, and so is the loopback address of localhost, which means nothing else (RFC 6761 §6.3).
func unfit(host string, a netip.Addr) string {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch a = a.Unmap(); {
	case !a.IsValid():
		return "no address"
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0: // 0.0.0.0/8: RFC 1122 §3.2.1.3
		return "an unspecified address"
	case a.IsLoopback() && !isLocalhost(host):
		return "a loopback address"
	case a.IsMulticast():
		return "a multicast address"
	case a == broadcast:
		return "the broadcast address"
	}
	return ""
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// unfitError is the failure of a lookup that found only addresses where no peer can be.
type unfitError struct {
	addr netip.Addr
	why  string
}

func (e *unfitError) Error() string {
	return fmt.Sprintf("the name service answers with %s, %s, where no peer can be: correct the record, or "+
		"write the address into the configuration", e.addr, e.why)
}
