package wgquick

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tund/config"
	"tund/crypto/keys"
)

// FromConfig returns the file of wg-quick(8) that says what c says. The notes name what is lost on
// the way. Without [tun] there is nothing to translate, which is an error.
func FromConfig(c *config.Config) (*File, []Note, error) {
	if c.Tun == nil {
		return nil, nil, fmt.Errorf("%s: has no [tun] section, and WireGuard carries no Ethernet", c.Path)
	}
	f := &File{
		PrivateKey: c.Tunnel.PrivateKey, ListenPort: c.Tunnel.ListenPort, FwMark: c.Tunnel.FwMark,
		Addresses: c.Tun.Addresses, MTU: c.Tun.MTU, TableOff: !c.Tun.Routes, Table: uint32(c.Tun.Table),
	}
	var notes []Note
	lost := func(when bool, key, text string) {
		if when {
			notes = append(notes, Note{Key: key, Text: text})
		}
	}
	var more string
	f.DNS, more = dnsOf(c.Tun)
	lost(more != "", "tun.dns", more)
	lost(c.Tap != nil, "[tap]", "is left out: WireGuard carries no Ethernet")
	lost(c.Tun.Metric != 0, "tun.metric", "is left out: wg-quick gives its routes no metric")
	lost(f.TableOff && f.Table != 0, "tun.table", "is left out: there are no routes to put into it")
	full := slices.ContainsFunc(c.Peers, func(p config.Peer) bool {
		return slices.ContainsFunc(p.AllowedIPs, func(a netip.Prefix) bool { return a.Bits() == 0 })
	})
	lost(full && c.Tun.Routes && c.Tun.Table == 0 && c.Tun.LocalNetworks != config.LocalAll, "tun.local_networks",
		`is left out: with wg-quick every route of the main table but the default leads around a full tunnel, as with "all"`)
	for i := range c.Peers {
		p := &c.Peers[i]
		peer := Peer{Name: p.Name, PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, AllowedIPs: p.AllowedIPs, Keepalive: p.Keepalive}
		peer.dropDefaultName()
		if len(p.Endpoints) > 0 {
			peer.Endpoint = p.Endpoints[0]
		}
		label := fmt.Sprintf("peer %q", p.Name)
		lost(len(p.Endpoints) > 1, label, "only its first endpoint is taken: WireGuard knows one")
		lost(p.Priority != 0, label, "has a priority, which WireGuard does not know: an allowed IP that is at several peers belongs to the last of them")
		lost(p.Ethernet, label, "will carry no Ethernet: WireGuard does not")
		f.Peers = append(f.Peers, peer)
	}
	return f, notes, nil
}

// dropDefaultName takes away the name that tund gives a peer without one: the beginning of its key.
func (p *Peer) dropDefaultName() {
	if len(p.Name) >= defaultName && strings.HasPrefix(p.PublicKey.String(), p.Name) {
		p.Name = ""
	}
}

// defaultName is the least length of such a name (config).
const defaultName = 8

// Client says what the file of a peer needs beside what our configuration knows.
type Client struct {
	PrivateKey keys.PrivateKey // of the peer; zero: to be put into the file by hand
	Endpoint   config.Endpoint // where the peer calls us; zero: we call it
	AllowedIPs []netip.Prefix  // what the peer sends to us; nil: the networks of our addresses
	DNS        []string        // servers and search domains
	Keepalive  time.Duration   // 0: off
}

// ForPeer returns the file with which the peer p of c reaches us: its addresses are the single
// addresses among its allowed IPs, and its only peer is us.
func ForPeer(c *config.Config, p *config.Peer, client Client) (*File, error) {
	if c.Tun == nil {
		return nil, fmt.Errorf("%s: has no [tun] section, and WireGuard carries no Ethernet", c.Path)
	}
	if !client.PrivateKey.IsZero() && client.PrivateKey.Public() != p.PublicKey {
		return nil, fmt.Errorf("the private key is not that of peer %q, whose public key is %s", p.Name, p.PublicKey)
	}
	f := &File{PrivateKey: client.PrivateKey, DNS: client.DNS, MTU: c.Tun.MTU}
	for _, a := range p.AllowedIPs {
		if a.IsSingleIP() {
			f.Addresses = append(f.Addresses, a)
		}
	}
	if len(f.Addresses) == 0 {
		return nil, fmt.Errorf("peer %q has no single address (/32 or /128) in its allowed_ips that its device could have", p.Name)
	}
	if len(p.Endpoints) > 0 {
		f.ListenPort = p.Endpoints[0].Port
	}
	allowed := client.AllowedIPs
	if allowed == nil {
		for _, a := range c.Tun.Addresses {
			allowed = append(allowed, a.Masked())
		}
	}
	f.Peers = []Peer{{
		Name: c.Instance, PublicKey: c.Tunnel.PrivateKey.Public(), PresharedKey: p.PresharedKey,
		Endpoint: client.Endpoint, AllowedIPs: allowed, Keepalive: client.Keepalive,
	}}
	return f, nil
}

// NextAddresses returns one free address of each network that c gives its TUN device, for a new
// peer: the lowest above the network's own that is neither ours nor in an allowed IP of a peer.
// Networks of a single address are skipped.
func NextAddresses(c *config.Config) ([]netip.Prefix, error) {
	if c.Tun == nil {
		return nil, fmt.Errorf("%s: has no [tun] section", c.Path)
	}
	taken := make(map[netip.Addr]bool)
	var networks []netip.Prefix
	for _, a := range c.Tun.Addresses {
		taken[a.Addr()] = true
	}
	for i := range c.Peers {
		for _, a := range c.Peers[i].AllowedIPs {
			if a.IsSingleIP() {
				taken[a.Addr()] = true
			} else {
				networks = append(networks, a)
			}
		}
	}
	var list []netip.Prefix
	for _, own := range c.Tun.Addresses {
		if own.IsSingleIP() {
			continue
		}
		a, ok := nextAddress(own.Masked(), taken, networks)
		if !ok {
			return nil, fmt.Errorf("%s: tun: address: no address of %s is free", c.Path, own.Masked())
		}
		taken[a] = true
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: tun: address: no network to take an address from: give our address with the length of its network, "+
			"as in 10.9.0.1/24, or the peer's with --address", c.Path)
	}
	return list, nil
}

// nextAddress looks through one network. Whole networks of peers within it are jumped over, but one
// that holds the whole pool, as 0.0.0.0/0 does, takes nothing away from it.
func nextAddress(pool netip.Prefix, taken map[netip.Addr]bool, networks []netip.Prefix) (netip.Addr, bool) {
	last := lastAddress(pool)
	for a := pool.Addr().Next(); a.IsValid() && pool.Contains(a); a = a.Next() {
		inside := slices.IndexFunc(networks, func(n netip.Prefix) bool { return n.Bits() > pool.Bits() && n.Contains(a) })
		switch {
		case inside >= 0:
			a = lastAddress(networks[inside])
		case !taken[a] && (a != last || a.Is6() || pool.Bits() == 31):
			// RFC 3021: two hosts, no broadcast.
			return a, true
		}
	}
	return netip.Addr{}, false
}

// lastAddress returns the highest address of a network: of IPv4 the one for broadcasts.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
