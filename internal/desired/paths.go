package desired

import (
	"iter"
	"net/netip"

	"tund/config"
	"tund/internal/resolve"
	"tund/route"
	"tund/tunnel"
)

// maxPaths bounds the endpoints whose path MTU is looked up one by one: each look-up is a request
// to the kernel.
const maxPaths = 4096

// Paths is what the kernel knows about the paths to the peers.
type Paths struct {
	// The smallest MTU of the interfaces and routes to configured endpoints, in bytes.
	Least int
	// The same, or less where every path to a known endpoint has been found to be narrower: what
	// the MTU of a TUN device is made of. Where only some are, their peers' packets are treated one
	// by one, so that a peer that lies about its path slows nobody else down.
	Device int
	// Of interface and route to each endpoint, configured or not, in bytes.
	MTU map[netip.Addr]int
}

// StandIns are looked up if no peer has a known endpoint, because the peers connect to us. They
// take the default route: IPv4's dummy address (RFC 7600), and one of the range for documentation
// (RFC 3849) that no network in a laboratory is likely to have.
var StandIns = []netip.Addr{
	netip.AddrFrom4([4]byte{192, 0, 0, 8}),
	netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, 0x5c, 0x3d, 0x71, 15: 1}),
}

// pathLookup queries the kernel for path MTUs.
type pathLookup struct {
	routes *route.Manager
	mark   uint32 // of our datagrams
	Paths
}

// add looks up the path to an endpoint, and reports whether it can be reached now.
func (l *pathLookup) add(addr netip.Addr) (mtu int, ok bool) {
	if mtu, ok = l.MTU[addr]; ok {
		return mtu, true
	}
	mtu, err := l.routes.PathMTU([]netip.Addr{addr}, l.mark)
	if err != nil {
		return 0, false
	}
	l.MTU[addr] = mtu
	return mtu, true
}

// addConfigured looks up the path to a configured endpoint. An endpoint that cannot be reached now
// does not count.
func (l *pathLookup) addConfigured(addr netip.Addr) {
	if mtu, ok := l.add(addr); ok && (l.Least == 0 || mtu < l.Least) {
		l.Least = mtu
	}
}

// LookUpPaths looks up the paths to the configured endpoints of peers, as far as names has resolved
// them, and to those at which they are now; now is nil while there are none.
func LookUpPaths(m *route.Manager, names *resolve.Resolver, peers []*config.Peer, now iter.Seq[tunnel.PeerEndpoint], mark uint32) Paths {
	l := &pathLookup{routes: m, mark: mark, Paths: Paths{MTU: make(map[netip.Addr]int)}}
	l.addAllConfigured(names, peers)
	widest := 0
	if now == nil {
		now = func(func(tunnel.PeerEndpoint) bool) {}
	}
	for e := range now {
		mtu := l.Least
		if len(l.MTU) < maxPaths {
			if own, ok := l.add(e.Addr.Addr()); ok {
				mtu = own
			}
		}
		if e.PathMTU != 0 {
			mtu = min(mtu, e.PathMTU)
		}
		widest = max(widest, mtu)
	}
	l.Device = l.Least
	if widest != 0 {
		l.Device = min(l.Least, widest)
	}
	return l.Paths
}

func (l *pathLookup) addAllConfigured(names *resolve.Resolver, peers []*config.Peer) {
	for _, peer := range peers {
		if len(l.MTU) >= maxPaths {
			break
		}
		for _, e := range names.Endpoints(*peer) {
			l.addConfigured(e.Addr())
		}
	}
	if l.Least == 0 {
		for _, addr := range StandIns {
			l.addConfigured(addr)
		}
	}
	if l.Least == 0 {
		l.Least = defaultPath
	}
}
