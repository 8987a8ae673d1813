package l2

import (
	"sync"
	"time"

	"tund/internal/boottime"
)

// ARP and neighbour discovery: who has which address, learned from what hosts say, so that a
// question from our LAN need not cross the tunnel when the answer is known.
//
// The table never makes things worse than flooding, neither when hosts change nor when they lie.
//
//   - It answers only for a host that itself showed within bindingFresh that it has the address (in
//     ARP, neighbour discovery, or as the source of its traffic), and whose MAC lives behind a peer
//     that is up. A neighbour solicitation is answered only from an advertisement, which alone says
//     whether the host is a router.
//   - It answers only a question that is a question (no probe for a duplicate address, no
//     announcement), and not twice within retryGap, because someone who asks again did not like the
//     answer. Nor does it answer a host whose own address has just gone to another MAC: its question
//     is what tells the others.
//   - Each answer is checked: the host is asked, by unicast, whether it still has the address. If it
//     keeps silent, the binding is forgotten and the question goes out after all, in the name of who
//     asked it (askAgain). So a dead host is answered for once at most, and a host that was made
//     anew is found a second later. The first answer from a binding is checked by letting the
//     question out in any case: whoever else has the address will say so.
//   - Unicast questions of our own hosts to a neighbour, which are how they see that it is alive,
//     start the same check.
//   - Another MAC that shows the address, even as the source of traffic or in a probe for
//     duplicates, claims the binding, as MACs are claimed in claim.go. From then on, and until
//     contestTime after the last claim, all questions are flooded, so that everybody answers for
//     himself. The old owner is asked. When it answers, the binding stays; when it keeps silent
//     until claimWait, the binding goes to the other. Either way it is answered for only after a
//     flooded question was answered by that MAC and by no other.
//
// A question for a host on our own LAN is not sent to the peers when the host was heard in the last
// seconds: it will answer itself.
const (
	heardRemote  = 60               // seconds since a remote host's MAC was seen, for us to answer in its name
	heardLocal   = 10               // the same for a local host, for us to keep the question at home
	bindingFresh = 60 * time.Second // since the host last showed that it has the address
	bindingLife  = 600              // seconds a binding is kept without being confirmed
	contestTime  = 30 * time.Second
	changeTime   = 60 * time.Second // for which the questions of a host with a new MAC are flooded
	retryGap     = 3                // seconds
	maxNeighbors = 4096
	maxPortHosts = 1024 // one peer cannot fill the table: a few addresses for each of its MACs
)

type neighborKey struct {
	vid uint16
	ip  [16]byte // IPv4 as ::ffff:a.b.c.d
}

type binding struct {
	mac       MAC
	port      PortID // behind which it was last said
	confirmed boottime.Time
	changed   boottime.Time // when the address came from another MAC; 0: it did not
	contested boottime.Time // until when nobody is answered for
	doubt     bool          // was contested: answered for only after a flooded question
	flooded   boottime.Time // while in doubt: when a question was flooded
	tested    bool          // a question was let out since the binding is known
	asked     boottime.Time // of the question to the owner that is pending; 0: none is
	proof     boottime.Time // what the owner says from here on answers it
	rival     MAC           // who claims the address
	rivalPort PortID
	answered  uint32 // second of the last answer, or question kept at home
	asker     MAC    // who got it
	advert    bool   // learned from a neighbour advertisement
	router    bool   // which said that it is a router
}

type neighbors struct {
	mu        sync.Mutex // guards all below; taken for ARP, neighbour discovery, and once a second for a source
	table     map[neighborKey]binding
	perPort   map[PortID]int
	questions []question
}

func newNeighbors() *neighbors {
	return &neighbors{table: make(map[neighborKey]binding), perPort: make(map[PortID]int)}
}

// observe notes what m, which came in at port from the MAC src, says. It reports whether a question
// to an owner is to be sent soon.
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
			t.table[key] = binding{mac: m.mac, port: port, confirmed: now, advert: m.advert, router: m.router}
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
	t.confirm(now, key, &old)
	return wake
}

// confirm notes that the host with b showed its address.
func (t *neighbors) confirm(now boottime.Time, key neighborKey, b *binding) {
	b.confirmed = now
	if b.asked != 0 && !now.Before(b.proof) {
		b.asked, b.rival = 0, 0
	}
	t.table[key] = *b
}

// witness notes that the MAC src, at port, sent a packet from an address.
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
	t.confirm(now, key, &b)
	return false
}

// claim notes that another MAC than b's shows the address. rival is 0 when it is not said that the
// address is that MAC's for good.
func (t *neighbors) claim(now boottime.Time, key neighborKey, b *binding, rival MAC, port PortID) (wake bool) {
	disputed := now.Before(b.contested) && b.asked == 0 // the owner has answered already
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

// ask returns the MAC to answer with for m, a question in VLAN vid by asker. heard says for a MAC
// whether its host was heard recently enough, and whether it is local. answer is false when the
// question must be flooded; local when the host will answer by itself and nothing need be done;
// wake when the answer is to be checked soon.
func (t *neighbors) ask(now boottime.Time, vid uint16, asker MAC, m *neighborMessage,
	heard func(MAC) (local, ok bool)) (a answer) {
	key := neighborKey{vid, m.target}
	t.mu.Lock()
	b, ok := t.table[key]
	self, known := t.table[neighborKey{vid, m.ip}]
	t.mu.Unlock()
	news := known && (self.mac != asker || self.changed != 0 && now.Sub(self.changed) < changeTime)
	if !ok || m.v6 && !b.advert || news {
		return a
	}
	local, ok := heard(b.mac) // takes the lock of the forwarding database, so without ours
	t.mu.Lock()
	defer t.mu.Unlock()
	cur, known := t.table[key]
	if !ok || !known || cur.mac != b.mac || !t.answerable(now, key, &cur) {
		return a
	}
	sec := second(now)
	if cur.asker == asker && since(sec, cur.answered) < retryGap {
		if cur.asked == 0 {
			a.wake = t.askOwner(now, now.Add(claimGrace), key, &cur, question{wait: claimWait})
		}
		return a
	}
	cur.asker, cur.answered = asker, sec
	t.table[key] = cur
	a = answer{mac: cur.mac, router: cur.router, local: local, ok: true}
	if !local && cur.asked == 0 {
		q := question{wait: answerWait, asker: asker, askerIP: m.ip, v6: m.v6}
		a.wake = t.askOwner(now, now.Add(claimGrace), key, &cur, q)
	}
	return a
}

// answer is what is known about a question.
type answer struct {
	ok     bool // it need not be flooded
	local  bool // the host will answer by itself
	mac    MAC
	router bool
	wake   bool
}

// answerable reports whether b is believed enough to answer from it.
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

// age forgets bindings that were not confirmed.
func (t *neighbors) age(now boottime.Time) {
	t.purge(func(b *binding) bool { return now.Sub(b.confirmed) > bindingLife*time.Second })
}

// flush forgets what was learned at port.
func (t *neighbors) flush(port PortID) { t.purge(func(b *binding) bool { return b.port == port }) }

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
}

// answer answers the question in v.neigh when it can, and reports whether the question is settled.
func (s *Switch) answer(f *frameInfo, v *Verdict) bool {
	sec := second(f.now)
	heard := func(mac MAC) (local, ok bool) {
		e, slot, known := s.fdb.find(entryKey(f.vid, mac))
		if !known || e&flagClaimed != 0 {
			return false, false
		}
		age := since(sec, s.fdb.seenAt(slot))
		if e.port() == LocalPort {
			return true, age <= heardLocal
		}
		p := f.view.port(e.port())
		return false, age <= heardRemote && p != nil && p.ready && (p.blocked == nil || !p.blocked.has(f.vid))
	}
	a := s.hosts.ask(f.now, f.vid, f.h.Src, &v.neigh, heard)
	if a.ok && !a.local {
		v.Reply = appendAnswer(v.buf[:0], f.p.Frame, &f.h, &v.neigh, a.mac, a.router)
	}
	v.Wake = v.Wake || a.wake
	return a.ok
}
