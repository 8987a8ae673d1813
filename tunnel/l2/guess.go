package l2

import "slices"

// Addresses of hosts that have not said theirs.
//
// A host whose MAC is claimed can be asked whether it is still there only if an IP address of it is
// known (claim.go). Most hosts say theirs in ARP or neighbour discovery. One that was there before
// the switch, or whose neighbours are configured, may not do so for hours, but it sends packets,
// and their source is an address of its own unless it is a router. So a host that has been heard in
// two different seconds is asked for the source of its packet, as in a challenge. Its answer is
// what makes the address known; a guess alone has no effect. Then the host moves as fast as any
// other, and keeps its MAC although it is silent when somebody else uses it.
//
// A router that is asked for the addresses of hosts behind it does not answer. It is asked for
// maxGuesses of them. Addresses that routers share (virtual.go) are not asked: the router that lost
// an election still has an address of its own, and may answer for it under the address that it
// lost.

const (
	maxGuesses = 3 // for each entry of the forwarding database
	// Between two ticks, for all entries together, so that neither a LAN that comes to life nor
	// invented addresses cause a burst. Others are asked for when their hosts are heard again.
	maxGuessed = 16
)

// guess has the next Tick ask for the source address of the packet in f, which is the first from
// its MAC in this second.
func (s *Switch) guess(f *frameInfo) {
	if f.h.nested() || virtualMAC(f.h.Src) {
		return
	}
	b := f.p.Frame[f.h.Payload:]
	switch {
	case f.h.EtherType == typeIPv4 && len(b) >= ipv4MinHeader && b[0]>>4 == 4:
		if first := b[12]; first != 0 && first != 127 && first < 224 {
			s.fdb.guess(entryKey(f.vid, f.h.Src), b[12:16])
		}
	case f.h.EtherType == typeIPv6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		if first := b[8]; first != 0 && first != 0xff {
			s.fdb.guess(entryKey(f.vid, f.h.Src), b[8:24])
		}
	}
}

// guess notes that the host with key, if it is known, may have the address addr of 4 or 16 bytes.
func (t *fdb) guess(key uint64, addr []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, slot, ok := t.findLocked(key)
	if !ok || v&flagNamed != 0 || len(t.guesses) >= maxGuessed {
		return
	}
	c := &t.cold[slot]
	if c.guesses++; c.guesses >= maxGuesses {
		t.setValue(slot, v|flagNamed)
	}
	g := challenge{key: key, port: v.port()}
	g.len = uint8(copy(g.host[:], addr))
	t.guesses = append(t.guesses, g)
}

// askGuesses asks the hosts whose addresses were guessed since it was last called.
func (s *Switch) askGuesses() {
	t := s.fdb
	t.mu.Lock()
	list := slices.Clone(t.guesses)
	t.guesses = t.guesses[:0]
	t.mu.Unlock()
	for i := range list {
		s.challenge(&list[i])
	}
}
