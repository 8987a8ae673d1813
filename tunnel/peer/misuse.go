package peer

import (
	"net/netip"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Bounds on what a peer sends that it should not, before status says so: single packets are late,
// or stray.
const (
	// staleAfter is the age of a session from which on nothing that was sent under the one before
	// can still be under way.
	staleAfter = 2 * time.Second
	// repeats is how often something has to be seen, and repeatsEvery the time that has to lie
	// between two sightings of a packet that is no member of a burst.
	repeats      = 3
	repeatsEvery = time.Second
	// repeatsWithin is the longest time between two sightings that belong together, and for how
	// long the last is shown.
	repeatsWithin = 10 * time.Second
)

// twin is a host that goes on to use a session of a peer although another host, at another address,
// has replaced it by a newer one: two hosts have the key. It does not change.
type twin struct {
	addr, other netip.AddrPort
	at          boottime.Time // when it was last seen
}

// noteStale is called for the newest message of a session that is not the current one, which has
// been heard. A host that has a newer session uses it, wherever it moves.
func (p *Peer) noteStale(cur, kp *Keypair, from netip.AddrPort, now boottime.Time) {
	ep := p.endpoint.Load()
	if cur.crossed || now.Sub(cur.Established) < staleAfter || ep == nil || ep.Addr == from {
		return
	}
	if kp.stale.Add(1) < repeats {
		return
	}
	i := p.incident()
	if last := i.twin.Load(); last == nil || now.Sub(last.at) >= repeatsEvery {
		i.twin.Store(&twin{from, ep.Addr, now})
	}
}

// foreignSource is a source address of packets from a peer that is none of its allowed IPs. It does
// not change.
type foreignSource struct {
	addr netip.Addr
	at   boottime.Time
	seen int // how often in a row; sightings within repeatsEvery are one
}

// DropForeign counts a packet of the peer that is dropped because its source does not belong to the
// peer. It reports, at most once a second, that the peer goes on to send such packets. Lanes call
// it.
func (p *Peer) DropForeign(src netip.Addr, now boottime.Time) (goesOn bool) {
	p.CountDrop(drop.ForeignSource, 1)
	if !src.IsGlobalUnicast() {
		return false // a host speaks from such an address without being asked to
	}
	seen, i := 1, p.incident()
	if last := i.foreign.Load(); last != nil {
		switch pause := now.Sub(last.at); {
		case pause < repeatsEvery:
			return false
		case pause < repeatsWithin:
			seen += last.seen
		}
	}
	i.foreign.Store(&foreignSource{src, now, seen})
	return seen >= repeats
}

// ForeignSource returns the source address of packets of the peer that are dropped because it does
// not belong to the peer, and when the last came, if there have been several lately.
func (p *Peer) ForeignSource(now boottime.Time) (src netip.Addr, at boottime.Time, ok bool) {
	i := p.incidents.Load()
	if i == nil {
		return src, 0, false
	}
	f := i.foreign.Load()
	if f == nil || f.seen < repeats || now.Sub(f.at) >= repeatsWithin {
		return src, 0, false
	}
	return f.addr, f.at, true
}

// foreignWords says that packets of the peer are dropped for their source, or returns "".
func (p *Peer) foreignWords(now boottime.Time) string {
	if src, _, ok := p.ForeignSource(now); ok {
		return "packets from " + src.String() + " are dropped: the address is not among the allowed_ips of this peer here"
	}
	return ""
}

// RefusalShown is how long it is shown that the peer drops packets of ours, after it has said so.
const RefusalShown = 12 * time.Second

// refusal is what the peer has said that it drops of ours. It does not change.
type refusal struct {
	addr netip.Addr // the source
	at   boottime.Time
}

// NoteRefusal notes that the peer has said that it drops our packets from an address, because it is
// not among what this host may send from there.
func (p *Peer) NoteRefusal(src netip.Addr, now boottime.Time) {
	p.incident().refusal.Store(&refusal{src, now})
}

// refusalWords says that the peer drops packets of ours, or returns "".
func (p *Peer) refusalWords(now boottime.Time) string {
	i := p.incidents.Load()
	if i == nil {
		return ""
	}
	r := i.refusal.Load()
	if r == nil || now.Sub(r.at) >= RefusalShown {
		return ""
	}
	return "the peer drops our packets from " + r.addr.String() + ": the address is not among the allowed_ips of this host there"
}

// sharedKey returns a text saying that two hosts have the peer's key, or "" if nothing suggests it.
// Callers hold mu.
func (p *Peer) sharedKey(now boottime.Time) string {
	past := p.known()
	if words := past.callers.words(now); words != "" {
		return words
	}
	if i := p.incidents.Load(); i != nil {
		if t := i.twin.Load(); t != nil && now.Sub(t.at) < repeatsWithin {
			return sharedWords(t.addr, t.other)
		}
	}
	return ""
}
