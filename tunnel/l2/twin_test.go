package l2

import "testing"

// A peer that uses the node name of another must not prevent the probes of that one from being
// recognized.
func TestSwitch_twinOfANodeDoesNotHideALoop(t *testing.T) {
	for range 32 { // the order in which ports are examined is random
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		node := &Switch{node: 5, secret: [16]byte{1}}
		honest := Hello{Version: 1, Ethernet: true, MTU: 1500, Node: node.node, Secret: node.secret, Clock: second(start)}
		twin := honest
		twin.Secret = [16]byte{2}
		s.Control(start, 1, twin.Append(nil))
		s.Control(start, 2, honest.Append(nil))

		frame := appendHeader(nil, Broadcast, switchMAC(node.node), 0, false, typeProbe)
		frame = append(frame, 't', 'u', 'n', 'd', 1, 0, 0, 0)
		frame = node.appendProbe(frame, start, 0, &node.secret)
		var v Verdict
		s.FromDevice(start, Superpacket{Frame: frame}, &v)
		if s.Ports(start)[2].Blocked == nil {
			t.Fatal("the loop was not found")
		}
	}
}
