package view

import (
	"maps"
	"slices"

	"tund/internal/registry/record"
)

// Replicators of a LAN of many sites.
//
// A site with the capability record.CapReplicator passes on broadcasts, multicast and frames to
// unknown hosts for leaves. If several in one VLAN did so, everything would come twice: of those
// that are in force, and present as far as leases tell, one is elected for each VLAN, the one whose
// grant precedes. The others stand by, as leaves of the one that is elected. All sites elect the
// same, because signed documents decide, and who is present.

// elect elects the replicators of all VLANs, of the sites in force and ours, and returns their
// names.
func (v *View) elect(ids []record.Site) (elected []string) {
	relays := make(map[record.Site]bool)
	taken := make(map[uint16]bool)
	for _, id := range v.candidates(ids) {
		vlans := v.sites[id].vlans()
		if slices.ContainsFunc(vlans, func(vlan uint16) bool { return taken[vlan] }) {
			continue
		}
		for _, vlan := range vlans {
			taken[vlan] = true
		}
		relays[id] = true
		elected = append(elected, v.sites[id].grant.Name)
	}
	leaf := v.o.Leaf || v.o.Replicator && !relays[v.o.Self]
	if leaf != v.leaf || !maps.Equal(relays, v.relays) {
		v.leaf, v.relays = leaf, relays
		for _, s := range v.sites {
			s.described = Peer{}
		}
	}
	slices.Sort(elected)
	return elected
}

// candidates returns the sites that would be replicators, those first that are to be preferred.
func (v *View) candidates(ids []record.Site) (list []record.Site) {
	if !v.o.Ethernet {
		return nil
	}
	self := v.sites[v.o.Self]
	// A site that has lost its own lease is no replicator for others, so not for itself either.
	if v.o.Replicator && self != nil && !self.isRevoked() && self.replicates() && (self.up || !v.o.Leases) {
		list = append(list, v.o.Self)
	}
	strict := v.o.Leases && self != nil && self.up
	for _, id := range ids {
		if s := v.sites[id]; s.replicates() && (s.up || !strict) {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b record.Site) int {
		if v.sites[a].grant.Precedes(&v.sites[b].grant) {
			return -1
		}
		return 1
	})
	return list
}

// replicates reports whether a site says that it passes on what leaves flood.
func (s *site) replicates() bool {
	return s.rec != nil && !s.rec.Gone && slices.Contains(s.rec.Capabilities, record.CapEthernet) &&
		slices.Contains(s.rec.Capabilities, record.CapReplicator)
}

// vlans returns the VLANs that a site carries; 0: untagged frames.
func (s *site) vlans() (list []uint16) {
	for _, vlan := range s.rec.VLANs {
		if slices.Contains(s.grant.VLANs, vlan) {
			list = append(list, vlan)
		}
	}
	if len(s.rec.VLANs) == 0 {
		list = []uint16{0}
	}
	return list
}
