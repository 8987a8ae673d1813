package l2

import "tund/internal/boottime"

// Where a host was last, after its entry aged out.
//
// A host that is silent for longer than the ageing time is no longer in the forwarding database,
// but it is not gone: a server that only talks to its own LAN may not be heard at the TAP for
// hours. If a peer then shows its MAC, by a frame or in an announcement, the MAC must not simply be
// believed to be new. So the table remembers for homeLife where an aged MAC lived and which
// address it had. The first sight of it at another peer's port restores the entry where it was, as
// one that is claimed (see claim.go): the host is asked there, and only its silence lets the MAC
// move. Frames to an aged MAC are flooded as ever; nothing is forwarded on the strength of memory.
//
// What is remembered is bounded by what the port may have learned. Of that, MACs that were seen in
// one second only, as invented ones are, take no more than half.
type home struct {
	port    PortID
	seen    uint32 // second
	weak    bool   // was never seen in a second second
	hostLen uint8
	host    [16]byte
}

const homeLife = 24 * 3600 // seconds: longer than hosts that still live there keep silent

// remember keeps where the entry in slot, which ages out now, lives. mu is held.
func (t *fdb) remember(slot int32) {
	v, c := t.value(slot), &t.cold[slot]
	h := home{v.port(), t.seenAt(slot), t.seenAt(slot) <= c.created, c.hostLen, c.host}
	p := t.port(h.port)
	if p.homes >= p.limit || h.weak && p.weakHomes >= p.limit/2 || len(t.homes) >= t.maximum {
		return
	}
	key := t.keyAt(slot)
	t.forgetHome(key)
	t.homes[key] = h
	p.homes++
	if h.weak {
		p.weakHomes++
	}
}

func (t *fdb) forgetHome(key uint64) {
	h, ok := t.homes[key]
	if !ok {
		return
	}
	delete(t.homes, key)
	p := t.port(h.port)
	p.homes--
	if h.weak {
		p.weakHomes--
	}
}

// forgetHomes forgets what gone selects, and with sec not 0 what is too old. mu is held.
func (t *fdb) forgetHomes(sec uint32, gone func(*Entry) bool) {
	for key, h := range t.homes {
		e := Entry{MAC: keyMAC(key), VLAN: keyVID(key), Port: h.port, Kind: KindLearned}
		if h.port == LocalPort {
			e.Kind = KindLocal
		}
		if sec != 0 && since(sec, h.seen) > homeLife || gone != nil && gone(&e) {
			t.forgetHome(key)
		}
	}
}

// restore puts key, which is not in the table and was seen at port, back to where it was last, if
// that is known and is elsewhere. A MAC seen at the TAP lives there: the LAN is ours. mu is held.
func (t *fdb) restore(key uint64, port PortID) (slot int32, ok bool) {
	h, known := t.homes[key]
	if !known {
		return -1, false
	}
	t.forgetHome(key)
	if port == LocalPort || port == h.port {
		return -1, false
	}
	if slot = t.insert(key, h.port, h.seen, 0); slot < 0 {
		return -1, false
	}
	c := &t.cold[slot]
	c.host, c.hostLen = h.host, h.hostLen
	return slot, true
}

// age removes what was not seen for the ageing time and thaws what was frozen long enough, in an eighth of the
// table per call: a bound on how long mu is held.
func (t *fdb) age(now boottime.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sec := second(now)
	for range (t.mask + 8) / 8 {
		n := t.scan & t.mask
		t.scan++
		if n == 0 {
			t.forgetHomes(sec, nil)
		}
		b := &t.buckets[n]
		for w := range b.keys {
			if b.keys[w].Load() == 0 {
				continue
			}
			slot := int32(n)*ways + int32(w)
			v := entryValue(b.vals[w].Load())
			if v&flagFrozen != 0 && sec >= t.cold[slot].frozenUntil {
				t.setValue(slot, v&^flagFrozen)
				t.cold[slot].moves = 0
			}
			if v&(flagStatic|flagFrozen|flagClaimed) == 0 && since(sec, b.seen[w].Load()) > t.ageSecs {
				t.remember(slot)
				t.remove(slot)
			}
		}
	}
}

// second returns the second of boottime in which now lies: the grain of ages in the table.
func second(now boottime.Time) uint32 { return uint32(int64(now) / 1e9) }

// since returns the seconds from then to sec; 0 when another lane's clock reading was a little ahead of ours.
func since(sec, then uint32) uint32 {
	if then >= sec {
		return 0
	}
	return sec - then
}
