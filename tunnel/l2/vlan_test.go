package l2

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

func TestMembership_whatAPortCarries(t *testing.T) {
	t.Parallel()
	none, access, trunk := newMembership(nil, 0, false), newMembership(nil, 10, false), newMembership([]uint16{10, 20}, 0, false)
	both, hybrid, qinq := newMembership([]uint16{0, 10}, 0, false), newMembership([]uint16{20}, 10, false), newMembership([]uint16{10}, 0, true)
	tap := membership{all: true}
	for _, c := range []struct {
		name string
		m    *membership
		tags []uint16
		vid  uint16
		want drop.Reason
	}{
		{"plain, untagged", &none, nil, 0, drop.None},
		{"plain, priority tag", &none, []uint16{0xe000}, 0, drop.None},
		{"plain, tagged", &none, []uint16{10}, 0, drop.VLANRefused},
		{"access, untagged", &access, nil, 10, drop.None},
		{"access, priority tag", &access, []uint16{0x2000}, 10, drop.None},
		{"access, tagged with its own", &access, []uint16{10}, 0, drop.VLANRefused},
		{"access, hop by double tag", &access, []uint16{10, 20}, 0, drop.DoubleTag},
		{"trunk, untagged", &trunk, nil, 0, drop.VLANRefused},
		{"trunk, carried", &trunk, []uint16{0xa014}, 20, drop.None},
		{"trunk, not carried", &trunk, []uint16{30}, 0, drop.VLANRefused},
		{"trunk, reserved", &trunk, []uint16{4095}, 0, drop.VLANRefused},
		{"trunk with untagged", &both, nil, 0, drop.None},
		{"native, untagged", &hybrid, nil, 10, drop.None},
		{"native, tagged", &hybrid, []uint16{20}, 20, drop.None},
		{"native, double tag through the native VLAN", &hybrid, []uint16{10, 20}, 0, drop.DoubleTag},
		{"double priority tag", &none, []uint16{0, 0}, 0, drop.DoubleTag},
		{"double tag allowed", &qinq, []uint16{10, 20}, 10, drop.None},
		{"TAP, any", &tap, []uint16{4094}, 4094, drop.None},
		{"TAP, reserved", &tap, []uint16{4095}, 0, drop.VLANRefused},
	} {
		h, ok := Parse(eth(2, 4, typeIPv4, c.tags...))
		if !ok {
			t.Fatal(c.name)
		}
		if vid, reason := c.m.ingress(&h); vid != c.vid && c.want == drop.None || reason != c.want {
			t.Errorf("%s: VLAN %d, %v; want %d, %v", c.name, vid, reason, c.vid, c.want)
		}
	}
	service := eth(2, 4, typeIPv4, 10)
	service[12], service[13] = 0x88, 0xa8
	h, _ := Parse(service)
	if _, reason := trunk.ingress(&h); reason != drop.DoubleTag {
		t.Errorf("a service tag with a carried number: %v, want %v", reason, drop.DoubleTag)
	}
}

func TestRewrite_thereAndBack(t *testing.T) {
	t.Parallel()
	plain := eth(2, 4, typeIPv4)
	buf := append(make([]byte, 4), plain...)
	off := Rewrite{TagInsert, 10}.Apply(buf, 4)
	if want := eth(2, 4, typeIPv4, 10); !bytes.Equal(buf[off:], want) {
		t.Fatalf("inserted: %x\nwant %x", buf[off:], want)
	}
	off = Rewrite{Op: TagStrip}.Apply(buf, off)
	if off != 4 || !bytes.Equal(buf[off:], plain) {
		t.Fatalf("stripped: %x", buf[off:])
	}
	prio := eth(2, 4, typeIPv4, 0xe000)
	Rewrite{TagReplace, 10}.Apply(prio, 0)
	if want := eth(2, 4, typeIPv4, 0xe00a); !bytes.Equal(prio, want) {
		t.Errorf("replaced: %x, want %x", prio, want)
	}
}

// TestSwitch_vlanBetweenPortsOfAllKinds sends a frame of VLAN 10 from each kind of port to each
// other.
func TestSwitch_vlanBetweenPortsOfAllKinds(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Hub: true})
	addPeer(t, s, 1, PortConfig{PVID: 10})
	addPeer(t, s, 2, PortConfig{VLANs: []uint16{10, 20}})
	addPeer(t, s, 3, PortConfig{})
	keep, insert, strip := Rewrite{}, Rewrite{TagInsert, 10}, Rewrite{Op: TagStrip}
	v, r := fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4, 10))
	if r != drop.None || len(v.Out) != 2 || v.Out[0] != (Out{1, strip}) || v.Out[1] != (Out{2, keep}) {
		t.Errorf("from the TAP: %v %v", v.Out, r)
	}
	v, r = fromPeer(s, start, 1, eth(Broadcast, hostMAC(2), typeIPv4))
	if r != drop.None || !v.ToDevice || v.DeviceRewrite != insert || len(v.Out) != 1 || v.Out[0] != (Out{2, insert}) {
		t.Errorf("from the access port: %+v %v", v, r)
	}
	v, r = fromPeer(s, start, 1, eth(Broadcast, hostMAC(2), typeIPv4, 0xe000))
	if r != drop.None || v.DeviceRewrite != (Rewrite{TagReplace, 10}) {
		t.Errorf("priority tag from the access port: %+v %v", v, r)
	}
	v, r = fromPeer(s, start, 2, eth(Broadcast, hostMAC(3), typeIPv4, 10))
	if r != drop.None || v.DeviceRewrite != keep || len(v.Out) != 1 || v.Out[0] != (Out{1, strip}) {
		t.Errorf("from the trunk: %+v %v", v, r)
	}
	if id, ok := portOf(s, 10, hostMAC(2)); !ok || id != 1 {
		t.Errorf("host 2 is at %d, %v", id, ok)
	}
	if _, ok := portOf(s, 0, hostMAC(2)); ok {
		t.Error("host 2 was learned in the untagged LAN as well")
	}
	if _, r = fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4, 30)); r != drop.VLANRefused {
		t.Errorf("a VLAN nobody carries: %v", r)
	}
	if v, r = fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4)); r != drop.None || len(v.Out) != 1 || v.Out[0].Port != 3 {
		t.Errorf("untagged: %v %v", v.Out, r)
	}
}

// TestSwitch_doubleTags sends frames of a customer's VLANs 5 and 6 inside VLAN 100.
func TestSwitch_doubleTags(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{QinQ: true, NeighborSuppression: true, Hub: true})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{100}})
	addPeer(t, s, 2, PortConfig{PVID: 100})
	addPeer(t, s, 3, PortConfig{VLANs: []uint16{100}})
	nest := func(frame []byte, tpid, inner uint16) []byte {
		b := append(bytes.Clone(frame[:12]), byte(tpid>>8), byte(tpid), 0, 100, 0x81, 0, byte(inner>>8), byte(inner))
		return append(b, frame[12:]...)
	}
	for _, tpid := range []uint16{typeVLAN, typeService} {
		v, r := fromDevice(s, start, nest(eth(Broadcast, hostMAC(1), typeIPv4), tpid, 5))
		if want := []Out{{Port: 1}, {Port: 3}}; r != drop.None || !slices.Equal(v.Out, want) {
			t.Errorf("outer tag %#x: %v %v, want %v and nothing for the access port", tpid, v.Out, r, want)
		}
		v, r = fromPeer(s, start, 1, nest(eth(Broadcast, hostMAC(2), typeIPv4), tpid, 5))
		if r != drop.None || !v.ToDevice || v.DeviceRewrite != (Rewrite{}) || !slices.Equal(v.Out, []Out{{Port: 3}}) {
			t.Errorf("outer tag %#x from a trunk: %+v %v", tpid, v, r)
		}
	}
	// The customer uses 10.0.0.2 in both of its VLANs: an answer from one is not valid in the
	// other.
	fromPeer(s, start, 1, nest(arp(t, 2, hostMAC(9), hostMAC(2), "10.0.0.2", hostMAC(9), "10.0.0.9"), typeService, 5))
	v, r := fromDevice(s, start, nest(arp(t, 1, Broadcast, hostMAC(1), "10.0.0.1", 0, "10.0.0.2"), typeService, 6))
	if r != drop.None || v.Reply != nil {
		t.Errorf("a question in VLAN 6 was answered from VLAN 5: %v, %x", r, v.Reply)
	}
	// A querier and a listener in the outer VLAN say nothing about listeners in the inner ones.
	query := igmp2(t, hostMAC(1), 0x11, "0.0.0.0")
	fromDevice(s, start, append(append(bytes.Clone(query[:12]), 0x81, 0, 0, 100), query[12:]...))
	answered := at(12 * time.Second)
	if _, r = fromDevice(s, answered, eth(0x01005e010101, hostMAC(1), typeIPv4, 100)); r != drop.SnoopedMulticast {
		t.Errorf("multicast of the outer VLAN: %v, want %v", r, drop.SnoopedMulticast)
	}
	v, r = fromDevice(s, answered, nest(eth(0x01005e010101, hostMAC(1), typeIPv4), typeService, 6))
	if r != drop.None || len(v.Out) != 2 {
		t.Errorf("multicast of an inner VLAN was pruned: %v %v", v.Out, r)
	}
	// A tag behind an LLC/SNAP header is refused nevertheless.
	snap := append(eth(Broadcast, hostMAC(2), 46, 100)[:18], 0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0, 0, 100)
	if _, r = fromPeer(s, start, 1, append(snap, make([]byte, 40)...)); r != drop.DoubleTag {
		t.Errorf("a tag behind LLC/SNAP: %v, want %v", r, drop.DoubleTag)
	}
}

// A set and its bitmap are the same whatever they hold, and no other bitmap is.
func TestVLANSet_bitmap(t *testing.T) {
	t.Parallel()
	for _, vlans := range [][]uint16{{0}, {7, 8, 9}, {0, 63, 64, 4094}, {4094}} {
		var s, again vlanSet
		for _, v := range vlans {
			s.add(v)
		}
		b := s.bitmap()
		again.setBitmap(b)
		if again != s || !s.isBitmap(b) {
			t.Errorf("%v: %x", vlans, b)
		}
		if again.remove(vlans[0]); again.isBitmap(b) || s.isBitmap(append(b, 1)) || s.isBitmap(nil) {
			t.Errorf("%v: another set has the same bitmap", vlans)
		}
	}
}
