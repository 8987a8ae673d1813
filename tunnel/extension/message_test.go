package extension

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestMessage_survivesItsPadding(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		body := bytes.Repeat([]byte{7}, n)
		payload := AppendMessage([]byte("before"), TypeHello, body)[6:]
		if len(payload)%16 != 0 {
			t.Fatalf("%d bytes", len(payload))
		}
		kind, got, ok := Parse(payload)
		if !ok || kind != TypeHello || !bytes.Equal(got, body) {
			t.Fatalf("%d: %v %d % x", n, ok, kind, got)
		}
	}
}

func TestHello_fieldsOfLaterVersionsAreIgnored(t *testing.T) {
	t.Parallel()
	h := Hello{Version: 3, Answer: true, Features: FeatureEcho | 1<<15}
	body := h.Append(nil)
	if got, ok := ParseHello(append(body, 1, 2, 3)); !ok || got != h {
		t.Errorf("%+v %v, want %+v", got, ok, h)
	}
	for n := range body {
		if _, ok := ParseHello(body[:n]); ok {
			t.Errorf("%d bytes are enough", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(AppendMessage(nil, TypeHello, (&Hello{Version: 1, Answer: true}).Append(nil)))
	f.Add([]byte{0x30, 1, 0, 200})
	f.Fuzz(func(t *testing.T, payload []byte) {
		kind, body, ok := Parse(payload)
		if !ok {
			return
		}
		if len(body) > MaxBody || len(body) > len(payload)-HeaderLen {
			t.Fatalf("body of %d bytes in %d", len(body), len(payload))
		}
		again := AppendMessage(nil, kind, body)
		if k, b, ok := Parse(again); !ok || k != kind || !bytes.Equal(b, body) {
			t.Fatalf("% x became % x", payload, again)
		}
		if h, ok := ParseHello(body); ok && kind == TypeHello {
			if g, ok := ParseHello(h.Append(nil)); !ok || g != h {
				t.Fatalf("%+v became %+v", h, g)
			}
		}
	})
}

func FuzzEcho(f *testing.F) {
	f.Add(EchoReply{EchoRequest{1, 2}, 3}.Append(nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		if e, ok := ParseEchoRequest(body); ok != (len(body) >= 12) {
			t.Fatalf("%d bytes: %v", len(body), ok)
		} else if ok && !bytes.Equal(e.Append(nil), body[:12]) {
			t.Fatalf("% x became %+v", body, e)
		}
		if e, ok := ParseEchoReply(body); ok != (len(body) >= 16) {
			t.Fatalf("%d bytes: %v", len(body), ok)
		} else if ok && !bytes.Equal(e.Append(nil), body[:16]) {
			t.Fatalf("% x became %+v", body, e)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(Refusal{RefusedSource, netip.MustParseAddr("10.9.0.1")}.Append(nil))
	f.Add(Refusal{7, netip.MustParseAddr("fd09::1")}.Append(nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		r, ok := ParseRefusal(body)
		if ok != (len(body) >= 20) {
			t.Fatalf("%d bytes: %v", len(body), ok)
		}
		if again, _ := ParseRefusal(r.Append(nil)); ok && again != r {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}
