package datasession

import (
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"errors"
	"fmt"

	"tund/crypto/aead"
	"tund/crypto/keys"
)

// PostQuantum says whether a side wants a post-quantum secret.
type PostQuantum uint8

// The values of post_quantum.
const (
	// Prefer: if the peer can.
	Prefer PostQuantum = iota
	// Require: or nothing but control messages is sent.
	Require
	// Off: never.
	Off
)

// Terms is what one side can do and wants.
type Terms struct {
	// Costs lists the ciphers that may be used, with what each costs this side. Empty: none.
	Costs []Cost
	// Lanes is the number of lanes, 1 to MaxLanes.
	Lanes       int
	PostQuantum PostQuantum
}

// Agreement is what both sides have agreed on.
type Agreement struct {
	Suite       aead.Suite
	PostQuantum bool
	// Lanes has the keys of the data session of each lane.
	Lanes []Lane
}

// Lane is the data session of one lane, as seen from here.
type Lane struct {
	Send, Receive [keys.Size]byte
	Local, Remote uint32 // receiver index of messages to us and to the peer
}

// Zero wipes the keys.
func (a *Agreement) Zero() { clear(a.Lanes) }

// Format prints "(hidden)" for every verb.
func (a *Agreement) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Format prints "(hidden)" for every verb.
func (Lane) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Reasons for which there are no data sessions, in words for an operator.
var (
	errNoSuite = errors.New("no cipher is possible on both sides: see cipher here and there")
	errOurOff  = errors.New("the peer demands post_quantum, which is off here")
	errTheirs  = errors.New("post_quantum is off at the peer, or its tund does not know it")
)

// Demanded reports whether err, which Exchange.Err returned, says that the peer drops what does not
// come in data sessions of a kind that there cannot be.
func Demanded(err error) bool { return errors.Is(err, errOurOff) }

// offer makes an offer. key is nil without a post-quantum secret.
func offer(t *Terms, indices []uint32, key *mlkem.DecapsulationKey768) []byte {
	m := message{costs: t.Costs, indices: indices, demand: t.PostQuantum == Require}
	if key != nil {
		m.kem, m.value = kemMLKEM768, key.EncapsulationKey().Bytes()
	}
	return m.append(nil)
}

// answer answers an offer: with what is agreed, or with a refusal and an error that says why. A
// malformed offer has no answer. reserve returns n receiver indices of ours.
func answer(t *Terms, sent []byte, exporter *[32]byte, reserve func(n int) []uint32) ([]byte, *Agreement, error) {
	in, err := parse(sent, false)
	if err != nil {
		return nil, nil, err
	}
	suite, ok := choose(t.Costs, in.costs)
	switch {
	case !ok:
		return (&message{refusal: NoCommonSuite}).append(nil), nil, errNoSuite
	case in.demand && t.PostQuantum == Off:
		return (&message{refusal: NoPostQuantum}).append(nil), nil, errOurOff
	case t.PostQuantum == Require && in.kem == kemNone:
		return (&message{refusal: WantsPostQuantum}).append(nil), nil, errTheirs
	}
	out := message{costs: t.Costs, demand: t.PostQuantum == Require}
	var shared []byte
	if in.kem == kemMLKEM768 && t.PostQuantum != Off {
		key, err := mlkem.NewEncapsulationKey768(in.value)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: encapsulation key: %w", errMalformed, err)
		}
		shared, out.value = key.Encapsulate()
		out.kem = kemMLKEM768
	}
	out.indices = reserve(min(t.Lanes, len(in.indices)))
	reply := out.append(nil)
	a := derive(suite, shared, exporter, sent, reply, in.indices, out.indices, false)
	clear(shared)
	return reply, a, nil
}

// finish makes of an answer what was agreed. The answer is authenticated by the session it came in;
// an error says in words why nothing was agreed.
func finish(t *Terms, sent, reply []byte, key *mlkem.DecapsulationKey768, exporter *[32]byte, indices []uint32) (*Agreement, error) {
	in, err := parse(reply, true)
	if err != nil {
		return nil, err
	}
	switch in.refusal {
	case Accepted:
	case WantsPostQuantum:
		return nil, errOurOff
	case NoPostQuantum:
		return nil, errTheirs
	default:
		return nil, errNoSuite
	}
	suite, ok := choose(t.Costs, in.costs)
	if !ok {
		return nil, errNoSuite
	}
	if len(in.indices) > len(indices) {
		return nil, fmt.Errorf("%w: %d lanes, of %d offered", errMalformed, len(in.indices), len(indices))
	}
	var shared []byte
	switch {
	case in.kem == kemMLKEM768 && key != nil:
		if shared, err = key.Decapsulate(in.value); err != nil {
			return nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
	case in.kem == kemMLKEM768:
		return nil, fmt.Errorf("%w: a KEM that was not offered", errMalformed)
	case t.PostQuantum == Require:
		return nil, errTheirs
	}
	a := derive(suite, shared, exporter, sent, reply, indices, in.indices, true)
	clear(shared)
	return a, nil
}

// choose returns the suite whose costs of both sides have the smallest sum. Of equal ones it takes
// the one with the smaller number, so both sides choose alike.
func choose(ours, theirs []Cost) (best aead.Suite, ok bool) {
	var least uint32
	for _, a := range ours {
		for _, b := range theirs {
			if sum := a.Nanoseconds + b.Nanoseconds; a.Suite == b.Suite &&
				(!ok || sum < least || sum == least && a.Suite < best) {
				best, least, ok = a.Suite, sum, true
			}
		}
	}
	return best, ok
}

// label begins the info of every key.
const label = "tund data session v1"

// Directions in the info of a key.
const (
	fromInitiator = 1
	fromResponder = 2
)

// derive makes the keys of all lanes: HKDF-SHA-256 (RFC 5869) of exporter ‖ shared secret, salted
// with the hash of both messages. initiator and responder are their receiver indices, of which the
// responder has as many as there are lanes.
func derive(suite aead.Suite, shared []byte, exporter *[32]byte, sent, reply []byte, initiator, responder []uint32, weInitiated bool) *Agreement {
	salt := sha256.New()
	salt.Write(sent)
	salt.Write(reply)
	ikm := append(append(make([]byte, 0, len(exporter)+mlkem.SharedKeySize), exporter[:]...), shared...)
	defer clear(ikm)
	prk, err := hkdf.Extract(sha256.New, ikm, salt.Sum(nil))
	if err != nil {
		panic("tunnel/datasession: " + err.Error()) // only under GODEBUG=fips140=only
	}
	defer clear(prk)
	a := &Agreement{Suite: suite, PostQuantum: shared != nil, Lanes: make([]Lane, len(responder))}
	for i := range a.Lanes {
		l := &a.Lanes[i]
		l.Local, l.Remote = initiator[i], responder[i]
		first, second := &l.Send, &l.Receive
		if !weInitiated {
			l.Local, l.Remote = l.Remote, l.Local
			first, second = second, first
		}
		expand(first, prk, suite, fromInitiator, i)
		expand(second, prk, suite, fromResponder, i)
	}
	return a
}

// expand derives the key of one direction of one lane.
func expand(key *[keys.Size]byte, prk []byte, suite aead.Suite, direction byte, lane int) {
	number := byte(suiteChaCha)
	if suite == aead.AES256GCM {
		number = suiteAES
	}
	out, err := hkdf.Expand(sha256.New, prk, label+string([]byte{number, direction, byte(lane)}), len(key))
	if err != nil {
		panic("tunnel/datasession: " + err.Error()) // only for a key longer than HKDF can make
	}
	copy(key[:], out)
	clear(out)
}
