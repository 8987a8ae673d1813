package datasession

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// What a correct peer never sends is refused, whatever it is, and nothing is reserved for it.
func TestExchange_malformedOffers(t *testing.T) {
	t.Parallel()
	x, err := Offer(Terms{both, 4, Prefer}, &exporter, indices(1, 4), start)
	if err != nil {
		t.Fatal(err)
	}
	good := x.sent
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"empty":             {},
		"version 0":         edit(func(b []byte) []byte { b[0] = 0; return b }),
		"a refusal":         edit(func(b []byte) []byte { b[1] = 1; return b }),
		"no lanes":          edit(func(b []byte) []byte { b[2] = 0; return b }),
		"65 lanes":          edit(func(b []byte) []byte { b[2] = 65; return b }),
		"255 lanes":         edit(func(b []byte) []byte { b[2] = 255; return b }),
		"no suites":         edit(func(b []byte) []byte { b[3] = 0; return b }),
		"255 suites":        edit(func(b []byte) []byte { b[3] = 255; return b }),
		"a suite twice":     edit(func(b []byte) []byte { b[8] = b[4]; return b }),
		"a KEM, no key":     edit(func(b []byte) []byte { return append(b[:28], 1, 0, 0, 0) }),
		"no KEM, but a key": edit(func(b []byte) []byte { b[28] = 0; return b }),
		"a key of zeros and ones": edit(func(b []byte) []byte {
			for i := range b[32:] {
				b[32+i] = 0xff // coefficients above the modulus
			}
			return b
		}),
		"too long": append(bytes.Clone(good), make([]byte, maxMessage)...),
	} {
		y := Await(Terms{both, 4, Prefer}, &exporter, func(int) []uint32 { t.Fatalf("%s: indices reserved", name); return nil })
		x.sent = b
		var o Outcome
		for _, part := range x.Parts() {
			o = y.TakeOffer(part, start)
		}
		if len(b) > 0 && (!o.Bad || o.Agreed != nil || o.Send) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	for n := range good { // truncated
		y := Await(Terms{both, 4, Prefer}, &exporter, func(int) []uint32 { t.Fatalf("%d bytes: indices reserved", n); return nil })
		x.sent = good[:n]
		for _, part := range x.Parts() {
			if o := y.TakeOffer(part, start); o.Agreed != nil || o.Send {
				t.Errorf("%d bytes: %+v", n, o)
			}
		}
	}
}

// A responder answers one offer; a second one in the same session, other than a repetition, changes
// nothing. Neither side takes what belongs to the other's role.
func TestExchange_oneOfferForEachSession(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, Terms{both, 1, Prefer}, Terms{both, 1, Prefer})
	x, y := n.sides[0].x, n.sides[1].x
	other, err := Offer(Terms{both, 1, Prefer}, &exporter, indices(50, 1), start)
	if err != nil {
		t.Fatal(err)
	}
	deliver := func(e *Exchange) (o Outcome) {
		for _, part := range e.Parts() {
			o = y.TakeOffer(part, start)
		}
		return o
	}
	if o := deliver(x); o.Agreed == nil {
		t.Fatalf("%+v", o)
	}
	answer := y.sent
	if o := deliver(other); !o.Bad || o.Agreed != nil || o.Send || !bytes.Equal(y.sent, answer) {
		t.Errorf("another offer: %+v", o)
	}
	if o := deliver(x); o.Bad || !o.Send || o.Agreed != nil {
		t.Errorf("the offer again: %+v", o)
	}
	if o := x.TakeOffer(other.Parts()[0], start); !o.Bad {
		t.Errorf("an offer to the initiator: %+v", o)
	}
	if o := y.TakeAnswer(other.Parts()[0]); !o.Bad {
		t.Errorf("an answer to the responder: %+v", o)
	}
}

func TestJoiner_refusesPartsThatDoNotFit(t *testing.T) {
	t.Parallel()
	body := func(part, length, bytes int) []byte {
		b := make([]byte, partHeaderLen+bytes)
		b[0] = byte(part)
		binary.BigEndian.PutUint16(b[2:], uint16(length))
		return b
	}
	var j joiner
	for _, b := range [][]byte{
		nil, body(0, 0, 0), body(0, 10, 9), body(0, 10, 11), body(1, 1024, 0), body(1, 1025, 2), body(255, 65535, 1024),
		body(3, maxMessage+1, 1), body(0, maxMessage+1, partLen),
	} {
		if whole, ok := j.add(b); ok || whole != nil {
			t.Errorf("%x… of %d bytes was taken", b[:min(len(b), 4)], len(b))
		}
	}
	if cap(j.buf) != 0 {
		t.Error("a refused part took memory")
	}
}
