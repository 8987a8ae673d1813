package l2

import (
	"encoding/binary"
	"sync"

	"tund/internal/boottime"
)

// ARP and neighbour discovery: who has which address, learned from what hosts say, so that a question from our
// LAN need not cross the tunnel when the answer is known.
//
// The table never makes things worse than flooding. It answers only for a host whose MAC lives behind a peer
// that is up and was heard in the last minute; only a question that is a question (no probe for a duplicate
// address, no announcement); not twice within retryGap, because someone who asks again did not like the answer;
// and not for an address that two MACs claim, until one has been quiet for contestTime. A neighbour solicitation is
// answered only from an advertisement, which alone says whether the host is a router. A question for a host on
// our own LAN is not sent to the peers when the host was heard in the last seconds: it will answer itself.
const (
	heardRemote  = 60  // seconds since a remote host's MAC was seen, for us to answer in its name
	heardLocal   = 10  // the same for a local host, for us to keep the question at home
	bindingLife  = 600 // seconds a binding is kept without being confirmed
	contestTime  = 30  // seconds
	retryGap     = 3   // seconds
	maxNeighbors = 4096
	maxPortHosts = 1024 // one peer cannot fill the table: a few addresses for each of its MACs
)

type neighborKey struct {
	vid uint16
	ip  [16]byte // IPv4 as ::ffff:a.b.c.d
}

type binding struct {
	mac       MAC
	port      PortID // behind which it was last said; for the bound per port only
	confirmed uint32 // second
	contested uint32 // second until which nobody is answered for
	answered  uint32 // second of the last answer, or question kept at home
	asker     MAC    // who got it
	advert    bool   // learned from a neighbour advertisement
	router    bool   // which said that it is a router
}

type neighbors struct {
	mu      sync.Mutex // guards all below; taken for ARP and neighbour discovery only
	table   map[neighborKey]binding
	perPort map[PortID]int
}

func newNeighbors() *neighbors {
	return &neighbors{table: make(map[neighborKey]binding), perPort: make(map[PortID]int)}
}

// neighborMessage is what an ARP packet or a neighbour solicitation or advertisement says.
type neighborMessage struct {
	v6     bool
	ask    bool     // a question for target that wants an answer
	mac    MAC      // of the host it binds; 0: none
	ip     [16]byte // of that host
	target [16]byte // of the question
	advert bool
	router bool
}

func mapped4(b []byte) (ip [16]byte) {
	ip[10], ip[11] = 0xff, 0xff
	copy(ip[12:], b[:4])
	return ip
}

// parseNeighbor reads ARP or neighbour discovery from the frame with header h, and reports whether it was one.
// A binding is taken only when the sender inside the packet is the sender of the frame.
func parseNeighbor(frame []byte, h *Header, m *neighborMessage) bool {
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeARP:
		return parseARP(b, h, m)
	case typeIPv6:
		if len(b) < ipv6Header || b[6] != protoICMPv6 || b[7] != 255 {
			return false // RFC 4861 §7.1: a hop limit of 255 shows that no router was passed; no extension headers in practice
		}
		return parseND(b, h, m)
	}
	return false
}

// parseARP reads RFC 826 for Ethernet and IPv4.
func parseARP(b []byte, h *Header, m *neighborMessage) bool {
	if len(b) < 28 || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_06_04 {
		return false
	}
	op := binary.BigEndian.Uint16(b[6:])
	if op != 1 && op != 2 {
		return false
	}
	sender, target := binary.BigEndian.Uint32(b[14:]), binary.BigEndian.Uint32(b[24:])
	if MACFromBytes(b[8:]) == h.Src && sender != 0 && sender>>28 != 0xe {
		m.mac, m.ip = h.Src, mapped4(b[14:])
	}
	m.ask = op == 1 && sender != 0 && sender != target && h.Dst.Group()
	m.target = mapped4(b[24:])
	return true
}

// parseND reads RFC 4861 §4.3 and §4.4. b is an IPv6 packet whose next header is ICMPv6.
func parseND(b []byte, h *Header, m *neighborMessage) bool {
	icmp := trim(b, ipv6Header+int(binary.BigEndian.Uint16(b[4:])))[ipv6Header:]
	if len(icmp) < 24 || icmp[1] != 0 {
		return false
	}
	m.v6 = true
	var option byte
	switch icmp[0] {
	case icmp6NeighborSolicit:
		copy(m.target[:], icmp[8:])
		m.ask = [16]byte(b[8:24]) != [16]byte{} && h.Dst.Group()
		m.ip = [16]byte(b[8:24])
		option = 1
	case icmp6NeighborAdvert:
		m.ip = [16]byte(icmp[8:24])
		m.advert, m.router = true, icmp[4]&0x80 != 0
		option = 2
	default:
		return false
	}
	if linkLayerOption(icmp[24:], option) == h.Src && m.ip != [16]byte{} && m.ip[0] != 0xff {
		m.mac = h.Src
	}
	return true
}

// linkLayerOption returns the MAC in the first option of kind in a list of RFC 4861 §4.6; 0 without one.
func linkLayerOption(b []byte, kind byte) MAC {
	for len(b) >= 8 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return 0
		}
		if b[0] == kind && n == 8 {
			return MACFromBytes(b[2:])
		}
		b = b[n:]
	}
	return 0
}

// observe notes the binding in m, which came in at port.
func (t *neighbors) observe(now boottime.Time, port PortID, vid uint16, m *neighborMessage) {
	if m.mac == 0 {
		return
	}
	sec := second(now)
	key := neighborKey{vid, m.ip}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.table[key]
	if !known && (len(t.table) >= maxNeighbors || t.perPort[port] >= maxPortHosts) {
		return
	}
	b := binding{mac: m.mac, port: port, confirmed: sec, advert: m.advert, router: m.router}
	if known && old.mac == m.mac {
		b.contested, b.answered, b.asker = old.contested, old.answered, old.asker
		if !m.advert {
			b.advert, b.router = old.advert, old.router
		}
	} else if known && since(sec, old.confirmed) < contestTime {
		b.contested = sec + contestTime
	}
	if known {
		t.perPort[old.port]--
	}
	t.perPort[port]++
	t.table[key] = b
}

// ask returns the MAC to answer with for m, a question in VLAN vid by asker. heard says for a MAC whether its
// host was heard recently enough, and whether it is local. answer is false when the question must be flooded;
// local when the host will answer by itself and nothing need be done.
func (t *neighbors) ask(now boottime.Time, vid uint16, asker MAC, m *neighborMessage,
	heard func(MAC) (local, ok bool)) (mac MAC, router, local, answer bool) {
	sec := second(now)
	key := neighborKey{vid, m.target}
	t.mu.Lock()
	b, ok := t.table[key]
	t.mu.Unlock()
	if !ok || b.contested > sec || m.v6 && !b.advert || since(sec, b.confirmed) > bindingLife {
		return 0, false, false, false
	}
	if b.asker == asker && since(sec, b.answered) < retryGap {
		return 0, false, false, false
	}
	if local, ok = heard(b.mac); !ok {
		return 0, false, false, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if cur, ok := t.table[key]; ok && cur.mac == b.mac {
		cur.asker, cur.answered = asker, sec
		t.table[key] = cur
	}
	return b.mac, b.router, local, true
}

// age forgets bindings that were not confirmed.
func (t *neighbors) age(now boottime.Time) {
	sec := second(now)
	t.purge(func(b *binding) bool { return since(sec, b.confirmed) > bindingLife })
}

// flush forgets what was learned at port.
func (t *neighbors) flush(port PortID) { t.purge(func(b *binding) bool { return b.port == port }) }

func (t *neighbors) purge(gone func(*binding) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, b := range t.table {
		if gone(&b) {
			delete(t.table, key)
			t.perPort[b.port]--
		}
	}
}

const (
	arpLen      = 28
	neighborLen = 32 // NS or NA with one link-layer address option
)

// appendTagged appends an Ethernet header to b: dst, src, the tags of like (a frame with header h), etherType.
func appendTagged(b []byte, dst, src MAC, like []byte, h *Header, etherType uint16) []byte {
	b = append(b, make([]byte, 12)...)
	dst.Put(b[len(b)-12:])
	src.Put(b[len(b)-6:])
	b = append(b, like[12:12+tagLen*h.Tags]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// appendARP appends an ARP packet: op 1 (request) or 2 (reply).
func appendARP(b []byte, op uint16, sender MAC, senderIP []byte, target MAC, targetIP []byte) []byte {
	b = append(b, 0, 1, 8, 0, 6, 4, byte(op>>8), byte(op))
	b = append(b, make([]byte, 6)...)
	sender.Put(b[len(b)-6:])
	b = append(b, senderIP[:4]...)
	b = append(b, make([]byte, 6)...)
	target.Put(b[len(b)-6:])
	return append(b, targetIP[:4]...)
}

// appendND appends an IPv6 packet with a neighbour solicitation or advertisement that carries mac. flags is the
// advertisement's fifth byte.
func appendND(b []byte, kind, flags byte, src, dst, target [16]byte, mac MAC) []byte {
	start := len(b)
	b = append(b, 0x60, 0, 0, 0, 0, neighborLen, protoICMPv6, 255)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	option := byte(1)
	if kind == icmp6NeighborAdvert {
		option = 2
	}
	b = append(b, option, 1, 0, 0, 0, 0, 0, 0)
	mac.Put(b[len(b)-6:])
	icmp := b[start+ipv6Header:]
	binary.BigEndian.PutUint16(icmp[2:], checksumICMPv6(b[start:], icmp))
	return b
}

// appendAnswer appends to b the reply, in the name of mac, to the question m in frame with header h.
func appendAnswer(b []byte, frame []byte, h *Header, m *neighborMessage, mac MAC, router bool) []byte {
	question := frame[h.Payload:]
	if !m.v6 {
		b = appendTagged(b, h.Src, mac, frame, h, typeARP)
		return appendARP(b, 2, mac, m.target[12:], h.Src, question[14:18])
	}
	b = appendTagged(b, h.Src, mac, frame, h, typeIPv6)
	flags := byte(0x60) // solicited, override
	if router {
		flags |= 0x80
	}
	return appendND(b, icmp6NeighborAdvert, flags, m.target, [16]byte(question[8:24]), m.target, mac)
}
