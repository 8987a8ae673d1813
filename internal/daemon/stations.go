package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/internal/netwatch"
	"tund/internal/statusview"
	"tund/tunnel/ethernet"
	"tund/tunnel/l2"
)

// followBridge tells the switch what the Linux bridge of the TAP knows about the LAN, and asks the
// bridge what the switch wants to know, until ctx ends.
func (d *Daemon) followBridge(ctx context.Context, bridge *ethernet.Bridge) {
	requests := make(chan netwatch.BridgeRequest)
	d.background.Go(func() { passRequests(ctx, bridge.Requests(), requests) })
	err := netwatch.FollowBridge(ctx, d.config.Tap.Device, stations{bridge}, requests)
	if err != nil && ctx.Err() == nil {
		bridge.Lost()
		d.log.Error("cannot watch the bridge: hosts of the LAN that do not talk through the tunnel are not known", zap.Error(err))
		d.problems.Note(statusview.KindNetwork, "bridge", "hosts of the LAN that do not talk through the tunnel are not known: "+oneLine(err))
	}
}

func passRequests(ctx context.Context, from <-chan ethernet.BridgeRequest, to chan<- netwatch.BridgeRequest) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-from:
			out := netwatch.BridgeRequest{Flush: r.Flush}
			if r.Ask != nil {
				out.Ask = &netwatch.Station{VLAN: r.Ask.VLAN}
				r.Ask.MAC.Put(out.Ask.MAC[:])
			}
			select {
			case to <- out:
			case <-ctx.Done():
				return
			}
		}
	}
}

// stations translates for the switch.
type stations struct{ bridge *ethernet.Bridge }

func (s stations) Attached(all []netwatch.Station, allVLANs bool) {
	s.bridge.Sync(switchStations(all), allVLANs)
}

func (s stations) Detached()                      { s.bridge.Lost() }
func (s stations) Heard(heard []netwatch.Station) { s.bridge.Add(switchStations(heard)) }

func (s stations) Departed(st netwatch.Station, why netwatch.Departure) {
	reasons := [...]l2.Departure{
		netwatch.Moved: l2.DepartureMoved, netwatch.Aged: l2.DepartureAged, netwatch.Removed: l2.DepartureRemoved,
	}
	s.bridge.Remove(st.VLAN, l2.MACFromBytes(st.MAC[:]), reasons[why])
}

func (s stations) Answer(st netwatch.Station, known bool) {
	s.bridge.Answer(st.VLAN, l2.MACFromBytes(st.MAC[:]), st.Idle, known)
}

func switchStations(list []netwatch.Station) []l2.Station {
	out := make([]l2.Station, len(list))
	for i, st := range list {
		out[i] = l2.Station{MAC: l2.MACFromBytes(st.MAC[:]), VLAN: st.VLAN, Fixed: st.Fixed, Idle: st.Idle}
	}
	return out
}

// places returns a function that tells where the bridge of the TAP has an address; nil if it cannot
// be asked.
func (d *Daemon) places() func(l2.MAC, uint16) (statusview.Place, bool) {
	d.mu.Lock()
	tap := d.config.Tap
	d.mu.Unlock()
	if tap == nil {
		return nil
	}
	known, err := netwatch.Places(tap.Device)
	if err != nil {
		d.log.Debug("cannot read the bridge", zap.Error(err))
		return nil
	}
	return func(mac l2.MAC, vlan uint16) (statusview.Place, bool) {
		key := netwatch.StationKey{VLAN: vlan}
		mac.Put(key.MAC[:])
		p, ok := known[key]
		if !ok {
			key.VLAN = 0 // a bridge without VLAN filtering
			p, ok = known[key]
		}
		return statusview.Place(p), ok
	}
}
