package wgquick

import (
	"net/netip"
	"slices"
	"strconv"

	"tund/crypto/keys"
	"tund/internal/sizes"
)

// Bounds of an MTU in a configuration of tund, in bytes.
const (
	minMTU     = 576
	minMTUIPv6 = sizes.MinIPv6MTU
	maxMTU     = 65455
)

// end checks what only shows when the whole file is known, and puts the peers together.
func (p *parser) end() {
	p.line, p.peer = 0, nil
	if !p.seen {
		p.fault("", "has no [Interface] section: is it a file of wg-quick(8)?")
		return
	}
	p.checkMTU()
	p.checkDNS()
	if p.file.PrivateKey.IsZero() && p.file.PrivateKeyFile == "" && len(p.faults) == 0 {
		p.note("PrivateKey", "the file has none: put the key into the file that private_key_file names (mode 0600)")
	}
	merged := make(map[keys.PublicKey]*peerState)
	var order []*peerState
	for _, peer := range p.peers {
		p.line, p.peer = peer.line, peer
		if peer.PublicKey.IsZero() {
			if !peer.bad {
				p.fault("PublicKey", "the peer has none")
			}
			continue
		}
		if !p.file.PrivateKey.IsZero() && peer.PublicKey == p.file.PrivateKey.Public() {
			p.line = peer.keyLine
			p.fault("PublicKey", "is our own: a peer is another host")
		}
		if first := merged[peer.PublicKey]; first != nil {
			p.note("PublicKey", "is also that of the peer in line %d: read as one peer", first.line)
			first.merge(peer)
			continue
		}
		peer.dropDefaultName()
		merged[peer.PublicKey] = peer
		order = append(order, peer)
	}
	p.giveToLast(order)
	p.nameApart(order)
	for _, peer := range order {
		p.file.Peers = append(p.file.Peers, peer.Peer)
	}
}

func (p *parser) checkMTU() {
	f := &p.file
	p.line = p.mtuLine
	defer func() { p.line = 0 }()
	switch {
	case f.MTU == 0:
	case f.MTU < minMTU || f.MTU > maxMTU:
		p.fault("MTU", "%d is out of range (%d to %d)", f.MTU, minMTU, maxMTU)
	case f.MTU < minMTUIPv6 && slices.ContainsFunc(f.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() }):
		p.fault("MTU", "%d is too small for an IPv6 address: IPv6 needs %d", f.MTU, minMTUIPv6)
	}
}

// merge adds a second section of the same peer, as `wg addconf` does.
func (p *peerState) merge(more *peerState) {
	if !more.PresharedKey.IsZero() {
		p.PresharedKey = more.PresharedKey
	}
	if more.Endpoint.Host != "" {
		p.Endpoint = more.Endpoint
	}
	if more.Keepalive != 0 {
		p.Keepalive = more.Keepalive
	}
	if more.nameRank > p.nameRank {
		p.Name, p.nameRank = more.Name, more.nameRank
	}
	for _, a := range more.AllowedIPs {
		if !slices.Contains(p.AllowedIPs, a) {
			p.AllowedIPs = append(p.AllowedIPs, a)
		}
		p.prefixPos[a] = more.prefixPos[a]
	}
}

// giveToLast leaves an allowed IP that several peers have to the last one in the file, as WireGuard
// does.
func (p *parser) giveToLast(peers []*peerState) {
	owner := make(map[netip.Prefix]*peerState)
	for _, peer := range peers {
		for _, a := range peer.AllowedIPs {
			if before := owner[a]; before == nil || before.prefixPos[a] <= peer.prefixPos[a] {
				owner[a] = peer
			}
		}
	}
	for _, peer := range peers {
		peer.AllowedIPs = slices.DeleteFunc(peer.AllowedIPs, func(a netip.Prefix) bool {
			last := owner[a]
			if last == peer {
				return false
			}
			p.line = peer.prefixPos[a]
			p.note("AllowedIPs", "%s is also at the peer in line %d, the last one, and WireGuard gives it to that: left out here", a, last.line)
			return true
		})
	}
}

// nameApart puts a number behind a name that another peer has.
func (p *parser) nameApart(peers []*peerState) {
	taken := make(map[string]bool)
	for _, peer := range peers {
		taken[peer.Name] = true
	}
	seen := make(map[string]bool)
	for _, peer := range peers {
		if peer.Name != "" && seen[peer.Name] {
			for n := 2; taken[peer.Name]; n++ {
				if name := peer.Name + "-" + strconv.Itoa(n); !taken[name] {
					peer.Name = name
				}
			}
			taken[peer.Name] = true
		}
		seen[peer.Name] = true
	}
}
