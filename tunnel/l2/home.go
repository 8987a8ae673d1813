package l2

import (
	"sync/atomic"

	"tund/internal/boottime"
)

// home remembers where a host was last seen, after its entry has aged out.
//
// A host that is silent for longer than the ageing time is no longer in the forwarding database,
// but it is not gone: a server that talks only to hosts on its own LAN may not be heard at the TAP
// for hours. If a peer then presents its MAC, in a frame or in an announcement, the switch must not
// simply believe that the MAC is new. So for homeLife the table remembers where an aged-out MAC was
// and which IP address it had. When the MAC first appears at another peer's port, its entry is
// restored at the old port with a claim pending (see claim.go): the host is asked for there, and
// the MAC moves only if it stays silent.
//
// Frames to an aged-out MAC are flooded as usual, within the storm limit of unknown unicast. What
// exceeds the limit is not dropped but goes to the port where the MAC was last: a host that only
// receives, such as a collector of logs or a screen that shows a video, does not lose the rest of
// its stream because it never says anything.
//
// A port may have no more remembered MACs than learned ones. At most half of them may be MACs that
// were seen within a single second only, as invented ones are.
type home struct {
	port    PortID
	seen    uint32 // second
	weak    bool   // seen within a single second only
	hostLen uint8
	host    [16]byte
}

const homeLife = 24 * 3600 // seconds; hosts that are still there are not silent for longer

// remember records where the entry in slot is, which is about to age out. mu is held.
func (t *fdb) remember(slot int32) {
	v, c := t.value(slot), &t.cold[slot]
	h := home{v.port(), t.seenAt(slot), t.seenAt(slot) <= c.created, c.hostLen, c.host}
	p := t.port(h.port)
	if p.homes >= p.limit || h.weak && p.weakHomes >= p.limit/2 || len(t.homes) >= t.maximum {
		return
	}
	key := t.keyAt(slot)
	t.keepHome(key, h)
}

// keepHome records where a MAC was. mu is held.
func (t *fdb) keepHome(key uint64, h home) {
	t.forgetHome(key)
	t.homes[key] = h
	t.hintAt(key).Store(t.hint(key, h.port))
	p := t.port(h.port)
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
	t.hintAt(key).CompareAndSwap(t.hint(key, h.port), 0)
	p := t.port(h.port)
	p.homes--
	if h.weak {
		p.weakHomes--
	}
}

// hintPort masks the port in an element of hints.
const hintPort = uint64(MaxPortID)

// hints tells the packet path, which takes no lock, where aged-out MACs were. It has one word for
// each value of some bits of the hash, with the other bits and the port: of two MACs with the same
// place, it has the one that aged out last. Two MACs with the same hash may be confused, which
// costs a frame that would otherwise have been dropped.

func (t *fdb) hintAt(key uint64) *atomic.Uint64 {
	return &t.hints[t.hash(key)&uint64(len(t.hints)-1)]
}

func (t *fdb) hint(key uint64, port PortID) uint64 {
	return (t.hash(key)|1<<63)&^hintPort | uint64(port)
}

// lastPort returns the port where key, which has aged out, was last. It takes no lock.
func (t *fdb) lastPort(key uint64) (PortID, bool) {
	v := t.hintAt(key).Load()
	port := PortID(v & hintPort)
	return port, v != 0 && v == t.hint(key, port)
}

// forgetHomes discards the records that gone selects and, if sec is not 0, those that are too old.
// mu is held.
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

// restore re-creates the entry of key, which is not in the table and was seen at port, where it was
// last, if that is known and is another port. A MAC seen at the TAP lives there, because the LAN is
// ours. mu is held.
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
	t.name(slot, h.host[:h.hostLen])
	return slot, true
}

// age removes entries that were not seen for the ageing time and unfreezes those whose time is up.
// Each call covers an eighth of the table, to bound how long mu is held.
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
			if v&(flagStatic|flagFrozen|flagClaimed|flagStation) == 0 && since(sec, b.seen[w].Load()) > t.ageSecs {
				t.remember(slot)
				t.remove(slot)
			}
		}
	}
}

// second returns now in whole seconds of boottime, the resolution of ages in the table.
func second(now boottime.Time) uint32 { return uint32(int64(now) / 1e9) }

// since returns the seconds from then to sec, or 0 if another lane's clock reading was slightly
// ahead of ours.
func since(sec, then uint32) uint32 {
	if then >= sec {
		return 0
	}
	return sec - then
}
