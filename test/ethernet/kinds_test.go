package ethernet

import (
	"bytes"
	"testing"
	"time"

	"tund/tunnel/l2"
)

// Frames that a Linux bridge passes arrive as they were sent, whatever is in them, also where they
// contradict themselves.
func TestFrames_ofAllKindsArriveAsTheyWereSent(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.reaches(b.v4, startLimit)
	port, far := a.raw(), b.raw()
	kinds := []struct {
		name      string
		dst       l2.MAC
		etherType uint16 // or length
		payload   string
		exact     bool // not padded to 60 bytes
	}{
		{name: "header only", dst: b.mac, etherType: testType, exact: true},
		{name: "802.3 and LLC", dst: b.mac, etherType: 46, payload: "\xfe\xfe\x03"},
		{name: "802.3 length beyond the frame", dst: b.mac, etherType: 0x200, payload: "\xfe\xfe\x03"},
		{name: "802.3 length short of the frame", dst: b.mac, etherType: 3, payload: "\xfe\xfe\x03"},
		{name: "neither length nor type, 05dd", dst: b.mac, etherType: 0x05dd},
		{name: "neither length nor type, 05ff", dst: l2.Broadcast, etherType: 0x05ff},
		{name: "IPX, raw 802.3", dst: l2.Broadcast, etherType: 46, payload: "\xff\xff"},
		{name: "IPX in SNAP", dst: l2.Broadcast, etherType: 46, payload: "\xaa\xaa\x03\x00\x00\x00\x81\x37"},
		{name: "AppleTalk in SNAP", dst: 0x090007ffffff, etherType: 46, payload: "\xaa\xaa\x03\x08\x00\x07\x80\x9b"},
		{name: "NetBEUI", dst: 0x030000000001, etherType: 46, payload: "\xf0\xf0\x03"},
		{name: "IS-IS", dst: 0x0180c2000014, etherType: 46, payload: "\xfe\xfe\x03"},
		{name: "PPPoE discovery", dst: l2.Broadcast, etherType: 0x8863},
		{name: "PPPoE session", dst: b.mac, etherType: 0x8864},
		{name: "PROFINET", dst: 0x010ecf000000, etherType: 0x8892},
		{name: "EtherCAT", dst: 0x010105010000, etherType: 0x88a4},
		{name: "ATA over Ethernet", dst: b.mac, etherType: 0x88a2},
		{name: "PTP", dst: 0x011b19000000, etherType: 0x88f7},
		{name: "MACsec", dst: b.mac, etherType: 0x88e5},
		{name: "MPLS", dst: b.mac, etherType: 0x8847},
		{name: "EAPOL to one station", dst: b.mac, etherType: 0x888e},
		{name: "GOOSE", dst: 0x010ccd010001, etherType: 0x88b8},
		{name: "wake on LAN", dst: l2.Broadcast, etherType: 0x0842},
		{name: "connectivity fault management", dst: 0x0180c2000031, etherType: 0x8902},
	}
	for _, k := range kinds {
		frame := append(header(k.dst, strangerMAC, k.etherType), k.payload...)
		if !k.exact {
			frame = padded(append(frame, k.name...))
		}
		port.send(frame)
		far.expect(k.name, 2*time.Second, func(got []byte) bool { return bytes.Equal(got, frame) })
	}
}

// Where the tunnel is to be like a cable, what neighbours on a link say to each other passes, if
// the bridges let it pass as well.
func TestFrames_betweenNeighboursPassWhereTheyAreNamed(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	for _, s := range []*site{berlin, paris} {
		s.tap = []string{`transparent = ["lldp", "eapol"]`}
		s.NS.Run(t, "ip", "link", "set", "br0", "type", "bridge", "group_fwd_mask", "0x4008")
	}
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	port, far := a.raw(), b.raw()
	send := func(name string, dst l2.MAC, etherType uint16) []byte {
		frame := padded(append(header(dst, a.mac, etherType), name...))
		port.send(frame)
		return frame
	}
	sent := send("LLDP", 0x0180c200000e, 0x88cc)
	far.expect("LLDP", 2*time.Second, func(got []byte) bool { return bytes.Equal(got, sent) })
	sent = send("802.1X", 0x0180c2000003, 0x888e)
	far.expect("802.1X", 2*time.Second, func(got []byte) bool { return bytes.Equal(got, sent) })
	send("PTP", 0x0180c200000e, 0x88f7)
	far.never("PTP, which was not named", 200*time.Millisecond, holds("PTP"))
}
