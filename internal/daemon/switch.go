package daemon

import (
	"errors"

	"tund/internal/control"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// describeSwitch adds what the Ethernet switch knows to the description of an instance.
func describeSwitch(i *control.Instance, s *tunnel.EthernetStatus) {
	i.FDBLimit = s.Limit
	for _, e := range s.Entries {
		i.FDB = append(i.FDB, control.FDBEntry{
			MAC: e.MAC.String(), VLAN: int(e.VLAN), Port: s.Names[e.Port], Kind: string(e.Kind),
			AgeS: e.Age.Seconds(), Frozen: e.Frozen > 0, Moves: e.Moves,
		})
	}
	peers := make(map[string]*control.Peer, len(i.Peers))
	for n := range i.Peers {
		peers[i.Peers[n].Name] = &i.Peers[n]
	}
	for _, p := range s.Ports {
		if p.ID == l2.LocalPort {
			for n := range i.Devices {
				if i.Devices[n].Kind == "tap" {
					addDrops(&i.Devices[n].Drops, p.Drops)
				}
			}
			continue
		}
		peer := peers[s.Names[p.ID]]
		if peer == nil {
			continue
		}
		addDrops(&peer.Drops, p.Drops)
		peer.MACs = p.Entries
		if p.Peer.Ethernet {
			peer.Capabilities = append(peer.Capabilities, "ethernet")
		}
		if p.Peer.Hub {
			peer.Capabilities = append(peer.Capabilities, "hub")
		}
	}
	for _, e := range s.Events {
		i.Warnings = append(i.Warnings, control.Warning{Kind: "switch", Subject: e.Port, Message: e.Text, Since: control.At(e.At)})
	}
}

// addDrops adds what the switch refused of a port, or for it, to what the lanes dropped. Each drop is counted by one of them.
func addDrops(sum *map[string]uint64, more map[string]uint64) {
	if *sum == nil {
		*sum = make(map[string]uint64, len(more))
	}
	for reason, n := range more {
		(*sum)[reason] += n
	}
}

// FlushFDB removes entries of the forwarding database (control.Backend).
func (d *Daemon) FlushFDB(f control.FDBFilter) (int, error) {
	filter := l2.Filter{Static: f.Static}
	if f.MAC != "" {
		mac, err := l2.ParseMAC(f.MAC)
		if err != nil {
			return 0, invalid(err)
		}
		filter.MAC = &mac
	}
	if f.VLAN != nil {
		vlan := uint16(*f.VLAN)
		filter.VLAN = &vlan
	}
	n, err := d.tunnel.FlushFDB(filter, f.Port)
	return n, switchError(err, f.Port)
}

// PinFDB adds a static entry to the forwarding database (control.Backend).
func (d *Daemon) PinFDB(p control.FDBPin) error {
	mac, err := l2.ParseMAC(p.MAC)
	if err != nil {
		return invalid(err)
	}
	return switchError(d.tunnel.PinFDB(uint16(p.VLAN), mac, p.Port), p.Port)
}

func invalid(err error) error {
	return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
}

// switchError gives an error of the switch the code that clients know.
func switchError(err error, port string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tunnel.ErrNoEthernet):
		return &control.Error{Code: control.CodeUnsupported, Message: "this instance has no [tap], and so no forwarding database"}
	case errors.Is(err, l2.ErrNoPort):
		return &control.Error{Code: control.CodeNotFound, Message: "no peer or device is called " + port}
	}
	return invalid(err)
}
