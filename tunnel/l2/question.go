package l2

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Questions about bindings: whether the host that is believed to have an address still has it.

const (
	// answerWait is how long after an answer of ours the asker's question is flooded if that answer
	// was wrong. Linux ignores a further ARP reply within a second of the first (locktime in
	// net/ipv4/arp.c).
	answerWait = 1200 * time.Millisecond

	// After a request has gone to the peer of its target alone: how long to wait for the answer
	// before it goes to all, at least, and as long as it is not known how long the answers of that
	// peer's hosts take. A host needs a millisecond; the rest is for the scheduler, and the path.
	leastPatience = 30 * time.Millisecond
	firstPatience = 100 * time.Millisecond

	// maxQuestions bounds the number of pending questions, and thereby what one tick sends.
	maxQuestions = 512
)

// question is a pending question to the owner of a binding.
type question struct {
	key     neighborKey
	at      boottime.Time
	wait    time.Duration // after which silence counts as an answer
	early   time.Duration // after which the request goes to all nevertheless; 0: not before
	sent    bool
	v6      bool
	asker   MAC // the host that our answer was given to; 0: none
	askerIP [16]byte
}

// askOwner starts question q about b, for which none is pending. Anything the owner says at or
// after proof answers it. If too many questions are pending, the binding is discarded: flooding
// works without one.
func (t *neighbors) askOwner(now, proof boottime.Time, key neighborKey, b *binding, q question) (wake bool) {
	if len(t.questions) >= maxQuestions {
		t.forget(key, b)
		return false
	}
	b.asked, b.proof, b.direct = now, proof, q.early != 0
	t.table[key] = *b
	q.key, q.at = key, now
	t.questions = append(t.questions, q)
	return true
}

// tookTo records how long a host behind the port took to answer a request. The longest time counts,
// and fades by an eighth with each answer.
func (t *neighbors) tookTo(port PortID, took time.Duration) {
	known := t.delays[port]
	t.delays[port] = max(took, known-(known-took)/8)
}

// patience returns how long a request that has gone to the peer at the port alone waits for the
// answer before it goes to all.
func (t *neighbors) patience(port PortID) time.Duration {
	known, ok := t.delays[port]
	if !ok {
		return firstPatience
	}
	return min(max(2*known, leastPatience), claimWait)
}

// dueQuestions returns the owners to be asked now, the questions that have to be flooded after all,
// and when to call it again (0: no question is pending). The caller owns both slices.
func (t *neighbors) dueQuestions(now boottime.Time) (ask []challenge, again []question, next boottime.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := t.questions[:0]
	for _, q := range t.questions {
		b, known := t.table[q.key]
		pending := known && b.asked == q.at
		if !pending && (q.asker == 0 || q.early != 0 && known) {
			continue
		}
		due := q.at.Add(q.wait)
		if early := q.at.Add(q.early); q.early != 0 {
			if now.Before(early) {
				due = early
			} else {
				again = append(again, q)
				q.early, q.asker = 0, 0
			}
		}
		if !now.Before(due) {
			if q.asker != 0 && (!known || pending || !b.tested) {
				again = append(again, q)
			}
			t.settle(now, q.key, &b, known, pending)
			continue
		}
		if grace := q.at.Add(claimGrace); pending && !q.sent {
			if now.Before(grace) {
				due = grace
			} else {
				q.sent = true
				ask = append(ask, newChallenge(q.key, &b))
			}
		}
		if next == 0 || due.Before(next) {
			next = due
		}
		keep = append(keep, q)
	}
	t.questions = keep
	return ask, again, next
}

// settle ends a question whose time is up: if the owner did not answer, the binding is given to the
// host that claimed it, or discarded.
func (t *neighbors) settle(now boottime.Time, key neighborKey, b *binding, known, pending bool) {
	switch {
	case !known:
	case !pending:
		b.tested = true
		t.table[key] = *b
	case b.rival == 0 || t.perPort[b.rivalPort] >= maxPortHosts:
		t.forget(key, b)
	default:
		t.perPort[b.port]--
		t.perPort[b.rivalPort]++
		is := binding{mac: b.rival, port: b.rivalPort, confirmed: now, changed: now, doubt: true}
		t.table[key] = is
		t.changed(NeighborMoved, key, &is, b.mac)
	}
}

func newChallenge(key neighborKey, b *binding) challenge {
	c := challenge{key: entryKey(key.vid, b.mac), port: b.port}
	if [12]byte(key.ip[:12]) == [12]byte{10: 0xff, 11: 0xff} {
		c.len = uint8(copy(c.host[:], key.ip[12:]))
	} else {
		c.len = uint8(copy(c.host[:], key.ip[:]))
	}
	return c
}

// settleQuestions sends what is due for questions about bindings, and returns when the next is due.
func (s *Switch) settleQuestions(now boottime.Time) boottime.Time {
	ask, again, next := s.hosts.dueQuestions(now)
	for i := range ask {
		if v, _, ok := s.fdb.find(ask[i].key); ok {
			ask[i].port = v.port()
		}
		s.challenge(&ask[i])
	}
	for i := range again {
		s.askAgain(&again[i])
	}
	return next
}

// askAgain floods to all peers a question that we answered wrongly, or for the first time, or that
// has gone to one peer alone and found no answer. It does not if the asker may have moved in the
// meantime, because a frame with its source MAC would claim that MAC for our LAN.
func (s *Switch) askAgain(q *question) {
	v, _, ok := s.fdb.find(entryKey(q.key.vid, q.asker))
	if !ok || v.port() != LocalPort || v&flagClaimed != 0 {
		return
	}
	s.suppression.again.Add(1)
	for _, p := range s.view.Load().peers {
		tagged, ok := p.vlans.egress(q.key.vid)
		if !ok || p.cfg.NoBUM || p.blocked != nil && p.blocked.has(q.key.vid) {
			continue
		}
		b := make([]byte, FrameHeaderLen, 128)
		if q.v6 {
			to := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff} // solicited-node, RFC 4291 §2.7.1
			copy(to[13:], q.key.ip[13:])
			b = appendHeader(b, multicastMAC6(to[:]), q.asker, q.key.vid, tagged, typeIPv6)
			b = appendND(b, icmp6NeighborSolicit, 0, q.askerIP, to, q.key.ip, q.asker)
		} else {
			b = appendHeader(b, Broadcast, q.asker, q.key.vid, tagged, typeARP)
			b = appendARP(b, 1, q.asker, q.askerIP[12:], 0, q.key.ip[12:])
		}
		PutFrameHeader(b, 0, len(b)-FrameHeaderLen)
		s.mu.Lock()
		s.toPeer(p.id, b)
		s.mu.Unlock()
	}
}

// witness takes the source address of the packet in f, which is the first from its MAC in this
// second, as evidence of who has that address.
func (s *Switch) witness(f *frameInfo) (wake bool) {
	if !f.view.suppresses(f.vid) {
		return false
	}
	b := f.p.Frame[f.h.Payload:]
	switch {
	case f.h.EtherType == typeIPv4 && len(b) >= ipv4MinHeader && b[0]>>4 == 4:
		return s.hosts.witness(f.now, f.in.id, f.vid, f.h.Src, mapped4(b[12:]))
	case f.h.EtherType == typeIPv6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		return s.hosts.witness(f.now, f.in.id, f.vid, f.h.Src, [16]byte(b[8:24]))
	}
	return false
}

// suppressionCounts counts what became of ARP requests and neighbour solicitations of our LAN.
type suppressionCounts struct{ answered, local, flooded, again atomic.Uint64 }

// Suppression says what neighbour suppression has saved: counts of broadcast requests of our LAN,
// since the start.
type Suppression struct {
	// Sent to the peer of the host alone, or answered on behalf of a host whose peer gets no
	// broadcasts.
	Answered uint64
	Local    uint64 // not sent to the peers, because the host is on our LAN and answers itself
	Flooded  uint64 // sent to all peers
	// Sent to all peers after they had been answered, because the answer had to be verified or was
	// wrong. They are among Answered.
	Again uint64
}

// Suppression returns what neighbour suppression has saved so far.
func (s *Switch) Suppression() Suppression {
	c := &s.suppression
	return Suppression{c.answered.Load(), c.local.Load(), c.flooded.Load(), c.again.Load()}
}
