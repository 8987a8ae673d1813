package lane

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// A route or an allowed IP that covers a peer's endpoint leads our own datagrams back to us: each
// would be encrypted again, sent, and read again, larger every time, and fragmentation doubles the
// number of datagrams in the loop. The kernel's WireGuard stops that by the depth of its call
// stack, whereas we only see packets that come from the device. Therefore the destination of any
// packet from the device that is a datagram of ours is remembered, and such a datagram is not sent
// to a peer whose own endpoint has recently come back. A tunnel inside a tunnel, with one peer
// reached through another, thereby works one level deep, and loops end.

// RouteLoops remembers the destinations of our own datagrams that came back from a device. Each
// cell holds 40 bits of a hash and the second; the index is taken from other bits of the hash.
// Cells overwrite one another, in which case a loop continues for one more round. It is safe for
// concurrent use.
type RouteLoops struct {
	seed  maphash.Seed
	cells [256]atomic.Uint64
	local atomic.Pointer[map[netip.Addr]bool] // addresses of this host; nil: not known yet
}

// secondMask are the bits of a cell that hold the second.
const secondMask = 1<<24 - 1

// NewRouteLoops returns an empty memory.
func NewRouteLoops() *RouteLoops { return &RouteLoops{seed: maphash.MakeSeed()} }

// SetLocal sets the addresses of this host, by which its datagrams are told from those of hosts
// behind it. Until it is called, any address may be ours.
func (e *RouteLoops) SetLocal(addrs []netip.Addr) {
	set := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		set[a.Unmap().WithZone("")] = true
	}
	e.local.Store(&set)
}

// ours reports whether src may be an address of this host.
func (e *RouteLoops) ours(src netip.Addr) bool {
	local := e.local.Load()
	return local == nil || (*local)[src]
}

func (e *RouteLoops) at(addr netip.AddrPort) (*atomic.Uint64, uint64) {
	h := maphash.Comparable(e.seed, addr)
	return &e.cells[h%uint64(len(e.cells))], h &^ secondMask
}

func (e *RouteLoops) add(addr netip.AddrPort, now boottime.Time) {
	cell, hash := e.at(addr)
	cell.Store(hash | uint64(now)/uint64(time.Second)&secondMask)
}

func (e *RouteLoops) has(addr netip.AddrPort, now boottime.Time) bool {
	cell, hash := e.at(addr)
	v := cell.Load()
	age := (uint64(now)/uint64(time.Second) - v) & secondMask
	return v != 0 && v&^secondMask == hash && age < uint64(peer.LoopMemory/time.Second)
}

// refuseLoops removes from o.to the peers to which our own datagrams must not be sent through the
// tunnel again.
func (o *SendLoop) refuseLoops(p *Outgoing) {
	src, dst, ok := ownDatagram(o.lane.Conn().Port(), p.IP)
	if !ok || !o.env.Routes.ours(src) {
		return
	}
	o.env.Routes.add(dst, p.Now)
	kept := o.to[:0]
	for _, r := range o.to {
		ep := r.Peer.Endpoint()
		if ep != nil && o.env.Routes.has(netip.AddrPortFrom(ep.Addr.Addr().WithZone(""), ep.Addr.Port()), p.Now) {
			o.dropFor(r.Peer, drop.RoutingLoop, uint64(p.Segments))
			o.env.Log.RoutingLoop(r.Peer, p.Now)
			o.captureLost(r.Peer, drop.RoutingLoop)
			continue
		}
		kept = append(kept, r)
	}
	o.to = kept
}

// ownDatagram returns addresses and ports of an IP packet that carries a UDP datagram from the
// given port whose payload begins like a WireGuard message.
func ownDatagram(port uint16, ip []byte) (src netip.Addr, dst netip.AddrPort, ok bool) {
	var to netip.Addr
	var udp []byte
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4 && ip[9] == 17 && ip[6]&0x1f == 0 && ip[7] == 0:
		udp = ip[min(len(ip), int(ip[0]&15)*4):]
		src, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case len(ip) >= 40 && ip[0]>>4 == 6 && ip[6] == 17:
		udp = ip[40:]
		src, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	default:
		return src, dst, false
	}
	if len(udp) < 12 || binary.BigEndian.Uint16(udp) != port || udp[8] == 0 || udp[8] > 4 || udp[9]|udp[10]|udp[11] != 0 {
		return src, dst, false
	}
	return src, netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:])), true
}
