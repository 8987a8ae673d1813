package ethernet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// vlanOf returns the VLAN of the outer tag, 0 for none.
func vlanOf(frame []byte) int {
	if len(frame) < 18 || binary.BigEndian.Uint16(frame[12:]) != 0x8100 {
		return 0
	}
	return int(binary.BigEndian.Uint16(frame[14:]) & 0xfff)
}

// trunkCase is what one side sends and what becomes of it at the other: a VLAN, 0 for untagged, or
// refused.
type trunkCase struct {
	name string
	tags []uint16
	want int // VLAN at the other site; refused for none
}

const refused = -1

// A trunk carries the VLANs that both sites list, an access port carries one without its tag, each
// as configured for the peer. This kernel has no 8021q devices and no VLAN-aware bridge: the
// bridges pass tags as they are, and the frames are made by hand (test/vm has the devices).
func TestVLAN_carriedAndFilteredPerPeer(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris := w.site("berlin"), w.site("paris")
	mesh(berlin, paris)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	port, far := a.raw(), b.raw()
	number := 0
	for _, c := range []struct {
		name         string
		atBerlin     string // the section for paris
		atParis      string // the section for berlin
		berlinToBoth []trunkCase
	}{
		{"trunk", `vlans = [10, 20]`, `vlans = [10, "20-29"]`, []trunkCase{
			{"ten", []uint16{0x8100, 10}, 10},
			{"twenty with priority", []uint16{0x8100, 5<<13 | 20}, 20},
			{"only the other has it", []uint16{0x8100, 21}, refused},
			{"nobody has it", []uint16{0x8100, 30}, refused},
			{"untagged", nil, refused},
			{"double tag", []uint16{0x8100, 10, 0x8100, 20}, refused},
			{"service tag", []uint16{0x88a8, 10}, refused},
		}},
		{"trunk with the untagged LAN", `vlans = [0, 10]`, `vlans = [0, 10]`, []trunkCase{
			{"untagged", nil, 0},
			{"priority tag", []uint16{0x8100, 3 << 13}, 0},
			{"ten", []uint16{0x8100, 10}, 10},
		}},
		{"access", `pvid = 10`, ``, []trunkCase{
			{"ten arrives without its tag", []uint16{0x8100, 10}, 0},
			{"twenty", []uint16{0x8100, 20}, refused},
			{"untagged", nil, refused},
		}},
		{"access at both ends translates", `pvid = 10`, `pvid = 110`, []trunkCase{
			{"ten becomes a hundred and ten", []uint16{0x8100, 10}, 110},
		}},
		{"native VLAN", "vlans = [20]\npvid = 10", "vlans = [20]\npvid = 10", []trunkCase{
			{"ten", []uint16{0x8100, 10}, 10},
			{"twenty", []uint16{0x8100, 20}, 20},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			berlin.peers[0].lines, paris.peers[0].lines = []string{c.atBerlin}, []string{c.atParis}
			berlin.reloads()
			paris.reloads()
			for i, frame := range c.berlinToBoth {
				text := fmt.Sprintf("%s/%d", c.name, i)
				src := strangerMAC + l2.MAC(number)
				number++
				port.send(plainFrame(l2.Broadcast, src, text, frame.tags...))
				if frame.want == refused {
					far.never(frame.name, 100*time.Millisecond, holds(text))
					continue
				}
				got := far.expect(frame.name, 2*time.Second, holds(text))
				if got != nil && vlanOf(got) != frame.want {
					t.Errorf("%s: arrives in VLAN %d, want %d", frame.name, vlanOf(got), frame.want)
				}
				if got != nil && paris.where(src, frame.want) != "berlin" {
					t.Errorf("%s: not learned in VLAN %d behind berlin: %+v", frame.name, frame.want, paris.Status().FDB)
				}
			}
		})
	}
}

// The same address in two VLANs is two hosts.
func TestVLAN_addressesArePerVLAN(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris, rome := w.site("berlin"), w.site("paris"), w.site("rome")
	berlin.knows(paris, "vlans = [10]")
	paris.knows(berlin, "vlans = [10]")
	berlin.knows(rome, "vlans = [20]")
	rome.knows(berlin, "vlans = [20]")
	a, b, c := berlin.host(1), paris.host(2), rome.host(3)
	start(t, berlin, paris, rome)
	pa, pb, pc := a.raw(), b.raw(), c.raw()
	pb.send(plainFrame(l2.Broadcast, strangerMAC, "from paris", 0x8100, 10))
	pc.send(plainFrame(l2.Broadcast, strangerMAC, "from rome", 0x8100, 20))
	testnet.Await(t, "one address in two VLANs", 3*time.Second, func() bool {
		return berlin.where(strangerMAC, 10) == "paris" && berlin.where(strangerMAC, 20) == "rome"
	})
	pa.send(plainFrame(strangerMAC, a.mac, "to ten", 0x8100, 10))
	pa.send(plainFrame(strangerMAC, a.mac, "to twenty", 0x8100, 20))
	pb.expect("VLAN 10", time.Second, holds("to ten"))
	pc.expect("VLAN 20", time.Second, holds("to twenty"))
	pb.never("VLAN 20 in Paris", 100*time.Millisecond, holds("to twenty"))
	pc.never("VLAN 10 in Rome", 100*time.Millisecond, holds("to ten"))
}

// double_tags = true lets frames with two tags pass, filed under the outer one.
func TestVLAN_doubleTagsWhereAllowed(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris := w.site("berlin"), w.site("paris")
	for _, s := range []*site{berlin, paris} {
		s.tap = []string{"double_tags = true"}
	}
	berlin.knows(paris, "vlans = [10]")
	paris.knows(berlin, "vlans = [10]")
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	port, far := a.raw(), b.raw()
	for _, tpid := range []uint16{0x8100, 0x88a8, 0x9100} {
		name := fmt.Sprintf("outer tag %#x", tpid)
		sent := plainFrame(l2.Broadcast, strangerMAC, name, tpid, 10, 0x8100, 77)
		port.send(sent)
		if got := far.expect(name, time.Second, holds(name)); got != nil && !bytes.Equal(got, sent) {
			t.Errorf("%s: % x arrives, % x was sent", name, got[:22], sent[:22])
		}
		// A known destination is found, and the answer passes as well.
		back := plainFrame(strangerMAC, anotherMAC, "back through "+name, tpid, 10, 0x8100, 77)
		far.send(back)
		port.expect("answer through "+name, time.Second, holds("back through "+name))
		port.send(plainFrame(l2.Broadcast, strangerMAC, "foreign "+name, tpid, 11, 0x8100, 10))
		far.never("outer VLAN 11 with "+name, 200*time.Millisecond, holds("foreign "+name))
	}
}

// Full frames with a tag, and too large ones, in both directions: 1518 bytes of a tagged frame are
// not oversize.
func TestVLAN_fullFramesWithATag(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris := w.site("berlin"), w.site("paris")
	berlin.knows(paris, "vlans = [10]")
	paris.knows(berlin, "vlans = [10]")
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	port, far := a.raw(), b.raw()
	full := append(header(l2.Broadcast, strangerMAC, testType, 0x8100, 10), make([]byte, 1500)...)
	copy(full[1000:], "full and tagged")
	port.send(full)
	got := far.expect("full frame", time.Second, holds("full and tagged"))
	if len(got) != len(full) || vlanOf(got) != 10 {
		t.Errorf("%d bytes in VLAN %d arrive, want %d in 10", len(got), vlanOf(got), len(full))
	}
}
