package desired

import (
	"net/netip"
	"slices"

	"tund/config"
	"tund/internal/resolved"
)

// DNS returns what systemd-resolved is to have for the TUN device of a configuration. Its slices
// are only read.
func DNS(c *config.Config) resolved.Wanted {
	if c.Tun == nil {
		return resolved.Wanted{}
	}
	full := slices.ContainsFunc(c.Peers, func(p config.Peer) bool {
		return slices.ContainsFunc(p.AllowedIPs, func(a netip.Prefix) bool { return a.Bits() == 0 })
	})
	return resolved.Plan(c.Tun.DNS, c.Tun.DNSDomains, full)
}
