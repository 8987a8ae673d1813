// Package desired computes what an instance wants from its configuration: the state of the kernel,
// the peers of the tunnel and the changes that lead to them, the switch, the ciphers, the number of
// lanes and the MTU of its devices.
//
// It asks the kernel where it has to (the MTU of paths, the devices that exist) and changes nothing
// but memory that it has made: internal/daemon hands the results to the tunnel and to the kernel.
// Its functions keep no state and are safe for concurrent use; they do not change the
// configurations they are given, and parts of these are shared with what they return.
package desired

import (
	"net/netip"

	"tund/config"
	"tund/internal/sizes"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/datasession"
	"tund/tunnel/l2"
	"tund/tunnel/peer"
)

// Endpoints returns the addresses of a peer as configured, as far as its names are resolved
// (resolve.Resolver.Endpoints).
type Endpoints = func(config.Peer) []netip.AddrPort

// defaultPath is the path MTU assumed if nothing is known.
const defaultPath = route.DefaultPathMTU

// State is the wanted state of the kernel for a configuration, and for allowed IPs of peers
// that are not in it, once the devices exist.
func State(c *config.Config, further []netip.Prefix, tunMTU, tapMTU int) route.State {
	s := route.State{FwMark: c.Tunnel.FwMark}
	if c.Tun != nil {
		s.LocalNetworks = route.LocalNetworks(c.Tun.LocalNetworks)
		if c.Tun.Guard == config.GuardOff {
			s.Guard = route.GuardOff
		}
		s.Forward = c.Tun.Forward
		if c.Tun.Masquerade {
			s.Masquerade = c.Tun.Device
		}
		d := route.Device{Name: c.Tun.Device, Addrs: c.Tun.Addresses, MTU: tunMTU, Up: true}
		if c.Tun.Routes {
			var allowed []netip.Prefix
			for _, p := range c.Peers {
				allowed = append(allowed, p.AllowedIPs...)
			}
			d.Routes = Routes(c, append(allowed, further...))
		}
		s.Devices = append(s.Devices, d)
	}
	if c.Tap != nil {
		s.Devices = append(s.Devices, route.Device{
			Name: c.Tap.Device, Addrs: c.Tap.Addresses, MTU: tapMTU, Up: true, Bridge: c.Tap.Bridge,
		})
	}
	return s
}

// TunMTU is the MTU of the TUN device: as configured, or what the smallest MTU of a path to a known
// endpoint leaves, in bytes.
func TunMTU(c *config.Config, path int) int {
	if c.Tun == nil {
		return 0
	}
	if c.Tun.MTU != 0 {
		return c.Tun.MTU
	}
	return max(path-sizes.Overhead, sizes.MinIPv6MTU)
}

// Peers is the change that makes the tunnel's peers those of c, whatever they were before.
func Peers(c *config.Config, endpoints Endpoints) tunnel.Change {
	key := c.Tunnel.PrivateKey
	change := tunnel.Change{PrivateKey: &key, PreviousKey: c.Tunnel.PreviousKey, CallPeers: true, ReplacePeers: true,
		Peers: make([]tunnel.PeerChange, 0, len(c.Peers))}
	shared := SharedPrefixes(c)
	for i := range c.Peers {
		change.Peers = append(change.Peers, Peer(&c.Peers[i], shared, endpoints))
	}
	return change
}

// Peer is the change that makes a peer of the tunnel what p says, whatever it was before. Of
// its allowed IPs, those in shared are also allowed IPs of other peers.
func Peer(p *config.Peer, shared map[netip.Prefix]bool, endpoints Endpoints) tunnel.PeerChange {
	name, psk, keepalive, port := p.Name, p.PresharedKey, p.Keepalive, Port(*p)
	extensions, priority, liveness, pq := extensionMode(*p), int(p.Priority), p.Liveness, postQuantum[p.PostQuantum]
	pc := tunnel.PeerChange{
		PublicKey: p.PublicKey, Name: &name, PresharedKey: &psk, Endpoints: endpoints(*p), Keepalive: &keepalive,
		ReplaceAllowedIPs: true, AllowedIPs: p.AllowedIPs, Priority: &priority, Ethernet: &port,
		Extensions: &extensions, Liveness: &liveness, PostQuantum: &pq,
	}
	if len(shared) > 0 {
		pc.AllowedIPs = nil
		for _, a := range p.AllowedIPs {
			if shared[a] {
				pc.SharedIPs = append(pc.SharedIPs, a)
			} else {
				pc.AllowedIPs = append(pc.AllowedIPs, a)
			}
		}
	}
	return pc
}

// AgentPeer is Peer for a peer of an agent, whose allowed IPs other peers of the agent may have as
// well.
func AgentPeer(p *config.Peer, endpoints Endpoints) tunnel.PeerChange {
	pc := Peer(p, nil, endpoints)
	pc.AllowedIPs, pc.SharedIPs = nil, pc.AllowedIPs
	return pc
}

// SharedPrefixes returns the allowed IPs that several peers have.
func SharedPrefixes(c *config.Config) map[netip.Prefix]bool {
	seen := make(map[netip.Prefix]bool)
	shared := make(map[netip.Prefix]bool)
	for i := range c.Peers {
		for _, a := range c.Peers[i].AllowedIPs {
			if seen[a] {
				shared[a] = true
			}
			seen[a] = true
		}
	}
	return shared
}

// Port is a peer from the point of view of the switch.
func Port(p config.Peer) l2.PortConfig {
	c := l2.PortConfig{
		Name: p.Name, Ethernet: p.Ethernet, MaxMACs: int(p.MaxMACs), VLANs: p.VLANs, PVID: p.PVID,
		TrustDHCP: p.TrustDHCP, TrustRA: p.TrustRA, Isolated: p.Isolated, NoBUM: p.NoBUM, NoSuppression: p.NoSuppression,
		PublicKey: [32]byte(p.PublicKey), Node: SwitchNode(p.PublicKey),
		BroadcastLimit: int(p.BroadcastLimit), MulticastLimit: int(p.MulticastLimit), UnknownLimit: int(p.UnknownUnicastLimit),
	}
	for _, m := range p.MACs {
		c.MACs = append(c.MACs, l2.MACFromBytes(m[:]))
	}
	return c
}

// extensionMode says whether a peer is asked for extensions. A peer that carries frames, or must
// have data sessions, always is.
func extensionMode(p config.Peer) peer.ExtensionMode {
	switch {
	case p.Ethernet, p.Extensions == config.ExtensionsOn, p.PostQuantum == config.PostQuantumRequire:
		return peer.ExtensionsOn
	case p.Extensions == config.ExtensionsOff:
		return peer.ExtensionsOff
	}
	return peer.ExtensionsAuto
}

// postQuantum translates what the configuration says of data sessions.
var postQuantum = map[config.PostQuantum]datasession.PostQuantum{
	config.PostQuantumPrefer: datasession.Prefer, config.PostQuantumRequire: datasession.Require,
	config.PostQuantumOff: datasession.Off,
}

// bpduPolicies translates the policies of the configuration for the switch.
var bpduPolicies = map[config.BPDUPolicy]l2.BPDUPolicy{
	config.BPDUDrop: l2.BPDUDrop, config.BPDUForward: l2.BPDUForward, config.BPDUGuard: l2.BPDUGuard,
}

// linkProtocols translates the protocols of the configuration for the switch.
var linkProtocols = map[config.LinkProtocol]l2.LinkProtocols{
	config.LinkLLDP: l2.LinkLLDP, config.LinkEAPOL: l2.LinkEAPOL, config.LinkLACP: l2.LinkLACP,
	config.LinkCDP: l2.LinkCDP, config.LinkPTP: l2.LinkPTP, config.LinkMVRP: l2.LinkMVRP,
}

// Ethernet is the switch of a configuration, or the zero options without [tap].
func Ethernet(t *config.Tap) tunnel.EthernetOptions {
	if t == nil {
		return tunnel.EthernetOptions{}
	}
	limit := func(perSecond int) int { // 0 means "none" in the file, and "default" for the switch
		if perSecond == 0 {
			return -1
		}
		return perSecond
	}
	var transparent l2.LinkProtocols
	for _, p := range t.Transparent {
		transparent |= linkProtocols[p]
	}
	return tunnel.EthernetOptions{
		Fragment: t.Fragment, MSSClamp: t.MSSClamp,
		Switch: l2.Config{
			AgeingTime: t.Ageing, MaxEntries: t.MaxMACs, MaxPerPort: t.MaxMACsPerPeer,
			BroadcastLimit: limit(t.BroadcastLimit), MulticastLimit: limit(t.MulticastLimit),
			UnknownLimit: limit(t.UnknownUnicastLimit), Hub: t.Hub, BPDU: bpduPolicies[t.BPDU],
			NeighborSuppression: t.NeighborSuppression, UnsuppressedVLANs: t.UnsuppressedVLANs, QinQ: t.DoubleTags,
			NoSnooping: !t.Snooping, Querier: t.Querier, NoLearning: !t.Learning, Transparent: transparent,
		},
	}
}
