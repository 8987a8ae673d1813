package l2

import (
	"bytes"
	"testing"
)

func TestMAC_bytes(t *testing.T) {
	t.Parallel()
	b := make([]byte, 6)
	MAC(0x0102030405fe).Put(b)
	if !bytes.Equal(b, []byte{1, 2, 3, 4, 5, 0xfe}) || MACFromBytes(b) != 0x0102030405fe || MAC(0x02ab00ff1001).String() != "02:ab:00:ff:10:01" {
		t.Errorf("Put, MACFromBytes or String differ: %x", b)
	}
	if !Broadcast.Group() || !MAC(0x01005e000001).Group() || hostMAC(1).Group() {
		t.Error("Group looks at the wrong bit")
	}
}

func TestParse_tagsAndEncapsulations(t *testing.T) {
	t.Parallel()
	snap := append(eth(2, 4, 46)[:14], 0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd)
	snap = append(snap, make([]byte, 38)...)
	snapTag := bytes.Clone(snap)
	copy(snapTag[20:], []byte{0x81, 0})
	for _, c := range []struct {
		name    string
		frame   []byte
		ok      bool
		tags    int
		vid     uint16
		typ     uint16
		payload int
	}{
		{"untagged", eth(2, 4, typeIPv4), true, 0, 0, typeIPv4, 14},
		{"tagged", eth(2, 4, typeIPv6, 0x6005), true, 1, 5, typeIPv6, 18},
		{"priority tag", eth(2, 4, typeIPv6, 0xe000), true, 1, 0, typeIPv6, 18},
		{"two tags", eth(2, 4, typeIPv4, 5, 6), true, 2, 5, typeIPv4, 22},
		{"five tags", eth(2, 4, typeIPv4, 1, 2, 3, 4, 5), false, 0, 0, 0, 0},
		{"header only", eth(2, 4, typeIPv4)[:14], true, 0, 0, typeIPv4, 14},
		{"13 bytes", eth(2, 4, typeIPv4)[:13], false, 0, 0, 0, 0},
		{"half a tag", eth(2, 4, typeIPv4, 5)[:16], false, 0, 0, 0, 0},
		{"tag without type", eth(2, 4, typeIPv4, 5)[:17], false, 0, 0, 0, 0},
		{"802.3 length", eth(2, 4, 46), true, 0, 0, 46, 14},
		{"802.3 length too long", eth(2, 4, 47), true, 0, 0, 47, 14},
		{"more than a length, less than a type", eth(2, 4, 0x05dd), true, 0, 0, 0x05dd, 14},
		{"the same up to the first type", eth(2, 4, 0x05ff, 5), true, 1, 5, 0x05ff, 18},
		{"IPv6 in SNAP", snap, true, 0, 0, typeIPv6, 22},
		{"tag in SNAP", snapTag, true, 2, 0, typeVLAN, 22},
		{"empty", nil, false, 0, 0, 0, 0},
	} {
		h, ok := Parse(c.frame)
		if ok != c.ok || ok && (h.Tags != c.tags || h.VID() != c.vid || h.EtherType != c.typ || h.Payload != c.payload || h.Dst != 2 || h.Src != 4) {
			t.Errorf("%s: %+v, %v", c.name, h, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(eth(2, 4, typeIPv4))
	f.Add(eth(2, 4, typeIPv6, 5, 6))
	f.Add(eth(2, 4, 46))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, ok := Parse(frame)
		if !ok {
			return
		}
		if h.Payload < headerLen || h.Payload > len(frame) {
			t.Fatalf("payload at %d of %d", h.Payload, len(frame))
		}
		var g membershipMessage
		var n neighborMessage
		parseMembership(frame, &h, &g)
		parseNeighbor(frame, &h, &n)
		guard(frame, &h, false, false)
		reserved(&h)
		for _, r := range []Rewrite{{}, {TagInsert, 7}, {Op: TagStrip}, {TagReplace, 9}} {
			if r.Op == TagStrip && h.Tags == 0 || r.Op == TagReplace && h.Tags == 0 {
				continue
			}
			buf := append(make([]byte, 4), frame...)
			off := r.Apply(buf, 4)
			if len(buf)-off != len(frame)+r.Grow() {
				t.Fatalf("%v: frame of %d bytes became %d", r, len(frame), len(buf)-off)
			}
		}
	})
}
