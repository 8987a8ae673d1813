package datasession

import (
	"encoding/binary"
	"errors"
	"fmt"

	"crypto/mlkem"

	"tund/crypto/aead"
)

// An offer and an answer have one layout. Integers are big endian.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+---------------+---------------+
//	|    version    |    refusal    |     lanes     |    suites     |
//	+---------------+---------------+---------------+---------------+
//	|     suite     |            cost, nanoseconds                  |  for each suite
//	+---------------+-----------------------------------------------+
//	|                       receiver index                          |  for each lane
//	+---------------+---------------+-------------------------------+
//	|      KEM      |R|  reserved   |        length of value        |
//	+---------------+-+-------------+-------------------------------+
//	|  value: encapsulation key (offer), ciphertext (answer), or nothing
//
//	version   1
//	refusal   in an answer: why there will be no data sessions (Refusal); 0: none, there will be
//	lanes     of the sender, 1 to 64; in an answer the smaller of both numbers; 0 in a refusal
//	suite     number of a cipher that the sender can use, and what sealing and opening a message of
//	          1,420 bytes costs it
//	index     receiver index of messages to the sender in this data session
//	KEM       0: none, 1: ML-KEM-768
//	R         the sender demands a KEM
//
// Bytes behind the value are ignored: later versions append fields. They count as sent: the salt
// covers them.
const (
	version      = 1
	headerLen    = 4
	suiteLen     = 4
	indexLen     = 4
	kemHeaderLen = 4

	kemNone     = 0
	kemMLKEM768 = 1
	flagDemand  = 1 << 7

	// MaxLanes is the greatest number of lanes in a message.
	MaxLanes = 64
	// maxSuites is the greatest number of suites in a message: later versions may know more than we
	// do.
	maxSuites = 16
	maxCost   = 1<<24 - 1
	// maxMessage bounds an offer or answer, in bytes: what the largest has (1,524), and room for
	// fields of later versions.
	maxMessage = 3 * partLen
)

// The numbers of suites on the wire.
const (
	suiteChaCha = 1
	suiteAES    = 2
)

// Refusal says in an answer why there will be no data sessions.
type Refusal uint8

// The refusals.
const (
	// Accepted: there is no refusal.
	Accepted Refusal = iota
	// NoCommonSuite: no cipher is allowed, and possible, on both sides.
	NoCommonSuite
	// WantsPostQuantum: the answering side demands a post-quantum secret that was not offered.
	WantsPostQuantum
	// NoPostQuantum: a post-quantum secret was demanded, and the answering side has it turned off.
	NoPostQuantum
)

// Cost is a cipher and what it costs one side.
type Cost struct {
	Suite aead.Suite
	// Nanoseconds for sealing and opening a message of 1,420 bytes.
	Nanoseconds uint32
}

// message is an offer or an answer.
type message struct {
	refusal Refusal
	costs   []Cost // of suites we know
	indices []uint32
	kem     uint8
	demand  bool
	value   []byte
}

var errMalformed = errors.New("malformed message")

func (m *message) append(b []byte) []byte {
	b = append(b, version, byte(m.refusal), byte(len(m.indices)), byte(len(m.costs)))
	for _, c := range m.costs {
		number := uint32(suiteChaCha)
		if c.Suite == aead.AES256GCM {
			number = suiteAES
		}
		b = binary.BigEndian.AppendUint32(b, number<<24|min(c.Nanoseconds, maxCost))
	}
	for _, index := range m.indices {
		b = binary.BigEndian.AppendUint32(b, index)
	}
	var flags byte
	if m.demand {
		flags = flagDemand
	}
	b = append(b, m.kem, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.value)))
	return append(b, m.value...)
}

// parse reads an offer or an answer. What it returns refers to b.
func parse(b []byte, answer bool) (m message, err error) {
	if len(b) < headerLen || len(b) > maxMessage || b[0] == 0 {
		return m, errMalformed
	}
	m.refusal = Refusal(b[1])
	lanes, suites := int(b[2]), int(b[3])
	if m.refusal != Accepted {
		if !answer {
			return m, errMalformed
		}
		return m, nil // the rest says nothing
	}
	if lanes < 1 || lanes > MaxLanes || suites < 1 || suites > maxSuites {
		return m, fmt.Errorf("%w: %d lanes, %d suites", errMalformed, lanes, suites)
	}
	b = b[headerLen:]
	if len(b) < suites*suiteLen+lanes*indexLen+kemHeaderLen {
		return m, errMalformed
	}
	if m.costs, err = parseCosts(b[:suites*suiteLen]); err != nil {
		return m, err
	}
	b = b[suites*suiteLen:]
	m.indices = make([]uint32, lanes)
	for i := range m.indices {
		m.indices[i] = binary.BigEndian.Uint32(b[i*indexLen:])
	}
	return m, m.parseKEM(b[lanes*indexLen:], answer)
}

func parseCosts(b []byte) (costs []Cost, err error) {
	seen := map[byte]bool{}
	for ; len(b) > 0; b = b[suiteLen:] {
		if seen[b[0]] {
			return nil, fmt.Errorf("%w: suite %d is named twice", errMalformed, b[0])
		}
		seen[b[0]] = true
		c := Cost{Nanoseconds: binary.BigEndian.Uint32(b) & maxCost}
		switch b[0] {
		case suiteChaCha:
			c.Suite = aead.ChaCha20Poly1305
		case suiteAES:
			c.Suite = aead.AES256GCM
		default:
			continue // of a later version
		}
		costs = append(costs, c)
	}
	return costs, nil
}

func (m *message) parseKEM(b []byte, answer bool) error {
	m.kem, m.demand = b[0], b[1]&flagDemand != 0
	n := int(binary.BigEndian.Uint16(b[2:]))
	if b = b[kemHeaderLen:]; len(b) < n {
		return errMalformed
	}
	m.value = b[:n]
	want := mlkem.EncapsulationKeySize768
	if answer {
		want = mlkem.CiphertextSize768
	}
	switch {
	case m.kem == kemMLKEM768 && n == want, m.kem == kemNone && n == 0:
		return nil
	case m.kem > kemMLKEM768 && !answer:
		m.kem, m.value = kemNone, nil // of a later version: we cannot answer it
		return nil
	}
	return fmt.Errorf("%w: KEM %d with %d bytes", errMalformed, m.kem, n)
}
