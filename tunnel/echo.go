package tunnel

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/offload"
)

// A route or an allowed IP that covers a peer's endpoint leads our own datagrams back to us: each would be sealed again,
// sent, read again, larger every time, and fragments double what goes round. The kernel's WireGuard stops that by the
// depth of its call stack; we see only packets that come from the device. So whatever comes from there and is a
// datagram of ours is remembered by its destination, and is not sent to a peer whose own endpoint has come back so
// lately. A tunnel inside a tunnel, one peer reached through another, thereby works one level deep, and rings end.

// echoAge is how long a destination is remembered. A loop that has been repaired is forgotten after it.
const echoAge = 10 * time.Second

// echoes remembers destinations of our own datagrams that came back from a device. Each slot holds 40 bits of a hash and
// the second; the index is taken from other bits of the hash. Slots overwrite one another: then a loop turns once
// more.
type echoes struct {
	seed  maphash.Seed
	slots [256]atomic.Uint64
}

const echoSecond = 1<<24 - 1

func (e *echoes) init() { e.seed = maphash.MakeSeed() }

func (e *echoes) at(addr netip.AddrPort) (*atomic.Uint64, uint64) {
	h := maphash.Comparable(e.seed, addr)
	return &e.slots[h%uint64(len(e.slots))], h &^ echoSecond
}

func (e *echoes) add(addr netip.AddrPort, now boottime.Time) {
	slot, hash := e.at(addr)
	slot.Store(hash | uint64(now)/uint64(time.Second)&echoSecond)
}

func (e *echoes) has(addr netip.AddrPort, now boottime.Time) bool {
	slot, hash := e.at(addr)
	v := slot.Load()
	age := (uint64(now)/uint64(time.Second) - v) & echoSecond
	return v != 0 && v&^echoSecond == hash && age < uint64(echoAge/time.Second)
}

// SetLocalAddresses tells the tunnel which addresses this host has, by which it knows its own datagrams from those of
// hosts behind it. Until it is told, any address may be ours. It keeps addrs.
func (t *Tunnel) SetLocalAddresses(addrs []netip.Addr) {
	set := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		set[a.Unmap().WithZone("")] = true
	}
	t.local.Store(&set)
}

// refuseEchoes removes from o.to the peers to which a datagram of ours must not go through the tunnel again.
func (o *outbound) refuseEchoes(p *outgoing) {
	src, dst, ok := datagramFrom(o.lane.binding.Load().conn.Port(), p.packet, o.dev.link)
	if !ok {
		return
	}
	if local := o.t.local.Load(); local != nil && !(*local)[src] {
		return
	}
	o.t.echoes.add(dst, p.now)
	kept := o.to[:0]
	for _, r := range o.to {
		ep := r.peer.endpoint.Load()
		if ep != nil && o.t.echoes.has(netip.AddrPortFrom(ep.Addr.Addr().WithZone(""), ep.Addr.Port()), p.now) {
			o.drop(drop.RoutingLoop, uint64(p.count))
			o.t.explain.routingLoop(r.peer, p.now)
			continue
		}
		kept = append(kept, r)
	}
	o.to = kept
}

// datagramFrom reads addresses and ports of a frame that carries a UDP datagram from the given port whose payload
// begins like a WireGuard message.
func datagramFrom(port uint16, frame []byte, link offload.Link) (src netip.Addr, dst netip.AddrPort, ok bool) {
	ip := frame
	if link == offload.Ethernet {
		ip = afterMACs(frame)
	}
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

// afterMACs returns what follows the Ethernet header of a frame and up to two VLAN tags.
func afterMACs(frame []byte) []byte {
	at := 12
	for range 2 {
		if len(frame) >= at+2 && (frame[at] == 0x81 && frame[at+1] == 0 || frame[at] == 0x88 && frame[at+1] == 0xa8) {
			at += 4
		}
	}
	return frame[min(len(frame), at+2):]
}

// loopText is what is said of a peer whose datagrams come back.
func loopText(ep netip.AddrPort) string {
	return "datagrams to " + ep.String() + " come back to us: a route or an allowed IP leads the peer's endpoint into the tunnel itself"
}

// routingLoop is called by lanes. It says so at most once a second, and people hear it once a minute.
func (e *explainer) routingLoop(p *Peer, now boottime.Time) {
	last := p.loopedAt.Load()
	if last != 0 && now.Sub(boottime.Time(last)) < time.Second || !p.loopedAt.CompareAndSwap(last, int64(now)) {
		return
	}
	e.later(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if ep := p.endpoint.Load(); ep != nil {
			e.peerEvent(p, now, loopText(ep.Addr))
		}
	})
}

// looped reports whether the peer's datagrams came back lately.
func (p *Peer) looped(now boottime.Time) bool {
	at := boottime.Time(p.loopedAt.Load())
	return at != 0 && now.Sub(at) < echoAge
}

// PeerEndpoint is where a peer is, and who would carry a packet there.
type PeerEndpoint struct {
	Name string
	Addr netip.AddrPort
	Via  string // name of the peer with the longest allowed IP that covers Addr; "": none does
}

// Endpoints lists the endpoints that are known, in order of configuration.
func (t *Tunnel) Endpoints() []PeerEndpoint {
	t.peersMu.RLock()
	order := t.order
	t.peersMu.RUnlock()
	name := func(p *Peer) string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.display()
	}
	var list []PeerEndpoint
	for _, p := range order {
		ep := p.endpoint.Load()
		if ep == nil {
			continue
		}
		e := PeerEndpoint{Name: name(p), Addr: ep.Addr}
		if owner, ok := t.routes.Lookup(ep.Addr.Addr().WithZone("")); ok {
			e.Via = name(owner)
		}
		list = append(list, e)
	}
	return list
}
