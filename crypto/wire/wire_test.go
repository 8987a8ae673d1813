package wire

import (
	"bytes"
	"testing"
)

func message(typ byte, size int) []byte {
	b := make([]byte, size)
	b[0] = typ
	return b
}

func TestKind_acceptsExactLengthsAndTransportOfAnyLength(t *testing.T) {
	t.Parallel()
	want := map[byte]func(n int) bool{
		TypeInitiation:  func(n int) bool { return n == 148 },
		TypeResponse:    func(n int) bool { return n == 92 },
		TypeCookieReply: func(n int) bool { return n == 64 },
		TypeTransport:   func(n int) bool { return n >= 32 },
	}
	for typ := range 256 {
		for size := 1; size < 300; size++ {
			fits := want[byte(typ)]
			wantOK := fits != nil && fits(size)
			got, ok := Kind(message(byte(typ), size))
			if ok != wantOK || ok && got != byte(typ) || !ok && got != 0 {
				t.Fatalf("type %d, %d bytes: got %d, %t, want %t", typ, size, got, ok, wantOK)
			}
		}
	}
	if _, ok := Kind(nil); ok {
		t.Error("nothing is a message")
	}
	if _, ok := Kind(message(TypeTransport, 65535)); !ok {
		t.Error("65535 bytes of transport data refused")
	}
}

func TestKind_refusesReservedBytes(t *testing.T) {
	t.Parallel()
	for _, m := range [][]byte{message(1, 148), message(2, 92), message(3, 64), message(4, 32)} {
		for i := 1; i < 4; i++ {
			bad := bytes.Clone(m)
			bad[i] = 1
			if _, ok := Kind(bad); ok {
				t.Errorf("type %d with byte %d set is accepted", m[0], i)
			}
		}
	}
}

func TestFields_lieWhereTheWhitepaperPutsThem(t *testing.T) {
	t.Parallel()
	const index, other, counter = 0x04030201, 0x14131211, 0x0807060504030201
	le32, le32b := []byte{1, 2, 3, 4}, []byte{0x11, 0x12, 0x13, 0x14}

	b := make([]byte, MinTransportSize)
	PutTransportHeader(b, index, counter)
	want := append([]byte{4, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8}, make([]byte, 16)...)
	if !bytes.Equal(b, want) {
		t.Errorf("transport header %x, want %x", b, want)
	}
	if TransportReceiver(b) != index || TransportCounter(b) != counter {
		t.Errorf("receiver %#x, counter %#x", TransportReceiver(b), TransportCounter(b))
	}

	r := make([]byte, ResponseSize)
	PutType(r, TypeResponse)
	PutSender(r, index)
	PutResponseReceiver(r, other)
	if !bytes.Equal(r[:12], append(append([]byte{2, 0, 0, 0}, le32...), le32b...)) {
		t.Errorf("response head %x", r[:12])
	}
	if Sender(r) != index || ResponseReceiver(r) != other {
		t.Errorf("sender %#x, receiver %#x", Sender(r), ResponseReceiver(r))
	}

	c := make([]byte, CookieReplySize)
	PutType(c, TypeCookieReply)
	PutCookieReplyReceiver(c, index)
	if !bytes.Equal(c[:8], append([]byte{3, 0, 0, 0}, le32...)) || CookieReplyReceiver(c) != index {
		t.Errorf("cookie reply head %x", c[:8])
	}
	if got := len(c) - CookieReplyCookie; got != MACSize+TagSize {
		t.Errorf("%d bytes of sealed cookie, want 32", got)
	}

	for _, m := range []struct {
		msg        []byte
		mac1, mac2 int
	}{{make([]byte, InitiationSize), InitiationMAC1, InitiationMAC2}, {r, ResponseMAC1, ResponseMAC2}} {
		if &MAC1(m.msg)[0] != &m.msg[m.mac1] || len(MAC1(m.msg)) != 16 {
			t.Errorf("mac1 of %d bytes is not at %d", len(m.msg), m.mac1)
		}
		if &MAC2(m.msg)[0] != &m.msg[m.mac2] || len(MAC2(m.msg)) != 16 {
			t.Errorf("mac2 of %d bytes is not at %d", len(m.msg), m.mac2)
		}
	}
}

func TestKind_doesNotAllocate(t *testing.T) {
	m := message(TypeTransport, 1452)
	if got := testing.AllocsPerRun(100, func() {
		if _, ok := Kind(m); !ok {
			t.Fatal("refused")
		}
		PutTransportHeader(m, TransportReceiver(m)+1, TransportCounter(m)+1)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

// FuzzKind also calls the accessors a receiver calls after Kind: none may panic on what Kind lets
// through.
func FuzzKind(f *testing.F) {
	for _, m := range [][]byte{nil, {1}, {4, 0, 0, 0}, message(1, 148), message(2, 92), message(3, 64), message(4, 32), message(4, 31), message(1, 149)} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, ok := Kind(b)
		if !ok {
			return
		}
		switch typ {
		case TypeInitiation, TypeResponse:
			_, _, _ = Sender(b), MAC1(b), MAC2(b)
			if typ == TypeResponse {
				_ = ResponseReceiver(b)
			}
		case TypeCookieReply:
			_ = CookieReplyReceiver(b)
		case TypeTransport:
			_, _ = TransportReceiver(b), TransportCounter(b)
		default:
			t.Errorf("Kind accepted type %d", typ)
		}
	})
}
