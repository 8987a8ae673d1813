package news

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"tund/internal/events"
	"tund/tunnel"
	"tund/tunnel/ethernet"
	"tund/tunnel/l2"
)

func TestSwitch_namesHostsAndTheirConflicts(t *testing.T) {
	t.Parallel()
	const old, young = l2.MAC(0x020000000001), l2.MAC(0x020000000002)
	ip := netip.MustParseAddr("10.7.0.5")
	change := func(op l2.NeighborOp, mac, other l2.MAC) ethernet.Neighbor {
		return ethernet.Neighbor{
			NeighborChange: l2.NeighborChange{Op: op, IP: ip, VLAN: 10, MAC: mac, Port: 1, Other: other}, PortName: "berlin",
		}
	}
	vlan := 10
	want := []events.Event{
		{Kind: events.Conflict, MAC: "02:00:00:00:00:01", Port: "paris", Was: "lan", Message: "paris used the MAC"},
		{Kind: events.Switch, Port: "paris", Message: "anything else"},
		{Kind: events.Neighbor, State: "learned", MAC: "02:00:00:00:00:01", Message: "10.7.0.5 is 02:00:00:00:00:01 behind berlin"},
		{Kind: events.Neighbor, State: "moved", MAC: "02:00:00:00:00:02", Was: "02:00:00:00:00:01",
			Message: "10.7.0.5 is now 02:00:00:00:00:02 behind berlin, and was 02:00:00:00:00:01"},
		{Kind: events.Conflict, MAC: "02:00:00:00:00:02", Was: "02:00:00:00:00:01",
			Message: "10.7.0.5 is used by two hosts: 02:00:00:00:00:02 behind berlin, and 02:00:00:00:00:01"},
		{Kind: events.Neighbor, State: "gone", MAC: "02:00:00:00:00:02", Message: "10.7.0.5 is no longer known to belong to 02:00:00:00:00:02"},
	}
	log := events.New(time.Now())
	Switch(log, tunnel.EthernetNews{
		Events: []ethernet.Event{
			{Kind: l2.EventSpoof, Text: "paris used the MAC", Port: "paris", OtherPort: "lan", MAC: old, VLAN: 10},
			{Kind: l2.EventSilent, Text: "anything else", Port: "paris", VLAN: 10},
		},
		Neighbors: []ethernet.Neighbor{
			change(l2.NeighborLearned, old, 0), change(l2.NeighborMoved, young, old),
			change(l2.NeighborDisputed, young, old), change(l2.NeighborGone, young, 0),
		},
	})
	got, _, err := log.Next(context.Background(), log.Oldest(), nil)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for n, e := range got {
		w := want[n]
		if n > 1 {
			w.IP, w.Port = "10.7.0.5", "berlin"
		}
		if e.VLAN == nil || *e.VLAN != vlan {
			t.Errorf("%d: VLAN %v", n, e.VLAN)
		}
		w.N, w.Time, w.VLAN = e.N, e.Time, e.VLAN
		if e != w {
			t.Errorf("%d: %+v, want %+v", n, e, w)
		}
	}
}
