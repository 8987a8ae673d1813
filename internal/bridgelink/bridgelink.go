// Package bridgelink connects the switch of an instance with the Linux bridge that its TAP device
// is a port of: it tells the switch what the bridge knows about the LAN, asks the bridge what the
// switch wants to know, and tells where the bridge has an address.
//
// It translates between internal/netwatch, which follows the kernel, and tunnel/ethernet, and
// decides nothing. Its functions keep no state and are safe for concurrent use.
package bridgelink

import (
	"context"
	"sync"

	"tund/internal/netwatch"
	"tund/internal/statusview"
	"tund/tunnel/ethernet"
	"tund/tunnel/l2"
)

// Follow connects the bridge of the TAP device with the switch until ctx ends, or until it can no
// longer follow the bridge; the error says why. The switch then knows nothing of the LAN but what
// it learns itself.
func Follow(ctx context.Context, device string, bridge *ethernet.Bridge) error {
	ctx, cancel := context.WithCancel(ctx)
	requests := make(chan netwatch.BridgeRequest)
	var passing sync.WaitGroup
	defer passing.Wait()
	defer cancel()
	passing.Go(func() { passRequests(ctx, bridge.Requests(), requests) })
	err := netwatch.FollowBridge(ctx, device, stations{bridge}, requests)
	if err != nil && ctx.Err() == nil {
		bridge.Lost()
	}
	return err
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

// Places returns a function that tells where the bridge of the TAP device has an address now. It
// asks the kernel once.
func Places(device string) (func(l2.MAC, uint16) (statusview.Place, bool), error) {
	known, err := netwatch.Places(device)
	if err != nil {
		return nil, err
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
	}, nil
}
