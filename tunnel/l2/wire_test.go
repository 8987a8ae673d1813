package l2

import (
	"bytes"
	"testing"

	"tund/internal/drop"
)

func TestParseFrame_refusesWhatContradictsItself(t *testing.T) {
	t.Parallel()
	whole := func(hops uint8, length, bytes int) []byte {
		b := make([]byte, FrameHeaderLen+bytes)
		PutFrameHeader(b, hops, length)
		return b
	}
	part := func(length, cut int, second bool, bytes int) []byte {
		b := make([]byte, FragmentHeaderLen+bytes)
		PutFragmentHeader(b, 0, length, 7, cut, second)
		return b
	}
	flags := whole(0, 60, 60)
	flags[1] = 2
	for _, c := range []struct {
		name    string
		payload []byte
		want    drop.Reason
		n       int
	}{
		{"whole", whole(0, 60, 60), drop.None, 60},
		{"padded", whole(3, 60, 76), drop.None, 60},
		{"one byte short", whole(0, 60, 59), drop.BadInnerPacket, 0},
		{"header cut", whole(0, 60, 60)[:3], drop.BadInnerPacket, 0},
		{"too many hops", whole(9, 60, 60), drop.HopLimit, 0},
		{"reserved flag", flags, drop.BadInnerPacket, 0},
		{"first part", part(100, 60, false, 64), drop.None, 60},
		{"second part", part(100, 60, true, 64), drop.None, 40},
		{"cut at 0", part(100, 0, true, 104), drop.ReassemblyBad, 0},
		{"cut at the end", part(100, 100, false, 104), drop.ReassemblyBad, 0},
		{"cut beyond the end", part(100, 101, true, 104), drop.ReassemblyBad, 0},
		{"part short", part(100, 60, true, 39), drop.BadInnerPacket, 0},
		{"part header cut", part(100, 60, true, 39)[:7], drop.BadInnerPacket, 0},
		{"an IP packet", []byte{0x45, 0, 0, 20}, drop.BadInnerPacket, 0},
		{"nothing", nil, drop.BadInnerPacket, 0},
	} {
		_, body, reason := ParseFrame(c.payload)
		if reason != c.want || len(body) != c.n {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.name, len(body), reason, c.n, c.want)
		}
	}
}

func TestPayloadKind_tellsByTheFirstNibble(t *testing.T) {
	t.Parallel()
	for first, want := range map[byte]Kind{0x10: KindFrame, 0x18: KindFrame, 0x20: KindControl, 0x45: KindOther, 0x60: KindOther, 0: KindOther, 0x30: KindOther} {
		if got := PayloadKind([]byte{first}); got != want {
			t.Errorf("PayloadKind(%#x) = %d, want %d", first, got, want)
		}
	}
	if PayloadKind(nil) != KindOther {
		t.Error("an empty payload is a keepalive")
	}
}

func TestHello_roundTripAndLongerBody(t *testing.T) {
	t.Parallel()
	want := Hello{Version: 1, Ethernet: true, Answer: true, Hub: true, MTU: 1500, Node: 0xfeed, Secret: [16]byte{1, 15: 2}, Clock: 77, NamesVLAN: true, PVID: 30}
	b := want.Append(nil)
	kind, body, ok := parseControl(append(b, make([]byte, 13)...)) // transport padding
	if !ok || kind != controlHello {
		t.Fatalf("parseControl = %d, %v", kind, ok)
	}
	got, ok := ParseHello(append(bytes.Clone(body), 1, 2, 3)) // fields of a later version
	if !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	old, ok := ParseHello(body[:helloLen]) // from a version that does not name VLANs in its probes
	if want.NamesVLAN, want.PVID = false, 0; !ok || old != want {
		t.Errorf("without PVID: got %+v, %v; want %+v", old, ok, want)
	}
	for n := range helloLen {
		if _, ok := ParseHello(body[:n]); ok {
			t.Errorf("a hello of %d bytes was taken", n)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	b := make([]byte, 80)
	PutFrameHeader(b, 1, 60)
	f.Add(bytes.Clone(b))
	PutFragmentHeader(b, 1, 100, 5, 60, false)
	f.Add(bytes.Clone(b))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, body, reason := ParseFrame(payload)
		if reason != drop.None {
			if body != nil {
				t.Fatal("a refused payload has a body")
			}
			return
		}
		if len(body) != h.PartLen() || h.Length > 0xffff || h.Fragment && (h.Cut <= 0 || h.Cut >= h.Length) {
			t.Fatalf("%+v with %d bytes", h, len(body))
		}
		again := make([]byte, FragmentHeaderLen)
		n := FrameHeaderLen
		if h.Fragment {
			n = FragmentHeaderLen
			PutFragmentHeader(again, h.Hops, h.Length, h.ID, h.Cut, h.Second)
		} else {
			PutFrameHeader(again, h.Hops, h.Length)
		}
		if !bytes.Equal(again[:n], payload[:n]) {
			t.Fatalf("header %x written again is %x", payload[:n], again[:n])
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add((&Hello{Version: 1, Ethernet: true, Node: 5}).Append(nil))
	f.Add(append(appendControl(nil, controlAnnounce, 8), 0, 0, 2, 0, 0, 0, 0, 1))
	f.Add(append(appendControl(nil, controlProbe, probeLen+1), make([]byte, probeLen+1)...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s := newSwitch(t, Config{Hub: true, MaxEntries: 64})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		s.Control(at(1), 1, payload)
		if a := s.Tick(at(2)); len(a.ToPeers) > 64 || len(a.ToDevice) > 700 {
			t.Fatalf("%d messages, %d frames for one payload", len(a.ToPeers), len(a.ToDevice))
		}
	})
}
