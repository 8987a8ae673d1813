package handshake

import (
	"encoding/binary"
	"testing"

	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/udp"
)

// However many initiations wait, answers to our own initiations are accepted.
func TestQueue_initiationsTakeNoPlaceFromAnswers(t *testing.T) {
	t.Parallel()
	q, load := newQueue(), new(Load)
	put := func(kind byte, size, n int) drop.Reason {
		d := make([]byte, size)
		binary.BigEndian.PutUint32(wire.MAC1(d), uint32(n)) // no copies
		return q.put(load, kind, d, udp.Endpoint{}, nil, 1)
	}
	refused := 0
	for i := range 2 * queueLength {
		if put(wire.TypeInitiation, wire.InitiationSize, i) == drop.HandshakeQueue {
			refused++
		}
	}
	if refused != queueLength || !load.Under(1) {
		t.Fatalf("%d of %d initiations were refused, under load %v", refused, 2*queueLength, load.Under(1))
	}
	if r := put(wire.TypeResponse, wire.ResponseSize, 0); r != drop.None {
		t.Errorf("a response: %v", r)
	}
	if r := put(wire.TypeCookieReply, wire.CookieReplySize, 0); r != drop.None {
		t.Errorf("a cookie reply: %v", r)
	}
	for range 2 * answersLength {
		put(wire.TypeResponse, wire.ResponseSize, 0)
	}
	if n := len(q.answers); n != answersLength {
		t.Errorf("%d answers wait, want at most %d", n, answersLength)
	}
}
