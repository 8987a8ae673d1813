package l2

import (
	"encoding/binary"
	"testing"
	"time"
)

// cutMessage returns the control message that tells the receiver its role for the sender in a VLAN.
func cutMessage(vid uint16, state byte) []byte {
	b := appendControl(nil, controlCut, cutLen)
	b = binary.BigEndian.AppendUint16(b, vid)
	return append(b, state)
}

// A peer that keeps changing what it says cannot flood the log, in however many VLANs it does so.
// The first changes are still reported, and so are those of another peer.
func TestEvent_changesOfStateAreLimited(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	events := map[PortID]int{}
	const minutes = 10
	for i := range minutes * 600 {
		now := at(time.Duration(i) * 100 * time.Millisecond)
		s.Control(now, 1, cutMessage(0, []byte{cutStandby, cutOpen}[i%2]))
		for _, e := range s.Tick(now).Events {
			events[e.Port]++
		}
	}
	if n := events[1]; n < 2*maxProbedVLANs || n > 2*maxProbedVLANs+2*minutes {
		t.Errorf("%d events of a peer in %d minutes", n, minutes)
	}
	end := at(minutes * time.Minute)
	s.Control(end, 2, cutMessage(0, cutStandby))
	if got := s.Tick(end).Events; len(got) != 1 || got[0].Kind != EventStandby || got[0].Port != 2 {
		t.Errorf("of the other peer: %v", got)
	}
}
