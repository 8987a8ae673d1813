package datasession

import (
	"bytes"
	"crypto/mlkem"
	"errors"
	"fmt"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
)

// Timing of an exchange.
const (
	// firstWait is how long to wait for an answer before sending again. Each further wait is twice
	// as long, up to longestWait.
	firstWait   = 250 * time.Millisecond
	longestWait = 4 * time.Second
	// maxTries is how often a message is sent: the last time 7.75 s after the first, and the wait
	// for its answer ends after 11.75 s.
	maxTries = 6
	// GiveUpAfter is when an exchange has certainly ended that began with its session.
	GiveUpAfter = 12 * time.Second
)

var (
	errNoAnswer = errors.New("no answer to our offer: it does not arrive, or the answer does not")
	errUnused   = errors.New("our answer does not arrive: the peer has sent nothing in a data session")
)

// state is how far an exchange has come.
type state uint8

const (
	stateWaiting  state = iota // responder: for an offer
	stateOffered               // initiator: for an answer
	stateAnswered              // responder: for the first message of a data session
	stateDone                  // the data sessions stand
	stateFailed                // there will be none in this session
)

// Exchange is one side of the agreement for one WireGuard session.
type Exchange struct {
	terms    Terms
	exporter [keys.Size]byte // wiped once it was used
	state    state
	reserve  func(n int) []uint32       // responder
	indices  []uint32                   // initiator: of the offer
	key      *mlkem.DecapsulationKey768 // initiator
	sent     []byte                     // our message
	accepted []byte                     // responder: the offer that we have answered
	in       joiner
	tries    int
	next     boottime.Time // when to send again, or give up; 0: never
	err      error
}

// Offer returns the initiator's side, which sends its offer when Due is called. exporter is that of
// the session's handshake; indices are receiver indices of ours, one for each lane of t. It makes a
// key pair of ML-KEM-768 unless post_quantum is off.
func Offer(t Terms, exporter *[keys.Size]byte, indices []uint32, now boottime.Time) (*Exchange, error) {
	x := &Exchange{terms: t, exporter: *exporter, indices: indices, state: stateOffered, next: now}
	if t.PostQuantum != Off {
		key, err := mlkem.GenerateKey768()
		if err != nil {
			return nil, fmt.Errorf("make a key of ML-KEM-768: %w", err)
		}
		x.key = key
	}
	x.sent = offer(&x.terms, indices, x.key)
	return x, nil
}

// Await returns the responder's side, which waits for an offer. reserve returns n receiver indices
// of ours; it is called once, for an offer that is accepted.
func Await(t Terms, exporter *[keys.Size]byte, reserve func(n int) []uint32) *Exchange {
	return &Exchange{terms: t, exporter: *exporter, reserve: reserve}
}

// Format prints "(hidden)" for every verb.
func (x *Exchange) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Outcome is what a message has led to.
type Outcome struct {
	// Send: the parts of our message are to be sent now.
	Send bool
	// Confirm: the peer does not know yet that its answer has come; a message in a data session
	// tells it. The initiator is to send one.
	Confirm bool
	// Agreed, when not nil, are new data sessions. The initiator may send in them at once; the
	// responder only after the first message in one of them has come, because its answer may be
	// lost. The caller owns it.
	Agreed *Agreement
	// Bad: the message is not what a correct peer sends.
	Bad bool
}

// TakeOffer takes a part of an offer.
func (x *Exchange) TakeOffer(part []byte, now boottime.Time) (o Outcome) {
	if x.reserve == nil {
		return Outcome{Bad: true} // only the initiator of a session makes offers
	}
	sent, ok := x.in.add(part)
	switch {
	case !ok:
		return Outcome{Bad: true}
	case sent == nil:
		return Outcome{}
	case x.state == stateFailed || x.state == stateAnswered:
		if !bytes.Equal(sent, x.accepted) {
			return Outcome{Bad: true} // there is one for each session
		}
		return Outcome{Send: x.sent != nil}
	case x.state == stateDone:
		return Outcome{}
	}
	reply, agreed, err := answer(&x.terms, sent, &x.exporter, x.reserve)
	if reply == nil {
		x.fail(err)
		return Outcome{Bad: true}
	}
	clear(x.exporter[:])
	x.sent, x.accepted = reply, sent
	if agreed == nil {
		x.state, x.err = stateFailed, err
		return Outcome{Send: true}
	}
	x.state, x.tries, x.next = stateAnswered, 0, now
	return Outcome{Agreed: agreed}
}

// TakeAnswer takes a part of an answer.
func (x *Exchange) TakeAnswer(part []byte) (o Outcome) {
	if x.reserve != nil {
		return Outcome{Bad: true}
	}
	reply, ok := x.in.add(part)
	switch {
	case !ok:
		return Outcome{Bad: true}
	case reply == nil:
		return Outcome{}
	case x.state == stateDone:
		return Outcome{Confirm: true}
	case x.state != stateOffered:
		return Outcome{}
	}
	agreed, err := finish(&x.terms, x.sent, reply, x.key, &x.exporter, x.indices)
	if err != nil {
		x.fail(err)
		return Outcome{Bad: errors.Is(err, errMalformed)}
	}
	x.done()
	return Outcome{Agreed: agreed, Confirm: true}
}

// Confirmed tells the responder that a message has come in a data session, which may also be after
// it has given up.
func (x *Exchange) Confirmed() {
	if x.reserve != nil && x.accepted != nil {
		x.done()
	}
}

// done ends the exchange with data sessions. What made them is forgotten.
func (x *Exchange) done() {
	clear(x.exporter[:])
	x.state, x.next = stateDone, 0
	x.key, x.sent, x.accepted, x.err = nil, nil, nil, nil
}

func (x *Exchange) fail(err error) {
	clear(x.exporter[:])
	x.state, x.err, x.next = stateFailed, err, 0
	x.key = nil
}

// Due reports whether the parts of our message are to be sent now, again or for the first time.
func (x *Exchange) Due(now boottime.Time) (send bool) {
	if x.next == 0 || now < x.next {
		return false
	}
	if x.tries >= maxTries {
		x.err = errNoAnswer
		if x.reserve != nil {
			x.err = errUnused
		}
		if x.terms.PostQuantum != Require {
			x.fail(x.err)
			return false
		}
	}
	x.next = now.Add(min(firstWait<<min(x.tries, maxTries), longestWait))
	x.tries++
	return true
}

// Next returns when Due has to be called; 0: not until another message comes.
func (x *Exchange) Next() boottime.Time { return x.next }

// Standing reports whether the data sessions stand: the peer is known to have them.
func (x *Exchange) Standing() bool { return x.state == stateDone }

// Refused reports whether one side has refused the other's terms, so that the next exchange would
// end in the same way.
func (x *Exchange) Refused() bool {
	return errors.Is(x.err, errOurOff) || errors.Is(x.err, errTheirs) || errors.Is(x.err, errNoSuite)
}

// Err says, in words for an operator, why there are no data sessions; nil while there may be some.
func (x *Exchange) Err() error { return x.err }

// ── parts ───────────────────────────────────────────────────────────────────

// A message travels in parts that every path carries: IPv6 promises 1,280 bytes, and a message with
// a key of ML-KEM is longer than the 1,200 that remain of them.
//
//	+---------------+---------------+-------------------------------+
//	|     part      |   reserved    |     length of the message     |
//	+---------------+---------------+-------------------------------+
//	|  bytes [1024 × part, 1024 × (part + 1)) of the message
const (
	partLen       = 1024
	partHeaderLen = 4
)

// Parts returns the bodies of the control messages that carry our message.
func (x *Exchange) Parts() (bodies [][]byte) {
	n := len(x.sent)
	for i := 0; i*partLen < n; i++ {
		chunk := x.sent[i*partLen : min((i+1)*partLen, n)]
		bodies = append(bodies, append([]byte{byte(i), 0, byte(n >> 8), byte(n)}, chunk...))
	}
	return bodies
}

// joiner joins the parts of one message, which may come in any order and more than once.
type joiner struct {
	buf  []byte
	have uint // bit i: part i has come
}

// add adds a part. It returns the message when it is whole, and starts over; ok is false if the
// part is malformed.
func (j *joiner) add(part []byte) (whole []byte, ok bool) {
	if len(part) < partHeaderLen {
		return nil, false
	}
	i, n := int(part[0]), int(part[2])<<8|int(part[3])
	part = part[partHeaderLen:]
	if n == 0 || n > maxMessage || i*partLen >= n || len(part) != min(partLen, n-i*partLen) {
		return nil, false
	}
	if len(j.buf) != n {
		j.buf, j.have = make([]byte, n), 0
	}
	copy(j.buf[i*partLen:], part)
	j.have |= 1 << i
	if j.have != 1<<((n+partLen-1)/partLen)-1 {
		return nil, true
	}
	whole = j.buf
	j.buf, j.have = nil, 0
	return whole, true
}
