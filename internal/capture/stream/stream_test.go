package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestReader_roundTrip(t *testing.T) {
	t.Parallel()
	packet := Header{Kind: KindPacket, Flags: In, Interface: 1, Ring: 3, Time: 1 << 60, Length: 1500, Peer: 7, Segments: 47, Reason: 12}
	b := AppendJSON(nil, KindStart, Start{Schema: Schema})
	b = Append(b, packet, []byte("0123456789"))
	b = Append(b, Header{Kind: KindPad}, make([]byte, 100))
	b = Append(b, Header{Kind: KindEnd}, nil)
	if len(b)%Align != 0 {
		t.Errorf("%d bytes are no multiple of %d", len(b), Align)
	}
	r := NewReader(bytes.NewReader(b))
	if h, _, err := r.Next(); h.Kind != KindStart || err != nil {
		t.Errorf("start: %v, %v", h, err)
	}
	packet.Payload = 10
	if h, payload, err := r.Next(); h != packet || string(payload) != "0123456789" || err != nil {
		t.Errorf("packet: %+v %q, %v", h, payload, err)
	}
	if h, _, err := r.Next(); h.Kind != KindPad || err != nil {
		t.Errorf("pad: %v, %v", h, err)
	}
	if h, payload, err := r.Next(); h.Kind != KindEnd || len(payload) != 0 || err != nil {
		t.Errorf("end: %v %q, %v", h, payload, err)
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	if _, _, err := NewReader(bytes.NewReader(b[:len(b)-1])).Next(); err != nil {
		t.Errorf("a stream that is cut later: %v", err)
	}
	if _, _, err := NewReader(bytes.NewReader(b[:HeaderSize+1])).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a record that is cut off: %v", err)
	}
	if _, _, err := NewReader(strings.NewReader(strings.Repeat("HTTP/1.1 200", 20))).Next(); !errors.Is(err, errFormat) {
		t.Errorf("something else: %v", err)
	}
}

func TestSecret_isNeverPrinted(t *testing.T) {
	t.Parallel()
	s := Secret{Static: [32]byte{1: 77, 2: 78}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(format, s); text != "(hidden)" {
			t.Errorf("%s prints %q", format, text)
		}
		if text := fmt.Sprintf(format, &s); strings.Contains(text, "77") || strings.Contains(text, "4d") {
			t.Errorf("%s of a pointer prints %q", format, text)
		}
	}
}
