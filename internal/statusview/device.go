package statusview

import (
	"slices"

	"tund/internal/control"
	"tund/internal/desired"
	"tund/tunnel"
)

// device describes one device.
func (v *View) device(s *tunnel.DeviceStatus) control.Device {
	out := control.Device{
		Name: s.Name, Kind: s.Kind.String(), Queues: s.Queues, MTU: s.MTU, Offload: s.Features.Checksum,
		Addresses: []string{}, Drops: s.Drops, DNS: []string{},
		RxPackets: s.RxPackets, RxBytes: s.RxBytes, TxPackets: s.TxPackets, TxBytes: s.TxBytes,
	}
	if c := v.Config.Tun; c != nil && c.Device == s.Name && len(c.DNS) > 0 {
		out.DNS = desired.DNS(v.Config).Words()
	}
	for name, on := range map[string]bool{"checksum": s.Features.Checksum, "tso": s.Features.TSO, "uso": s.Features.USO} {
		if on {
			out.Features = append(out.Features, name)
		}
	}
	slices.Sort(out.Features)
	for _, dev := range v.Applied.Devices {
		if dev.Name == s.Name {
			for _, a := range dev.Addrs {
				out.Addresses = append(out.Addresses, a.String())
			}
			out.Up, out.Bridge = dev.Up, dev.Bridge
		}
	}
	if l, seen := v.Links[s.Name]; seen {
		out.Up = l.Up
		if len(v.Applied.Devices) == 0 { // the device was configured by others
			for _, a := range l.Addrs {
				out.Addresses = append(out.Addresses, a.String())
			}
		}
	}
	return out
}
