package lane

import (
	"encoding/binary"
	"testing"
)

// header returns an IP header of a version with a traffic class; that of IPv4 has a right checksum.
func header(version, class byte) []byte {
	if version == 6 {
		h := make([]byte, 40)
		h[0], h[1] = 6<<4|class>>4, class<<4|0x0f // and a flow label
		return h
	}
	h := []byte{0x45, class, 0, 20, 0xab, 0xcd, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2}
	binary.BigEndian.PutUint16(h[10:], ^sum16(h))
	return h
}

// sum16 is the Internet checksum without the complement (RFC 1071).
func sum16(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}

// TestMeetCongestion is the column of CE in the table of RFC 6040 §4.2.
func TestMeetCongestion(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 6} {
		for class := range 256 {
			h := header(version, byte(class))
			kept := meetCongestion(h)
			got, _ := classOf(h)
			want := byte(class) | ecnCE
			if class&ecnBits == 0 {
				want = byte(class)
			}
			if kept != (class&ecnBits != 0) || got != want {
				t.Errorf("IPv%d, class %#02x: kept %t, class %#02x", version, class, kept, got)
			}
			if version == 4 && sum16(h) != 0xffff {
				t.Errorf("class %#02x: wrong checksum", class)
			}
			if version == 6 && (h[0]>>4 != 6 || h[1]&0x0f != 0x0f) {
				t.Errorf("class %#02x: the rest of the header changed", class)
			}
		}
	}
	if !meetCongestion(nil) || !meetCongestion([]byte{0x45}) || !meetCongestion(make([]byte, 60)) {
		t.Error("what is no IP packet does not pass")
	}
}

func TestDSCP_of(t *testing.T) {
	t.Parallel()
	const inner = 10<<2 | 2 // AF11, ECT(0)
	for value, want := range map[int]uint8{0: 2, 46: 46<<2 | 2, CopyDSCP: inner} {
		var d DSCP
		d.Set(value)
		for _, version := range []byte{4, 6} {
			if got := d.of(header(version, inner)); got != want {
				t.Errorf("dscp %d, IPv%d: class %#02x, want %#02x", value, version, got, want)
			}
		}
		if got := d.of([]byte{1, 2, 3}); got != d.plain() || got&ecnBits != 0 {
			t.Errorf("dscp %d: class %#02x of what is no packet", value, got)
		}
	}
}

func TestInFrame(t *testing.T) {
	t.Parallel()
	macs, packet := make([]byte, 12), header(4, 1)
	for name, c := range map[string]struct {
		types []byte
		found bool
	}{
		"untagged": {[]byte{8, 0}, true}, "IPv6": {[]byte{0x86, 0xdd}, true}, "ARP": {[]byte{8, 6}, false},
		"tagged":  {[]byte{0x81, 0, 0x40, 7, 8, 0}, true},
		"stacked": {[]byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0}, true},
		"3 tags":  {[]byte{0x81, 0, 0, 7, 0x81, 0, 0, 7, 0x81, 0, 0, 7, 8, 0}, false},
		"cut":     {[]byte{0x81, 0}, false},
		"nothing": {nil, false},
	} {
		frame := append(append([]byte(nil), macs...), c.types...)
		if len(c.types) > 2 || c.found || name == "ARP" {
			frame = append(frame, packet...)
		}
		if got := inFrame(frame); (got != nil) != c.found || c.found && got[1] != 1 {
			t.Errorf("%s: %x", name, got)
		}
	}
}
