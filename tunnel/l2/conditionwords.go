package l2

import (
	"fmt"
	"strings"
)

// The words of conditions. Each names the cause, with MAC and VLAN, and the key to change.

// vlanName returns how a VLAN is written in events and conditions, as part of a sentence.
func vlanName(vid uint16) string {
	switch vid {
	case 0:
		return "untagged"
	case everyVLAN:
		return "all VLANs"
	}
	return fmt.Sprintf("VLAN %d", vid)
}

// vlanNames writes a set of VLANs: "untagged, VLANs 10, 20-29".
func vlanNames(set *vlanSet) string {
	if set.has(everyVLAN) {
		return "all VLANs"
	}
	var ranges []string
	for vid := uint16(1); vid <= maxVID; vid++ {
		if !set.has(vid) {
			continue
		}
		last := vid
		for last < maxVID && set.has(last+1) {
			last++
		}
		if ranges = append(ranges, fmt.Sprint(vid)); last > vid {
			ranges[len(ranges)-1] += fmt.Sprintf("-%d", last)
		}
		if vid = last; len(ranges) == 8 {
			ranges = append(ranges, "…")
			break
		}
	}
	var parts []string
	if set.has(0) {
		parts = append(parts, "untagged")
	}
	switch {
	case len(ranges) == 1 && !strings.Contains(ranges[0], "-"):
		parts = append(parts, "VLAN "+ranges[0])
	case len(ranges) > 0:
		parts = append(parts, "VLANs "+strings.Join(ranges, ", "))
	}
	return strings.Join(parts, ", ")
}

// example names the host of a refused frame: " (02:00:00:00:00:01, VLAN 20)".
func example(mac MAC, vid uint16) string {
	switch {
	case mac == 0:
		return ""
	case vid == noVLAN:
		return fmt.Sprintf(" (last from %v)", mac)
	}
	return fmt.Sprintf(" (last from %v, %s)", mac, vlanName(vid))
}

func silentWords(peer string) Condition {
	return Condition{
		Text:   fmt.Sprintf("%s does not answer as a tund with Ethernet: no frames are sent to it", peer),
		Remedy: fmt.Sprintf("give %s a [tap] section, or take ethernet = true out of [[peer]] %q here", peer, peer),
	}
}

func noEthernetWords(peer string) Condition {
	return Condition{
		Text: fmt.Sprintf("%s does not carry Ethernet with us: no frames are sent to it", peer),
		Remedy: fmt.Sprintf("set ethernet = true in our [[peer]] section at %s, "+
			"or take it out of [[peer]] %q here", peer, peer),
	}
}

func unwantedWords(peer string) Condition {
	return Condition{
		Text: fmt.Sprintf("%s would carry Ethernet, but ethernet = true is not set for it here", peer),
		Remedy: fmt.Sprintf("set ethernet = true in [[peer]] %q here, "+
			"or take it out of our [[peer]] section at %s", peer, peer),
	}
}

func mtuWords(peer string, theirs, ours int, last uint64) Condition {
	c := Condition{
		Text: fmt.Sprintf("%s carries frames of up to %d bytes of payload, and we up to %d: longer ones are lost",
			peer, theirs, ours),
		Remedy: "set the same mtu in [tap] at both ends",
	}
	if last != 0 && theirs < ours {
		c.MAC, c.VLAN = keyMAC(last), keyVID(last)
		c.Text += example(c.MAC, c.VLAN)
	}
	return c
}

func vlansWords(peer string, mine, theirs *vlanSet, last uint64) Condition {
	var here, there vlanSet
	for i := range mine {
		here[i], there[i] = mine[i]&^theirs[i], theirs[i]&^mine[i]
	}
	var parts, keys []string
	if here != (vlanSet{}) {
		parts = append(parts, "only here: "+vlanNames(&here))
	}
	if there != (vlanSet{}) {
		parts = append(parts, "only there: "+vlanNames(&there))
	}
	keys = append(keys, "vlans")
	if here.has(0) || there.has(0) {
		keys = append(keys, "pvid")
	}
	c := Condition{
		Text: fmt.Sprintf("%s and we do not carry the same VLANs (%s): frames in the others are refused", peer, strings.Join(parts, "; ")),
		Remedy: fmt.Sprintf("set matching %s in [[peer]] %q here and in our [[peer]] section at %s",
			strings.Join(keys, " and "), peer, peer),
	}
	if last != 0 {
		c.MAC, c.VLAN = keyMAC(last), keyVID(last)
		c.Text += example(c.MAC, c.VLAN)
	}
	return c
}

func loopWords(port, other string, here, note bool, vlans *vlanSet) Condition {
	switch {
	case !here:
		return Condition{Note: true, Text: fmt.Sprintf("%s and %s serve the same LAN: %s is in use, %s stands by and is blocked (%s)",
			port, other, other, port, vlanNames(vlans))}
	case note:
		return Condition{Note: true, Text: fmt.Sprintf("%s serves our LAN, too: the path between the two gateways is blocked (%s)",
			port, vlanNames(vlans))}
	}
	return Condition{
		Text: fmt.Sprintf("loop: the LANs of %s and %s are joined outside this tunnel: %s is blocked (%s)",
			port, other, port, vlanNames(vlans)),
		Remedy: "remove the other connection between the two LANs; if they are meant to be one LAN with two gateways, " +
			"make each gateway a peer of all other sites",
	}
}

func standbyWords(peer string, vlans *vlanSet) Condition {
	return Condition{Note: true, Text: fmt.Sprintf("%s reaches our LAN by another gateway: this one stands by for it (%s)", peer, vlanNames(vlans))}
}

func lanLoopWords(vid uint16) Condition {
	return Condition{
		VLAN:   vid,
		Text:   fmt.Sprintf("the local LAN has a loop of its own (%s): our probe came back from it", vlanName(vid)),
		Remedy: "find the two ports of the LAN that are connected with each other; stp_state 1 at the bridge breaks such loops",
	}
}

func bpduWords(peer string) Condition {
	return Condition{
		Text:   fmt.Sprintf("%s sent a spanning tree frame: blocked for %v by bpdu = \"guard\"", peer, bpduGuardTime),
		Remedy: fmt.Sprintf("keep the spanning tree of %s from its TAP, or set bpdu = \"drop\" in [tap] here", peer),
	}
}

func spoofWords(peer, owner string, mac MAC, vid uint16) Condition {
	return Condition{
		MAC: mac, VLAN: vid,
		Text:   fmt.Sprintf("%s used the MAC %v (%s) of a host that is alive behind %s: refused", peer, mac, vlanName(vid), owner),
		Remedy: fmt.Sprintf("give one of the two hosts another MAC, or find who imitates it at %s; macs = [...] pins it", peer),
	}
}

func frozenWords(port string, mac MAC, vid uint16) Condition {
	return Condition{
		MAC: mac, VLAN: vid,
		Text: fmt.Sprintf("%v (%s) moved %d times within %d s and is frozen at %s for %d s",
			mac, vlanName(vid), freezeMoves, freezeWindow, port, freezeDuration),
		Remedy: fmt.Sprintf("find the second host with this MAC, or the loop; tunctl fdb flush --mac %v ends it", mac),
	}
}

// refusalWords describes what the port refuses, or what its peer says it refuses. mu is held.
func (s *Switch) refusalWords(id PortID, r refusal, told bool) Condition {
	name, last := s.name(id), example(r.mac, r.vid)
	if told {
		return toldWords(name, last, r)
	}
	section := fmt.Sprintf("[[peer]] %q", name)
	if id == LocalPort {
		section = "[tap]"
	}
	var c Condition
	switch r.kind {
	case refusedVLAN:
		c.Text = fmt.Sprintf("%s sends frames in a VLAN that is not carried with it here%s: refused", name, last)
		c.Remedy = fmt.Sprintf("set matching vlans and pvid in %s here and in our [[peer]] section there", section)
	case refusedDoubleTag:
		c.Text = fmt.Sprintf("%s sends frames with two VLAN tags, or a service tag%s: refused", name, last)
		c.Remedy = "set double_tags = true in [tap] at both ends if the trunk carries QinQ"
	case refusedDHCP:
		c.Text = fmt.Sprintf("a DHCP server at %s answers%s: refused", name, last)
		c.Remedy = fmt.Sprintf("set trust = [\"dhcp\"] in %s here if it is to serve this LAN", section)
	case refusedRA:
		c.Text = fmt.Sprintf("a router at %s sends router advertisements or redirects%s: refused", name, last)
		c.Remedy = fmt.Sprintf("set trust = [\"ra\"] in %s here if it is to serve this LAN", section)
	case refusedBroadcast, refusedMulticast, refusedUnknown:
		what, key := stormWords(r.kind)
		c.Text = fmt.Sprintf("%s sends more than %d %s a second%s: the rest is dropped", name, s.stormLimit(id, r.kind), what, last)
		c.Remedy = fmt.Sprintf("find what sends them, or raise %s in %s here", key, section)
	case refusedMACs:
		c.Text, c.Remedy = s.macLimitWords(id, last)
	case refusedRename:
		c.Text = fmt.Sprintf("%s gives its switch another node name with each hello: refused", name)
		c.Remedy = "give each instance a private key of its own: two may run with one"
	}
	return c
}

// toldWords describes what a peer says it refuses.
func toldWords(peer, last string, r refusal) Condition {
	var c Condition
	ours := "our"
	if r.where == refusedOnLAN {
		ours = "its own LAN's"
	}
	there := fmt.Sprintf("our [[peer]] section at %s", peer)
	if r.where == refusedOnLAN {
		there = fmt.Sprintf("[tap] at %s", peer)
	}
	switch r.kind {
	case refusedVLAN:
		c.Text = fmt.Sprintf("%s refuses our frames in a VLAN that it does not carry with us%s", peer, last)
		c.Remedy = fmt.Sprintf("set matching vlans and pvid in %s and in [[peer]] %q here", there, peer)
	case refusedDoubleTag:
		c.Text = fmt.Sprintf("%s refuses %s frames with two VLAN tags, or a service tag%s", peer, ours, last)
		c.Remedy = "set double_tags = true in [tap] at both ends if the trunk carries QinQ"
	case refusedDHCP:
		c.Text = fmt.Sprintf("%s refuses the answers of our DHCP server%s", peer, last)
		c.Remedy = fmt.Sprintf("set trust = [\"dhcp\"] in %s if it is to serve that LAN", there)
	case refusedRA:
		c.Text = fmt.Sprintf("%s refuses the router advertisements or redirects of our router%s", peer, last)
		c.Remedy = fmt.Sprintf("set trust = [\"ra\"] in %s if it is to serve that LAN", there)
	case refusedBroadcast, refusedMulticast, refusedUnknown:
		what, key := stormWords(r.kind)
		c.Text = fmt.Sprintf("%s drops %s %s beyond its limit%s", peer, ours, what, last)
		c.Remedy = fmt.Sprintf("find what sends them, or raise %s in %s", key, there)
	case refusedMACs:
		c.Text = fmt.Sprintf("%s has no room for more of %s MACs%s", peer, ours, last)
		c.Remedy = fmt.Sprintf("raise max_macs in %s, or find who sends from so many addresses", there)
	case refusedFrozen:
		c.Text = fmt.Sprintf("%s refuses one of our MACs, which moved too often and is frozen elsewhere%s", peer, last)
		c.Remedy = fmt.Sprintf("find the second host with this MAC, or the loop; tunctl fdb flush --mac %v at %s ends it", r.mac, peer)
	case refusedRename:
		c.Text = fmt.Sprintf("%s refuses our hello: our node name changes too often there", peer)
		c.Remedy = "give each instance a private key of its own: two may run with ours"
	}
	return c
}

func stormWords(kind refusalKind) (what, key string) {
	switch kind {
	case refusedBroadcast:
		return "broadcasts", "broadcast_limit"
	case refusedMulticast:
		return "multicast frames", "multicast_limit"
	}
	return "frames to unknown destinations", "unknown_unicast_limit"
}

// stormLimit returns the limit of a port in frames a second. mu is held.
func (s *Switch) stormLimit(id PortID, kind refusalKind) int {
	var c PortConfig
	if p := s.ports[id]; p != nil {
		c = p.cfg
	}
	limits := s.cfg.stormLimits(&c)
	return limits[kind-refusedBroadcast]
}

func (s *Switch) macLimitWords(id PortID, last string) (text, remedy string) {
	p := s.ports[id]
	if p == nil {
		return fmt.Sprintf("the LAN has more than %d MACs%s: further ones are not learned", s.cfg.localLimit(), last),
			"raise max_macs in [tap], or find who sends from so many addresses"
	}
	name := s.name(id)
	if p.cfg.MaxMACs > 0 {
		return fmt.Sprintf("%s sends from more than %d MACs%s: further ones are refused", name, p.cfg.MaxMACs, last),
			fmt.Sprintf("raise max_macs in [[peer]] %q here, or find who sends from so many addresses", name)
	}
	return fmt.Sprintf("%s sends from more than %d MACs%s: further ones are not learned", name, s.cfg.MaxPerPort, last),
		fmt.Sprintf("raise max_macs_per_peer in [tap] or max_macs in [[peer]] %q here, or find who sends from so many addresses", name)
}
