package l2

import (
	"bytes"
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
// and has the address either way. Messages that the owner may discard decide nothing: those with a
// password or a wrong checksum, and those of CARP, which are signed.

// advert is what a router says in a VRRP advertisement.
type advert struct {
	at       boottime.Time
	port     PortID // where it came from
	priority uint8  // 0: it resigns
	from     [16]byte
}

const (
	// Masters that are remembered: 255 groups of each family in 8 VLANs.
	maxMasters   = 4096
	masterLife   = 5 * time.Minute // after the last message; VRRP's longest interval is 255 s
	vrrpHeader   = 8
	vrrpPassword = 8    // authentication data of version 2, present in any case
	vrrp2, vrrp3 = 2, 3 // versions
	vrrpAdvert   = 1    // the only type
)

// parseAdvert parses a VRRP advertisement from a shared address.
func parseAdvert(frame []byte, h *Header) (a advert, ok bool) {
	if !election(frame, h) {
		return a, false
	}
	b := frame[h.Payload:]
	s := segmentOf(b, h.EtherType)
	if s.proto != protoVRRP || s.end-s.off < vrrpHeader {
		return a, false
	}
	msg := b[s.off:s.end]
	size, addresses := 4, b[12:20]
	copy(a.from[:], b[12:16])
	if h.EtherType == typeIPv6 {
		size, addresses = 16, b[8:40]
		copy(a.from[:], b[8:24])
	}
	a.priority = msg[2]
	length := vrrpHeader + size*int(msg[3])
	if msg[0]&0xf != vrrpAdvert {
		return a, false
	}
	switch msg[0] >> 4 {
	case vrrp2:
		ok = h.EtherType == typeIPv4 && msg[4] == 0 && len(msg) == length+vrrpPassword && checksum(msg, 0) == 0xffff
	case vrrp3:
		pseudo := uint32(checksum(addresses, 0)) + uint32(len(msg)) + protoVRRP
		ok = len(msg) == length && checksum(msg, pseudo) == 0xffff
	}
	return a, ok
}

// beats reports whether the sender of b steps down, or has, when it hears a.
func (a *advert) beats(b *advert) bool {
	switch {
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
	a, ok := parseAdvert(f.p.Frame, &f.h)
	if !ok {
		return s.fdb.learn(key, f.in.id, f.now)
	}
	a.at, a.port = f.now, f.in.id
	s.mu.Lock()
	master, known := s.masters[key]
	s.mu.Unlock()
	var o outcome
	if known && master.port != a.port && a.beats(&master) {
		o = s.fdb.concede(key, master.port, a.port, f.now)
	} else {
		o = s.fdb.learn(key, f.in.id, f.now)
	}
	if o.reason == drop.None {
		s.noteMaster(key, a)
	}
	return o
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
	return t.move(slot, v, to, now)
}
