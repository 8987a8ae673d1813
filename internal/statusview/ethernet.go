package statusview

import (
	"slices"
	"time"

	"tund/internal/control"
	"tund/internal/sources"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// Place is where the bridge of the TAP has a local address.
type Place struct {
	Port string
	Idle time.Duration
}

// FDB describes the forwarding database of an instance; s is nil without a TAP device. place says
// where the bridge has an address; nil if it cannot be asked.
func FDB(instance string, s *tunnel.EthernetStatus, place func(l2.MAC, uint16) (Place, bool)) control.FDBInstance {
	if s == nil {
		return control.FDBInstance{Name: instance}
	}
	out := control.FDBInstance{Name: instance, FDB: entries(s), Limit: s.Limit}
	for _, p := range s.Ports {
		for _, vid := range p.Blocked {
			out.Blocked = append(out.Blocked, control.BlockedPort{Port: s.Names[p.ID], VLAN: int(vid), OurLAN: slices.Contains(p.OurLAN, vid)})
		}
		for _, vid := range p.Standby {
			out.Standby = append(out.Standby, control.StandbyPort{Port: s.Names[p.ID], VLAN: int(vid)})
		}
	}
	for i, e := range s.Entries {
		if place == nil || e.Port != l2.LocalPort {
			continue
		}
		if at, ok := place(e.MAC, e.VLAN); ok {
			out.FDB[i].BridgePort = at.Port
			out.FDB[i].AgeS = min(out.FDB[i].AgeS, at.Idle.Seconds())
		}
	}
	return out
}

// entries lists the forwarding database, in the order of s.Entries.
func entries(s *tunnel.EthernetStatus) []control.FDBEntry {
	var list []control.FDBEntry
	for _, e := range s.Entries {
		entry := control.FDBEntry{
			MAC: e.MAC.String(), VLAN: int(e.VLAN), Port: s.Names[e.Port], Kind: string(e.Kind),
			AgeS: e.Age.Seconds(), Frozen: e.Frozen > 0, Moves: e.Moves, FrozenS: e.Frozen.Seconds(), Blocked: e.Blocked,
		}
		if e.Kind == l2.KindAssigned {
			entry.Source, entry.Seq, entry.Sticky = sources.Agent, e.Seq, e.Sticky
		}
		for _, ip := range e.Addrs {
			entry.IPs = append(entry.IPs, ip.String())
			if slices.Contains(e.Advertised, ip) {
				entry.Advertised = append(entry.Advertised, ip.String())
			}
		}
		entry.Router = e.Router
		list = append(list, entry)
	}
	return list
}

// describeSwitch adds the state of the Ethernet switch to the description of an instance.
func describeSwitch(i *control.Instance, s *tunnel.EthernetStatus) {
	i.FDB, i.FDBLimit = entries(s), s.Limit
	i.Suppression = &control.Suppression{
		Answered: s.Suppression.Answered, Local: s.Suppression.Local, Flooded: s.Suppression.Flooded, Again: s.Suppression.Again,
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
	for n := range s.Conditions {
		c := &s.Conditions[n]
		list := &i.Warnings
		if c.Note {
			list = &i.Notes
		}
		*list = append(*list, control.Warning{
			Kind: "switch", Subject: c.Name, Message: c.Text, Remedy: c.Remedy, Cause: string(c.Kind), Since: control.At(c.Since),
		})
	}
}

// noTAP describes a peer that would exchange frames with an instance without a TAP device.
func noTAP(peer string, since time.Time) control.Warning {
	return control.Warning{
		Kind: "switch", Cause: "unwanted-ethernet", Subject: peer, Since: control.At(since),
		Message: peer + " would carry Ethernet, and there is no [tap] here",
		Remedy: "add a [tap] section and ethernet = true in [[peer]] \"" + peer + "\" here, " +
			"or take ethernet = true out of our [[peer]] section at " + peer,
	}
}

// addDrops adds the frames that the switch dropped at a port to those that the lanes dropped. Each
// drop is counted by only one of the two.
func addDrops(sum *map[string]uint64, more map[string]uint64) {
	if *sum == nil {
		*sum = make(map[string]uint64, len(more))
	}
	for reason, n := range more {
		(*sum)[reason] += n
	}
}
