package l2

import (
	"net/netip"
	"sync"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Neighbour suppression: the switch learns which host has which IP address from ARP and neighbour
// discovery, so that a request from our LAN need not cross the tunnel if the answer is known.
//
// The table must never do worse than flooding, neither when hosts change nor when they lie.
//
//   - Only the request for a host that has itself shown within bindingSure that it has the address
//     (in ARP, in neighbour discovery, or as the source of its traffic), and whose MAC is behind a
//     peer that is up, is not flooded. It goes to that peer alone, as it is, and the host answers
//     for itself. An address that was handed to another host at the same site is thus found there
//     at once. If the host does not answer within twice the time that hosts of this peer took
//     before, the request goes to the other peers as well.
//   - An address changes hands in silence: the request for a host that has said nothing for longer
//     is flooded. So is the first request for each binding, because whoever spoke first may not be
//     the one who has the address, and the second of an asker within retryGap, which got no answer.
//   - A peer that gets no broadcasts (NoBUM) gets no requests either. For its hosts the switch
//     answers, if they have shown their address within bindingFresh. Each of these answers is
//     verified: the owner is asked, by unicast, whether it still has the address. If it is silent,
//     the binding is removed and the request is flooded after all on behalf of the asker
//     (askAgain). So the switch answers for a dead host at most once, and a replacement host is
//     found a second later. A neighbour solicitation is answered only if an advertisement was seen,
//     since only that says whether the host is a router.
//   - Only genuine requests are kept back, not probes for duplicate addresses or announcements, and
//     not those of a host whose own address has just moved to another MAC: its request is what
//     informs the others.
//   - Unicast requests of our own hosts to a neighbour, by which they check that it is reachable,
//     start the same verification.
//   - Another MAC that uses the address, even as a source of traffic or in a probe for duplicates,
//     claims the binding, as MACs are claimed in claim.go. From then on, and until contestTime
//     after the last claim, all requests are flooded, so that every host answers for itself. The
//     old owner is asked. If it answers, the binding stays; if it is silent until claimWait, the
//     binding goes to the other MAC. Either way, the switch answers for the binding again only
//     after that MAC, and no other, has replied to a flooded request.
//
// A request for a host on our own LAN is not sent to the peers if the host was heard within the
// last few seconds, since it will answer itself.
const (
	// Seconds since a remote host's MAC was last seen, within which we may answer for it.
	heardRemote = 60
	// The same for a local host, within which we do not forward the request.
	heardLocal   = 10
	bindingFresh = 60 * time.Second // since the host last showed that it has the address
	// The same, within which it is not in doubt. A host that talks to us shows it every second.
	bindingSure  = 2 * time.Second
	bindingLife  = 600 // seconds for which an unconfirmed binding is kept
	contestTime  = 30 * time.Second
	changeTime   = 60 * time.Second // for which requests of a host with a new MAC are flooded
	retryGap     = 3                // seconds
	maxNeighbors = 4096
	// One peer cannot fill the table; allows a few addresses for each of its MACs.
	maxPortHosts = 1024
)

type neighborKey struct {
	vid uint16
	ip  [16]byte // IPv4 as ::ffff:a.b.c.d
}

type binding struct {
	mac       MAC
	port      PortID // port at which it was last seen
	confirmed boottime.Time
	changed   boottime.Time // when the address moved here from another MAC; 0: it did not
	contested boottime.Time // no answers are given from it before this time
	doubt     bool          // was contested: needs a flooded request before it is used again
	flooded   boottime.Time // while in doubt: when a request was flooded
	tested    bool          // a request was flooded since the binding is known
	asked     boottime.Time // when the pending question to the owner was asked; 0: none
	proof     boottime.Time // what the owner says from this time on answers the question
	direct    bool          // the question is the request of a host; only ARP or ND answers it
	rival     MAC           // the MAC that claims the address
	rivalPort PortID
	answered  uint32 // second of the last answer, or of the last request not forwarded
	asker     MAC    // the host that received it
	advert    bool   // learned from a neighbour advertisement
	router    bool   // the advertisement said that it is a router
}

type neighbors struct {
	// Guards everything below; taken for ARP and neighbour discovery, and once a second per source.
	mu        sync.Mutex
	table     map[neighborKey]binding
	perPort   map[PortID]int
	questions []question
	delays    map[PortID]time.Duration // see tookTo
	changes   changes[NeighborChange]
}

func newNeighbors() *neighbors {
	return &neighbors{
		table: make(map[neighborKey]binding), perPort: make(map[PortID]int), delays: make(map[PortID]time.Duration),
	}
}

// observe records what message m, which arrived at port from the MAC src, says. It reports whether
// a question to an owner has to be sent soon.
func (t *neighbors) observe(now boottime.Time, port PortID, vid uint16, src MAC, m *neighborMessage) (wake bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case m.probe:
		key := neighborKey{vid, m.target}
		if b, known := t.table[key]; known && b.mac != src {
			wake = t.claim(now, key, &b, 0, port)
		}
		return wake
	case m.check && port == LocalPort:
		key := neighborKey{vid, m.target}
		if b, known := t.table[key]; known && b.asked == 0 && b.port != LocalPort {
			wake = t.askOwner(now, now, key, &b, question{wait: claimWait})
		}
	}
	if m.mac == 0 {
		return wake
	}
	key := neighborKey{vid, m.ip}
	old, known := t.table[key]
	switch {
	case !known:
		if len(t.table) < maxNeighbors && t.perPort[port] < maxPortHosts {
			t.perPort[port]++
			b := binding{mac: m.mac, port: port, confirmed: now, advert: m.advert, router: m.router}
			t.table[key] = b
			t.changed(NeighborLearned, key, &b, 0)
		}
		return wake
	case old.mac != m.mac:
		return t.claim(now, key, &old, m.mac, port) || wake
	}
	if m.advert {
		old.advert, old.router = true, m.router
	}
	t.perPort[old.port]--
	t.perPort[port]++
	old.port = port
	t.confirm(now, key, &old, true)
	return wake
}

// confirm records that the host of binding b has shown its address; said: in ARP or neighbour
// discovery.
func (t *neighbors) confirm(now boottime.Time, key neighborKey, b *binding, said bool) {
	b.confirmed = now
	if b.asked != 0 && !now.Before(b.proof) && (said || !b.direct) {
		if b.direct {
			t.tookTo(b.port, now.Sub(b.asked))
		}
		if b.rival != 0 {
			t.changed(NeighborDisputed, key, b, b.rival)
		}
		b.asked, b.rival = 0, 0
	}
	t.table[key] = *b
}

// witness records that the MAC src, at port, sent a packet from the address ip.
func (t *neighbors) witness(now boottime.Time, port PortID, vid uint16, src MAC, ip [16]byte) (wake bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := neighborKey{vid, ip}
	b, known := t.table[key]
	switch {
	case !known:
		return false
	case b.mac != src:
		return t.claim(now, key, &b, 0, port)
	}
	t.confirm(now, key, &b, false)
	return false
}

// claim records that a MAC other than that of b uses the address. rival is 0 if the message does
// not assign the address to that MAC for good.
func (t *neighbors) claim(now boottime.Time, key neighborKey, b *binding, rival MAC, port PortID) (wake bool) {
	disputed := now.Before(b.contested) && b.asked == 0 // the owner has already answered
	b.contested, b.doubt, b.flooded = now.Add(contestTime), true, 0
	if rival != 0 && !disputed {
		b.rival, b.rivalPort = rival, port
	}
	t.table[key] = *b
	if disputed || b.asked != 0 {
		return false
	}
	return t.askOwner(now, now.Add(claimGrace), key, b, question{wait: claimWait})
}

// whereabouts is what the forwarding database knows of the host that has a binding.
type whereabouts struct {
	heard bool // recently enough
	local bool // on our LAN
	mute  bool // behind a peer that gets no broadcasts
}

// ask looks up the answer to m, a request in VLAN vid by asker. find tells where the host with a
// MAC is. Unless ok is set in the result, the request must be flooded.
func (t *neighbors) ask(now boottime.Time, vid uint16, asker MAC, m *neighborMessage, find func(MAC) whereabouts) (a answer) {
	key := neighborKey{vid, m.target}
	t.mu.Lock()
	b, ok := t.table[key]
	self, known := t.table[neighborKey{vid, m.ip}]
	t.mu.Unlock()
	news := known && (self.mac != asker || self.changed != 0 && now.Sub(self.changed) < changeTime)
	if !ok || m.v6 && !b.advert || news {
		return a
	}
	// Takes the lock of the forwarding database, so it is called without ours.
	at := find(b.mac)
	t.mu.Lock()
	defer t.mu.Unlock()
	cur, known := t.table[key]
	if !at.heard || !known || cur.mac != b.mac || !t.answerable(now, key, &cur) {
		return a
	}
	sec := second(now)
	if cur.asker == asker && since(sec, cur.answered) < retryGap {
		if cur.asked == 0 {
			a.wake = t.askOwner(now, now.Add(claimGrace), key, &cur, question{wait: claimWait})
		}
		return a
	}
	if !at.local && !at.mute {
		return t.direct(now, key, &cur, question{asker: asker, askerIP: m.ip, v6: m.v6})
	}
	cur.asker, cur.answered = asker, sec
	t.table[key] = cur
	a = answer{mac: cur.mac, router: cur.router, local: at.local, ok: true}
	if !at.local && cur.asked == 0 {
		q := question{wait: answerWait, asker: asker, askerIP: m.ip, v6: m.v6}
		a.wake = t.askOwner(now, now.Add(claimGrace), key, &cur, q)
	}
	return a
}

// direct has request q sent only to the peer of the host that has the address, if that is sure and
// a flooded request has tested the binding. Otherwise q is flooded, and is the test.
func (t *neighbors) direct(now boottime.Time, key neighborKey, b *binding, q question) (a answer) {
	switch {
	case !b.tested || now.Sub(b.confirmed) > bindingSure:
		b.tested = true
		t.table[key] = *b
		return a
	case b.asked != 0:
		return a
	}
	b.asker, b.answered = q.asker, second(now)
	q.wait, q.early, q.sent = claimWait, t.patience(b.port), true
	a.wake = t.askOwner(now, now, key, b, q)
	a.ok, a.direct, a.mac = b.asked == now, true, b.mac
	return a
}

// answer is the result of looking up a request.
type answer struct {
	ok     bool // the request need not be flooded
	direct bool // it is sent to the peer of the target alone
	local  bool // the target is on our LAN and will answer itself
	mac    MAC
	router bool
	wake   bool
}

// answerable reports whether b is reliable enough to answer from it.
func (t *neighbors) answerable(now boottime.Time, key neighborKey, b *binding) bool {
	if now.Before(b.contested) || now.Sub(b.confirmed) > bindingFresh {
		return false
	}
	if !b.doubt {
		return true
	}
	if b.flooded != 0 && now.Sub(b.flooded) >= answerWait && !b.confirmed.Before(b.flooded) {
		b.doubt, b.flooded = false, 0
		t.table[key] = *b
		return true
	}
	if b.flooded == 0 || now.Sub(b.flooded) >= answerWait {
		b.flooded = now
		t.table[key] = *b
	}
	return false
}

// age removes bindings that have not been confirmed for bindingLife.
func (t *neighbors) age(now boottime.Time) {
	t.purge(func(b *binding) bool { return now.Sub(b.confirmed) > bindingLife*time.Second })
}

// flush removes the bindings learned at port.
func (t *neighbors) flush(port PortID) {
	t.purge(func(b *binding) bool { return b.port == port })
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.delays, port)
}

func (t *neighbors) purge(gone func(*binding) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, b := range t.table {
		if gone(&b) {
			t.forget(key, &b)
		}
	}
}

func (t *neighbors) forget(key neighborKey, b *binding) {
	delete(t.table, key)
	t.perPort[b.port]--
	t.changed(NeighborGone, key, b, 0)
}

// hostAddr is an address of a host, whether an advertisement was seen for it, and whether that said
// that the host is a router.
type hostAddr struct {
	netip.Addr
	advert, router bool
}

// addresses returns the IP addresses of each host, by the key of its MAC.
func (t *neighbors) addresses() map[uint64][]hostAddr {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[uint64][]hostAddr, len(t.table))
	for key, b := range t.table {
		at := entryKey(key.vid, b.mac)
		out[at] = append(out[at], hostAddr{netip.AddrFrom16(key.ip).Unmap(), b.advert, b.router})
	}
	return out
}

// answer answers the request in v.neigh if it can, and reports whether the request need not be
// flooded.
func (s *Switch) answer(f *frameInfo, v *Verdict) bool {
	sec := second(f.now)
	find := func(mac MAC) (at whereabouts) {
		e, slot, known := s.fdb.find(entryKey(f.vid, mac))
		if !known || e&flagClaimed != 0 {
			return at
		}
		age := since(sec, s.fdb.seenAt(slot))
		if at.local = e.port() == LocalPort; at.local {
			at.heard = age <= heardLocal
			return at
		}
		p := f.view.port(e.port())
		at.heard = age <= heardRemote && p != nil && p.ready && !p.cfg.NoSuppression &&
			(p.blocked == nil || !p.blocked.has(f.vid))
		at.mute = at.heard && p.cfg.NoBUM
		return at
	}
	a := s.hosts.ask(f.now, f.vid, f.h.Src, &v.neigh, find)
	if a.ok && a.direct {
		if e, _, known := s.fdb.find(entryKey(f.vid, a.mac)); !known || f.sendTo(e.port(), v) != drop.None {
			a.ok = false // nobody is asked: flood it
		}
	}
	if a.ok && !a.local && !a.direct {
		v.Reply = appendAnswer(v.buf[:0], f.p.Frame, &f.h, &v.neigh, a.mac, a.router)
	}
	v.Wake = v.Wake || a.wake
	switch {
	case !a.ok:
		s.suppression.flooded.Add(1)
	case a.local:
		s.suppression.local.Add(1)
	default:
		s.suppression.answered.Add(1)
	}
	return a.ok
}
