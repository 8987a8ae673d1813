package l2

import (
	"bytes"
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Which of two VRRP routers wins.
//
// Of two routers that share an address, the message of the better one makes the other step down
// (RFC 9568 §6.4.3, RFC 3768 §6.4.3), and a router that resigns says so with priority 0. The switch
// passes these messages even from where it refuses the address (virtual.go), so it can tell from
// them where the address is going to be. The address moves with the message that decides, as on a
// bridge, and not only when its former owner has been silent for some time.
//
// Nor are such addresses ever frozen: routers may change places as often as they like.
//
// What an attacker gains: whoever can send a message that wins makes the owner step down with it,
// and has the address either way. Messages that the owner discards, or does not get from us, decide
// nothing: those of another group, version or address family, those that name other addresses or,
// in version 2, another interval than the owner's, those with a password, a wrong checksum or a
// source that no router has, those of CARP, which are signed, and those between isolated ports.

// advert is what a router says in a VRRP advertisement.
type advert struct {
	at       boottime.Time
	port     PortID // where it came from
	priority uint8  // 0: it resigns
	kind     uint64 // digest of what routers of a group have in common
	from     [16]byte
}

const (
	// Masters that are remembered: 255 groups of each family in 8 VLANs.
	maxMasters   = 4096
	masterLife   = 5 * time.Minute // after the last message; VRRP's longest interval is 255 s
	vrrpHeader   = 8
	vrrpPassword = 8    // authentication data of version 2, present in any case
	vrrp2, vrrp3 = 2, 3 // versions
	// What the former owner sends within this time after a message has decided against it does not
	// bring the address back, unless it is a message that wins: it was on its way, or sent before
	// the owner knew, and the bridge of the LAN may be slow to say where it heard it.
	concedeGrace = time.Second
	vrrpAdvert   = 1 // the only type
)

// parseAdvert parses a VRRP advertisement from the address that its group shares.
func (s *Switch) parseAdvert(frame []byte, h *Header) (a advert, ok bool) {
	if !election(frame, h) {
		return a, false
	}
	b := frame[h.Payload:]
	size, addresses, group := 4, b[12:20], MAC(0x00005e0001)
	if h.EtherType == typeIPv6 {
		size, addresses, group = 16, b[8:40], 0x00005e0002
	}
	seg := segmentOf(b, h.EtherType)
	if !genuineHeader(b, h.EtherType, seg) || seg.end-seg.off < vrrpHeader {
		return a, false
	}
	msg := b[seg.off:seg.end]
	if msg[0]&0xf != vrrpAdvert || h.Src != group<<8|MAC(msg[1]) {
		return a, false
	}
	copy(a.from[:], addresses[:size])
	a.priority = msg[2]
	common := uint64(msg[0])<<24 | uint64(msg[1])<<16 | uint64(msg[3])<<8
	length := vrrpHeader + size*int(msg[3])
	switch msg[0] >> 4 {
	case vrrp2:
		common |= uint64(msg[5]) // RFC 3768 §7.1: with another interval it is discarded
		ok = h.EtherType == typeIPv4 && msg[4] == 0 && len(msg) == length+vrrpPassword && checksum(msg, 0) == 0xffff
	case vrrp3:
		pseudo := uint32(checksum(addresses, 0)) + uint32(len(msg)) + protoVRRP
		ok = len(msg) == length && checksum(msg, pseudo) == 0xffff
	}
	a.kind = s.fdb.hash(common)
	for rest := msg[vrrpHeader:]; ok && len(rest) >= 4; rest = rest[4:] {
		a.kind = s.fdb.hash(a.kind ^ uint64(binary.BigEndian.Uint32(rest)))
	}
	return a, ok
}

// genuineHeader reports whether IP packet b with segment seg has the header that routers give their
// advertisements: one that no receiver discards.
func genuineHeader(b []byte, etherType uint16, seg segment) bool {
	if etherType == typeIPv6 { // from a link-local address (RFC 9568 §5.1.2.1)
		return b[6] == protoVRRP && seg.end == ipv6Header+int(binary.BigEndian.Uint16(b[4:])) &&
			b[8] == 0xfe && b[9]&0xc0 == 0x80
	}
	source := b[12]
	return b[0] == 0x45 && b[9] == protoVRRP && seg.end == int(binary.BigEndian.Uint16(b[2:])) &&
		checksum(b[:ipv4MinHeader], 0) == 0xffff && source != 0 && source != 127 && source < 224
}

// beats reports whether the sender of b steps down, or has, when it hears a.
func (a *advert) beats(b *advert) bool {
	switch {
	case a.kind != b.kind || a.from == b.from:
		return false // discarded
	case a.priority != b.priority:
		return a.priority > b.priority
	case a.priority == 0:
		return false
	}
	return bytes.Compare(a.from[:], b.from[:]) > 0
}

// learnSource learns the source address of a frame, or refuses it.
func (s *Switch) learnSource(f *frameInfo) outcome {
	key := entryKey(f.vid, f.h.Src)
	a, ok := s.parseAdvert(f.p.Frame, &f.h)
	if !ok {
		return s.fdb.learn(key, f.in.id, f.now)
	}
	a.at, a.port = f.now, f.in.id
	s.mu.Lock()
	master, known := s.masters[key]
	s.mu.Unlock()
	var o outcome
	if known && master.port != a.port && a.beats(&master) && f.reaches(master.port) {
		o = s.fdb.concede(key, master.port, a.port, f.now)
	} else {
		o = s.fdb.learn(key, f.in.id, f.now)
	}
	if o.reason == drop.None {
		s.noteMaster(key, a)
	}
	return o
}

// reaches reports whether what is flooded from the port of the frame gets to another port. A switch
// that is no hub does not pass it from peer to peer: its sender does that itself.
func (f *frameInfo) reaches(id PortID) bool {
	if id == LocalPort || f.in.id == LocalPort || !f.view.cfg.Hub {
		return true
	}
	p := f.view.port(id)
	return p != nil && p.ready && f.hops < MaxHops && !p.cfg.NoBUM && !(p.cfg.Isolated && f.in.cfg.Isolated)
}

// noteMaster remembers what the router that has a shared address said last.
func (s *Switch) noteMaster(key uint64, a advert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.masters[key]; known || len(s.masters) < maxMasters {
		s.masters[key] = a
	}
}

// ageMasters forgets routers that have not been heard for long. mu is held.
func (s *Switch) ageMasters(now boottime.Time) {
	for key, a := range s.masters {
		if now.Sub(a.at) > masterLife {
			delete(s.masters, key)
		}
	}
}

// justConceded reports whether the entry in slot was conceded so recently that other frames of its
// former owner prove nothing. mu is held.
func (t *fdb) justConceded(slot int32, now boottime.Time) bool {
	at := t.cold[slot].conceded
	return at != 0 && now.Sub(at) < concedeGrace
}

// concede moves key from one port to another because the host at the first has lost it. If it is
// not there, or may not move, it is learned as usual.
func (t *fdb) concede(key uint64, from, to PortID, now boottime.Time) outcome {
	t.mu.Lock()
	v, slot, ok := t.findLocked(key)
	if !ok || v.port() != from || v&immovable != 0 {
		t.mu.Unlock()
		return t.learn(key, to, now)
	}
	defer t.mu.Unlock()
	t.cold[slot].conceded = 0
	if from == LocalPort {
		t.cold[slot].conceded = now
	}
	return t.move(slot, v, to, now)
}
