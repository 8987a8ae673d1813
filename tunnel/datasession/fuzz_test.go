package datasession

import (
	"testing"

	"tund/crypto/aead"
)

// Any offer from an authenticated peer: no panic, and an answer only to what parses.
func FuzzOffer(f *testing.F) {
	terms := Terms{both, 4, Prefer}
	for _, pq := range []PostQuantum{Prefer, Require, Off} {
		x, err := Offer(Terms{both, 4, pq}, &exporter, indices(1, 4), start)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(x.sent)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		reply, a, err := answer(&terms, sent, &exporter, func(n int) []uint32 { return indices(9, n) })
		if (a == nil) != (err != nil) || a != nil && reply == nil {
			t.Fatalf("%d bytes, agreed %t, %v", len(reply), a != nil, err)
		}
		if a == nil {
			return
		}
		if len(a.Lanes) < 1 || len(a.Lanes) > terms.Lanes {
			t.Fatalf("%d lanes", len(a.Lanes))
		}
		if _, err := parse(reply, true); err != nil {
			t.Fatalf("our own answer does not parse: %v", err)
		}
	})
}

// Any answer from an authenticated peer.
func FuzzAnswer(f *testing.F) {
	x, err := Offer(Terms{both, 4, Prefer}, &exporter, indices(1, 4), start)
	if err != nil {
		f.Fatal(err)
	}
	for _, pq := range []PostQuantum{Prefer, Off} {
		terms := Terms{both, 2, pq}
		reply, _, err := answer(&terms, x.sent, &exporter, func(n int) []uint32 { return indices(9, n) })
		if err != nil {
			f.Fatal(err)
		}
		f.Add(reply)
	}
	f.Add((&message{refusal: WantsPostQuantum}).append(nil))
	f.Fuzz(func(t *testing.T, reply []byte) {
		a, err := finish(&x.terms, x.sent, reply, x.key, &exporter, x.indices)
		if (a == nil) != (err != nil) {
			t.Fatalf("agreed %t, %v", a != nil, err)
		}
		if a != nil && (len(a.Lanes) < 1 || len(a.Lanes) > 4 || a.Suite != aead.ChaCha20Poly1305 && a.Suite != aead.AES256GCM) {
			t.Fatalf("%d lanes, %v", len(a.Lanes), a.Suite)
		}
	})
}

// Any sequence of parts, cut from data by its first bytes.
func FuzzParts(f *testing.F) {
	x, err := Offer(Terms{both, 4, Prefer}, &exporter, indices(1, 4), start)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append([]byte{}, x.Parts()[0]...), x.Parts()[1]...), uint16(partHeaderLen+partLen))
	f.Add([]byte{0, 0, 0, 1, 9, 0, 0, 0, 1, 9}, uint16(5))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		y := Await(Terms{both, 4, Prefer}, &exporter, func(n int) []uint32 { return indices(9, n) })
		for len(data) > 0 {
			n := min(max(int(size), 1), len(data))
			y.TakeOffer(data[:n], start)
			data = data[n:]
		}
		if len(y.in.buf) > maxMessage {
			t.Fatalf("%d bytes are kept", len(y.in.buf))
		}
	})
}
