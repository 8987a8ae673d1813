package agent

import (
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/registry/record"
)

// Of two gateways of one LAN neither takes the hosts from the other, but from other sites.
func TestHosts_ofALANWithTwoGateways(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		one := siteOf(1).String()[:4]
		share := func(list ...control.BlockedPort) {
			w.lan.mu.Lock()
			defer w.lan.mu.Unlock()
			w.lan.blocked = list
		}
		share(control.BlockedPort{Port: "s01", OurLAN: true}, control.BlockedPort{Port: "s02"})
		w.lan.hears(mac1)
		w.passes(time.Second)
		w.want("a host on our LAN", "01:0[]", "")
		w.says(1, 1, record.Station{MAC: mac1, Seq: 1})
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("the other gateway has it", "", "01@"+one+":1")
		// The port of this one is blocked, too, but not because of our LAN.
		w.says(2, 1, record.Station{MAC: mac1, Seq: 2})
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("it came back from a third site", "01:3[]", "")
		w.says(1, 2, record.Station{MAC: mac1, Seq: 4})
		share(control.BlockedPort{Port: "s01", VLAN: 7, OurLAN: true})
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("the LANs are joined in another VLAN only", "01:5[]", "")
		w.says(1, 3, record.Station{MAC: mac1, Seq: 6})
		share(control.BlockedPort{Port: siteOf(1).String()[:12], VLAN: control.AllVLANs, OurLAN: true})
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("known by its key, in all VLANs", "", "01@"+one+":6")
		share() // the other gateway is away
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("once the other gateway is away", "01:7[]", "")
	})
}

// A gateway that stands by for a site hears that site's hosts on its own LAN, where the other
// gateway has sent their frames. It leaves them where they are; the gateway in use takes those that
// have moved.
func TestHosts_ofASiteForWhichWeStandBy(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		stand := func(list ...control.StandbyPort) {
			w.lan.mu.Lock()
			defer w.lan.mu.Unlock()
			w.lan.standby = list
		}
		one := siteOf(1).String()[:4]
		w.says(1, 1, record.Station{MAC: mac1, Seq: 0})
		stand(control.StandbyPort{Port: "s01"})
		w.passes(time.Second)
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("its frames come by the other gateway", "", "01@"+one+":0")
		stand(control.StandbyPort{Port: "s01", VLAN: 7}, control.StandbyPort{Port: "s02", VLAN: control.AllVLANs})
		w.lan.hears(mac1)
		w.passes(4 * time.Minute)
		w.want("we are the gateway in use", "01:1[]", "")
	})
}

// Before the loop guard has found out that two sites serve one LAN, a host is moved twice at the
// most, and not five times, with which it would be frozen.
func TestHosts_areNotTakenBackAtOnce(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		one := siteOf(1).String()[:4]
		w.lan.hears(mac1)
		w.passes(time.Second)
		w.says(1, 1, record.Station{MAC: mac1, Seq: 1})
		w.lan.hears(mac1)
		w.passes(time.Second)
		w.want("the first time", "01:2[]", "")
		w.says(1, 2, record.Station{MAC: mac1, Seq: 3})
		for range 2 {
			w.lan.hears(mac1)
			w.passes(time.Second)
			w.want("a second time", "", "01@"+one+":3")
		}
		w.lan.hears(mac1)
		w.passes(raisePause + beat)
		w.want("later", "01:4[]", "")
	})
}
