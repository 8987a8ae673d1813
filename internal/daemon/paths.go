package daemon

import (
	"net/netip"

	"tund/config"
	"tund/internal/resolve"
	"tund/route"
)

// maxPaths bounds the endpoints whose path MTU is looked up one by one: each look-up is a request
// to the kernel.
const maxPaths = 4096

// paths is what the kernel knows about the paths to the peers.
type paths struct {
	// The smallest MTU of the interfaces and routes to configured endpoints, in bytes.
	least int
	// The same, or less where every path to a known endpoint has been found to be narrower: what
	// the MTU of a TUN device is made of. Where only some are, their peers' packets are treated one
	// by one, so that a peer that lies about its path slows nobody else down.
	device int
	// Of interface and route to each endpoint, configured or not, in bytes.
	mtu map[netip.Addr]int
}

// standIns are looked up if no peer has a known endpoint, because the peers connect to us. They are
// documentation addresses (RFC 5737, RFC 3849), which take the default route.
var standIns = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})}

// pathLookup queries the kernel for path MTUs.
type pathLookup struct {
	routes *route.Manager
	mark   uint32 // of our datagrams
	paths
}

// add looks up the path to an endpoint, and reports whether it can be reached now.
func (l *pathLookup) add(addr netip.Addr) (mtu int, ok bool) {
	if mtu, ok = l.mtu[addr]; ok {
		return mtu, true
	}
	mtu, err := l.routes.PathMTU([]netip.Addr{addr}, l.mark)
	if err != nil {
		return 0, false
	}
	l.mtu[addr] = mtu
	return mtu, true
}

// addConfigured looks up the path to a configured endpoint. An endpoint that cannot be reached now
// does not count.
func (l *pathLookup) addConfigured(addr netip.Addr) {
	if mtu, ok := l.add(addr); ok && (l.least == 0 || mtu < l.least) {
		l.least = mtu
	}
}

// configuredPaths looks up the paths to the configured endpoints of peers, as far as names has
// resolved them.
func configuredPaths(m *route.Manager, names *resolve.Resolver, peers []*config.Peer, mark uint32) *pathLookup {
	l := &pathLookup{routes: m, mark: mark, paths: paths{mtu: make(map[netip.Addr]int)}}
	for _, peer := range peers {
		if len(l.mtu) >= maxPaths {
			break
		}
		for _, e := range names.Endpoints(*peer) {
			l.addConfigured(e.Addr())
		}
	}
	if l.least == 0 {
		for _, addr := range standIns {
			l.addConfigured(addr)
		}
	}
	if l.least == 0 {
		l.least = defaultPath
	}
	l.device = l.least
	return l
}

// lookUpPaths looks up the paths to the configured and to the present endpoints of the peers.
// Callers hold changing.
func (d *Daemon) lookUpPaths(mark uint32) paths {
	l := configuredPaths(d.routes, d.names, d.peersOf(d.config), mark)
	widest := 0
	for _, e := range d.tunnel.Endpoints() {
		mtu := l.least
		if len(l.mtu) < maxPaths {
			if own, ok := l.add(e.Addr.Addr()); ok {
				mtu = own
			}
		}
		if e.PathMTU != 0 {
			mtu = min(mtu, e.PathMTU)
		}
		widest = max(widest, mtu)
	}
	if widest != 0 {
		l.device = min(l.least, widest)
	}
	return l.paths
}
