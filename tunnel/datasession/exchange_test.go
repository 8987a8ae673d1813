package datasession

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/internal/boottime"
)

const start = boottime.Time(1_000_000_000_000)

var exporter = [keys.Size]byte{7, 7, 7}

var both = []Cost{{aead.ChaCha20Poly1305, 900}, {aead.AES256GCM, 700}}

// side is one end of the simulated network.
type side struct {
	x      *Exchange
	agreed *Agreement
	sent   int // messages, not parts
	bad    int
}

// flight is a part, or a message of a data session, under way.
type flight struct {
	at   boottime.Time
	to   int
	part []byte // nil: a message in a data session
}

// network runs an initiator (0) and a responder (1) in virtual time over a lossy path.
type network struct {
	t      *testing.T
	sides  [2]*side
	flying []flight
	now    boottime.Time
	rng    *rand.Rand
	loss   float64
	// mangle, when not nil, changes a part on its way, or drops it by returning nil.
	mangle func(to int, part []byte) [][]byte
}

func indices(first uint32, n int) (list []uint32) {
	for i := range n {
		list = append(list, first+uint32(i))
	}
	return list
}

func newNetwork(t *testing.T, initiator, responder Terms) *network {
	t.Helper()
	x, err := Offer(initiator, &exporter, indices(100, initiator.Lanes), start)
	if err != nil {
		t.Fatal(err)
	}
	y := Await(responder, &exporter, func(n int) []uint32 { return indices(200, n) })
	return &network{t: t, sides: [2]*side{{x: x}, {x: y}}, now: start, rng: rand.New(rand.NewPCG(1, 2))}
}

func (n *network) put(to int, part []byte) {
	parts := [][]byte{part}
	if n.mangle != nil && part != nil {
		parts = n.mangle(to, bytes.Clone(part))
	}
	for _, p := range parts {
		if n.rng.Float64() >= n.loss {
			delay := time.Duration(10+n.rng.IntN(40)) * time.Millisecond
			n.flying = append(n.flying, flight{n.now.Add(delay), to, p})
		}
	}
}

func (n *network) send(from int) {
	n.sides[from].sent++
	for _, part := range n.sides[from].x.Parts() {
		n.put(1-from, part)
	}
}

// run carries everything until nothing is due any more, or until limit.
func (n *network) run(limit time.Duration) {
	for {
		next := boottime.Time(0)
		for _, s := range n.sides {
			if at := s.x.Next(); at != 0 && (next == 0 || at < next) {
				next = at
			}
		}
		slices.SortStableFunc(n.flying, func(a, b flight) int { return int(a.at - b.at) })
		if len(n.flying) > 0 && (next == 0 || n.flying[0].at < next) {
			next = n.flying[0].at
		}
		if next == 0 || next > start.Add(limit) {
			return
		}
		n.now = max(n.now, next)
		for i, s := range n.sides {
			if s.x.Due(n.now) {
				n.send(i)
			}
		}
		for len(n.flying) > 0 && n.flying[0].at <= n.now {
			f := n.flying[0]
			n.flying = n.flying[1:]
			n.arrive(f)
		}
	}
}

func (n *network) arrive(f flight) {
	s := n.sides[f.to]
	var o Outcome
	switch {
	case f.part == nil:
		s.x.Confirmed()
		return
	case f.to == 0:
		o = s.x.TakeAnswer(f.part)
	default:
		o = s.x.TakeOffer(f.part, n.now)
	}
	if o.Bad {
		s.bad++
	}
	if o.Agreed != nil {
		if s.agreed != nil {
			n.t.Fatal("agreed twice in one session")
		}
		s.agreed = o.Agreed
	}
	if o.Send {
		n.send(f.to)
	}
	if o.Confirm {
		n.put(1-f.to, nil)
	}
}

// same fails the test unless both sides have agreed on the same.
func (n *network) same(suite aead.Suite, lanes int, pq bool) {
	n.t.Helper()
	a, b := n.sides[0].agreed, n.sides[1].agreed
	if a == nil || b == nil {
		n.t.Fatalf("agreed: %t, %t; %v, %v", a != nil, b != nil, n.sides[0].x.Err(), n.sides[1].x.Err())
	}
	if !n.sides[0].x.Standing() || !n.sides[1].x.Standing() {
		n.t.Errorf("standing: %t, %t", n.sides[0].x.Standing(), n.sides[1].x.Standing())
	}
	for _, x := range []*Agreement{a, b} {
		if x.Suite != suite || len(x.Lanes) != lanes || x.PostQuantum != pq {
			n.t.Errorf("%v with %d lanes, post-quantum %t; want %v, %d, %t", x.Suite, len(x.Lanes), x.PostQuantum, suite, lanes, pq)
		}
	}
	seen := map[[keys.Size]byte]bool{}
	for i := range a.Lanes {
		l, m := a.Lanes[i], b.Lanes[i]
		if l.Send != m.Receive || l.Receive != m.Send || l.Local != m.Remote || l.Remote != m.Local {
			n.t.Errorf("lane %d: the two sides differ", i)
		}
		if l.Local != 100+uint32(i) || l.Remote != 200+uint32(i) {
			n.t.Errorf("lane %d: indices %d and %d", i, l.Local, l.Remote)
		}
		seen[l.Send], seen[l.Receive] = true, true
	}
	if len(seen) != 2*lanes {
		n.t.Errorf("%d different keys, want %d", len(seen), 2*lanes)
	}
}

func TestExchange_whatIsAgreed(t *testing.T) {
	t.Parallel()
	chacha := both[:1]
	slowAES := []Cost{{aead.ChaCha20Poly1305, 300}, {aead.AES256GCM, 2500}}
	for _, tt := range []struct {
		name  string
		a, b  Terms
		suite aead.Suite
		lanes int
		pq    bool
	}{
		{"the faster cipher, all lanes", Terms{both, 4, Prefer}, Terms{both, 4, Prefer}, aead.AES256GCM, 4, true},
		{"the smaller number of lanes", Terms{both, 64, Prefer}, Terms{both, 3, Require}, aead.AES256GCM, 3, true},
		{"the smaller number of lanes, offered", Terms{both, 1, Require}, Terms{both, 64, Prefer}, aead.AES256GCM, 1, true},
		{"the smallest sum", Terms{both, 2, Prefer}, Terms{slowAES, 2, Prefer}, aead.ChaCha20Poly1305, 2, true},
		{"no AES on one side", Terms{both, 1, Off}, Terms{chacha, 1, Prefer}, aead.ChaCha20Poly1305, 1, false},
		{"post-quantum off at the responder", Terms{chacha, 1, Prefer}, Terms{both, 1, Off}, aead.ChaCha20Poly1305, 1, false},
		{"of equal costs the first suite", Terms{[]Cost{{aead.AES256GCM, 5}, {aead.ChaCha20Poly1305, 5}}, 1, Off}, Terms{both[:1:1], 1, Off}, aead.ChaCha20Poly1305, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, tt.a, tt.b)
			n.run(time.Minute)
			n.same(tt.suite, tt.lanes, tt.pq)
			if n.sides[0].sent != 1 || n.sides[1].sent > 1 {
				t.Errorf("%d offers and %d answers on a path without loss", n.sides[0].sent, n.sides[1].sent)
			}
		})
	}
}

func TestExchange_refusalsSayWhyAtBothEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b           Terms
		wantA, wantB   string
		answersAtLeast int
	}{
		{Terms{both[:1], 1, Prefer}, Terms{both[1:], 1, Prefer}, "no cipher", "no cipher", 1},
		{Terms{both, 1, Require}, Terms{both, 1, Off}, "post_quantum is off at the peer", "demands post_quantum", 1},
		{Terms{both, 1, Off}, Terms{both, 1, Require}, "demands post_quantum", "post_quantum is off at the peer", 1},
		{Terms{both, 1, Prefer}, Terms{nil, 1, Prefer}, "no cipher", "no cipher", 1},
	} {
		n := newNetwork(t, tt.a, tt.b)
		n.run(time.Minute)
		for i, want := range []string{tt.wantA, tt.wantB} {
			s := n.sides[i]
			if s.agreed != nil || s.x.Standing() || s.x.Err() == nil || !strings.Contains(s.x.Err().Error(), want) {
				t.Errorf("%+v, %+v: side %d: agreed %t, %v, want %q", tt.a, tt.b, i, s.agreed != nil, s.x.Err(), want)
			}
			if s.bad != 0 {
				t.Errorf("side %d: %d bad messages", i, s.bad)
			}
		}
	}
}

// Whatever is lost, delayed, doubled or reordered: either both sides agree on the same, or the
// initiator has no data sessions. The responder alone may have agreed, and then it is not standing.
func TestExchange_overLossyPaths(t *testing.T) {
	t.Parallel()
	stood := 0
	for seed := range uint64(300) {
		n := newNetwork(t, Terms{both, 4, Prefer}, Terms{both, 4, Prefer})
		n.rng, n.loss = rand.New(rand.NewPCG(seed, 3)), float64(seed%10)/10
		n.mangle = func(_ int, part []byte) [][]byte { // doubled now and then
			if n.rng.IntN(4) == 0 {
				return [][]byte{part, part}
			}
			return [][]byte{part}
		}
		n.run(time.Minute)
		a, b := n.sides[0], n.sides[1]
		if a.x.Standing() {
			stood++
			if a.agreed == nil || b.agreed == nil {
				t.Fatalf("seed %d: stands without an agreement of both", seed)
			}
			for i := range a.agreed.Lanes {
				if a.agreed.Lanes[i].Send != b.agreed.Lanes[i].Receive {
					t.Fatalf("seed %d: other keys", seed)
				}
			}
		} else if b.x.Standing() || a.x.Err() == nil {
			t.Fatalf("seed %d: standing at the responder alone (%t), or no reason (%v)", seed, b.x.Standing(), a.x.Err())
		}
		if a.bad+b.bad != 0 || a.sent > maxTries || b.sent > 4*maxTries {
			t.Fatalf("seed %d: %d bad, %d offers, %d answers", seed, a.bad+b.bad, a.sent, b.sent)
		}
	}
	if stood < 150 {
		t.Errorf("only %d of 300 came to stand", stood)
	}
}

func TestExchange_answersThatAreAllLost(t *testing.T) {
	t.Parallel()
	for _, pq := range []PostQuantum{Prefer, Require} {
		n := newNetwork(t, Terms{both, 1, pq}, Terms{both, 1, pq})
		n.mangle = func(to int, part []byte) [][]byte {
			if to == 0 && n.now < start.Add(30*time.Second) {
				return nil
			}
			return [][]byte{part}
		}
		n.run(29 * time.Second)
		if err := n.sides[0].x.Err(); !errors.Is(err, errNoAnswer) {
			t.Errorf("%v: %v, want %v", pq, err, errNoAnswer)
		}
		if err := n.sides[1].x.Err(); !errors.Is(err, errUnused) {
			t.Errorf("%v: %v, want %v", pq, err, errUnused)
		}
		if pq == Prefer {
			if n.sides[0].x.Next() != 0 || n.sides[0].sent != maxTries {
				t.Errorf("%d offers, next at %v", n.sides[0].sent, n.sides[0].x.Next())
			}
			continue
		}
		n.run(time.Minute) // who demands it does not give up
		n.same(aead.AES256GCM, 1, true)
	}
}

// Whoever changes a byte of an offer or answer makes the sides disagree, if they agree at all. The
// session around it refuses such a message already; this is what the salt adds.
func TestExchange_changedMessagesYieldOtherKeys(t *testing.T) {
	t.Parallel()
	whole := newNetwork(t, Terms{both, 2, Prefer}, Terms{both, 2, Prefer})
	length := len(whole.sides[0].x.sent)
	for at := range length {
		for to := range 2 {
			n, changed := newNetwork(t, Terms{both, 2, Prefer}, Terms{both, 2, Prefer}), false
			n.mangle = func(dir int, part []byte) [][]byte {
				if dir == to && int(part[0]) == at/partLen && partHeaderLen+at%partLen < len(part) {
					part[partHeaderLen+at%partLen] ^= 1
					changed = true
				}
				return [][]byte{part}
			}
			n.run(time.Minute)
			a, b := n.sides[0].agreed, n.sides[1].agreed
			if a == nil || b == nil || !changed { // not changed: beyond the end of the answer
				continue
			}
			for i := range min(len(a.Lanes), len(b.Lanes)) {
				if a.Lanes[i].Send == b.Lanes[i].Receive || a.Lanes[i].Receive == b.Lanes[i].Send {
					t.Fatalf("byte %d to %d was changed and the keys are the same", at, to)
				}
			}
		}
	}
}

// An attacker inside neither session cannot make the sides choose less: taking the stronger choices
// out of an offer gives other keys.
func TestExchange_downgradesYieldOtherKeys(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(m *message){
		"no AES":     func(m *message) { m.costs = m.costs[:1] },
		"no KEM":     func(m *message) { m.kem, m.value = kemNone, nil },
		"one lane":   func(m *message) { m.indices = m.indices[:1] },
		"other cost": func(m *message) { m.costs[1].Nanoseconds = 9000 },
	} {
		x, err := Offer(Terms{both, 4, Prefer}, &exporter, indices(1, 4), start)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(x.sent, false)
		if err != nil {
			t.Fatal(err)
		}
		edit(&m)
		terms := Terms{both, 4, Prefer}
		reply, b, err := answer(&terms, m.append(nil), &exporter, func(n int) []uint32 { return indices(9, n) })
		if err != nil {
			t.Fatal(err)
		}
		a, err := finish(&x.terms, x.sent, reply, x.key, &exporter, x.indices)
		if err != nil {
			continue
		}
		if a.Lanes[0].Send == b.Lanes[0].Receive {
			t.Errorf("%s: the sides have the same keys", name)
		}
	}
}

func TestExchange_keysDependOnExporterAndKEM(t *testing.T) {
	t.Parallel()
	sent, reply := []byte("offer"), []byte("answer")
	one := derive(aead.AES256GCM, []byte{1}, &exporter, sent, reply, []uint32{1}, []uint32{2}, true)
	for name, other := range map[string]*Agreement{
		"exporter": derive(aead.AES256GCM, []byte{1}, &[keys.Size]byte{1}, sent, reply, []uint32{1}, []uint32{2}, true),
		"secret":   derive(aead.AES256GCM, []byte{2}, &exporter, sent, reply, []uint32{1}, []uint32{2}, true),
		"nothing":  derive(aead.AES256GCM, nil, &exporter, sent, reply, []uint32{1}, []uint32{2}, true),
		"suite":    derive(aead.ChaCha20Poly1305, []byte{1}, &exporter, sent, reply, []uint32{1}, []uint32{2}, true),
		"offer":    derive(aead.AES256GCM, []byte{1}, &exporter, []byte("0ffer"), reply, []uint32{1}, []uint32{2}, true),
		"answer":   derive(aead.AES256GCM, []byte{1}, &exporter, sent, []byte("answers"), []uint32{1}, []uint32{2}, true),
	} {
		if other.Lanes[0].Send == one.Lanes[0].Send || other.Lanes[0].Receive == one.Lanes[0].Receive {
			t.Errorf("another %s gives the same keys", name)
		}
	}
}

func TestSecrets_areNotPrinted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, Terms{both, 1, Prefer}, Terms{both, 1, Prefer})
	a := derive(aead.AES256GCM, nil, &exporter, nil, nil, []uint32{1}, []uint32{2}, true)
	for _, v := range []any{n.sides[0].x, n.sides[1].x, a, a.Lanes[0], &a.Lanes[0]} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if got := fmt.Sprintf(verb, v); got != keys.Hidden {
				t.Errorf("%T with %s: %q", v, verb, got)
			}
		}
	}
	a.Zero()
	if a.Lanes[0] != (Lane{}) {
		t.Error("Zero leaves keys")
	}
}
