package l2

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// joinTestsTo returns the MACs of the join tests requested from each port at now, preceded by the
// VLAN number.
func joinTestsTo(s *Switch) map[PortID][]MAC {
	out := map[PortID][]MAC{}
	for _, m := range s.Tick(start).ToPeers {
		if kind, body, ok := parseControl(m.Payload); ok && kind == controlJoinTest {
			vid := binary.BigEndian.Uint16(body)
			out[m.Port] = append(out[m.Port], MAC(vid)<<48|MACFromBytes(body[2:]))
		}
	}
	return out
}

// A port is blocked only once both tests have come back, each through the other port and in its
// VLAN. Then the port of the peer with the greater public key is blocked, in that VLAN alone, and
// both peers are told.
func TestPair_whatProvesAJoin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why    string
		by     [2]PortID // where the tests requested from port 1 and port 2 come back
		vid    uint16
		blocks bool
	}{
		{"both by the other port", [2]PortID{2, 1}, 10, true},
		{"one way only", [2]PortID{2, 0}, 10, false},
		{"by the port that was asked", [2]PortID{1, 2}, 10, false},
		{"by a third", [2]PortID{3, 3}, 10, false},
		{"in another VLAN", [2]PortID{2, 1}, 20, false},
	} {
		s := newSwitch(t, Config{})
		vlans := []uint16{10, 20}
		var probers [2]*prober
		for i := range probers {
			id := PortID(i + 1)
			probers[i] = newProber(uint64(id)).keyed([16]byte{byte(id)})
			probers[i].hello.PVID = noVLAN
			probers[i].joins(t, s, id, true)
			cfg := PortConfig{Ethernet: true, VLANs: vlans, PublicKey: [32]byte{9 - byte(id)}}
			if err := s.SetPort(id, cfg); err != nil {
				t.Fatal(err)
			}
		}
		addPeer(t, s, 3, PortConfig{VLANs: vlans})
		fromPeer(s, start, 2, probers[0].frameIn(start, 10, 10))
		if asked := joinTestsTo(s); len(asked) != 0 {
			t.Errorf("%s: tests are asked on the word of one", c.why)
		}
		fromPeer(s, start, 1, probers[1].frameIn(start, 10, 10))
		if len(s.blocks) > 0 {
			t.Fatalf("%s: blocked without a test", c.why)
		}
		asked := joinTestsTo(s)
		for i, by := range c.by {
			if got := asked[PortID(i+1)]; len(got) != 1 || got[0]>>48 != 10 {
				t.Fatalf("%s: asked of port %d: %v", c.why, i+1, got)
			}
			mac := asked[PortID(i+1)][0] & Broadcast
			if by != 0 {
				fromPeer(s, at(time.Millisecond), by, appendARP(appendHeader(nil, Broadcast, mac, c.vid, true, typeARP),
					1, mac, []byte{0, 0, 0, 0}, 0, []byte{169, 254, 1, 1}))
			}
		}
		want := [][2]int(nil)
		if c.blocks {
			want = [][2]int{{1, 10}} // the greater key
		}
		if got := blockedPairs(s); !slices.Equal(got, want) {
			t.Errorf("%s: blocked %v, want %v", c.why, got, want)
		}
		told := map[PortID]byte{}
		for _, m := range s.Tick(at(time.Millisecond)).ToPeers {
			if kind, body, ok := parseControl(m.Payload); ok && kind == controlCut {
				told[m.Port] = body[2]
			}
		}
		if c.blocks && (told[1] != cutStandby || told[2] != cutActive) || !c.blocks && len(told) > 0 {
			t.Errorf("%s: told %v", c.why, told)
		}
	}
}
