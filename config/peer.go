package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/internal/names"
)

// ethernetKeys are the keys of a peer that mean something only for frames.
var ethernetKeys = []string{"macs", "max_macs", "vlans", "pvid", "trust", "isolated", "bum", "neighbor_suppression",
	"broadcast_limit", "multicast_limit", "unknown_unicast_limit"}

// peer checks one [[peer]], the one of that number in the file (from 1).
func (l *loader) peer(s *section, number int) Peer {
	s.label = "peer " + strconv.Itoa(number)
	if name, ok := s.values["name"].(string); ok && scalar.Name(name) == "" {
		s.label = "peer " + strconv.Quote(name)
	}
	s.unknownKeys()
	name := l.peerName(s)
	s.publicKey = l.publicKey(s)
	p := Peer{
		Name:         name,
		PublicKey:    s.publicKey,
		PresharedKey: l.presharedKey(s),
		Endpoints:    l.peerEndpoints(s),
		AllowedIPs:   l.peerPrefixes(s),
		Keepalive:    s.seconds("keepalive", 0, 0, maxKeepalive),
		Extensions:   Extensions(s.choice("extensions", "auto", "on", "off")),
		Liveness:     s.seconds("liveness", 0, 0, maxLiveness),
		PostQuantum:  PostQuantum(s.choice("post_quantum", "prefer", "require", "off")),
		Ethernet:     s.boolean("ethernet", false),
	}
	p.Priority = s.priority
	if p.Liveness != 0 && p.Extensions == ExtensionsOff {
		s.errorAt(s.where("liveness"), "liveness", `needs extensions, which are "off" for this peer`)
	}
	if p.PostQuantum == PostQuantumRequire && p.Extensions == ExtensionsOff {
		s.errorAt(s.where("post_quantum"), "post_quantum", `"require" needs extensions, which are "off"`)
	}
	l.peerEthernet(s, &p)
	switch {
	case l.cfg.Tun == nil && len(p.AllowedIPs) > 0:
		s.warnAt(s.where("allowed_ips"), "allowed_ips", "has no effect without a [tun] section")
	case len(p.AllowedIPs) == 0 && !p.Ethernet && !s.has("allowed_ips") && !s.has("ethernet"):
		l.warnAt(s.at.Value, "%s: has neither allowed_ips nor ethernet = true: nothing is sent to it", s.label)
	}
	return p
}

// peerName returns the name that the file gives the peer, "" if none.
func (l *loader) peerName(s *section) string {
	text, ok := s.text("name")
	if !ok {
		return ""
	}
	at := s.where("name")
	if why := scalar.Name(text); why != "" {
		s.errorAt(at, "name", "%s %s", scalar.Shown(text), why)
		return ""
	}
	if first, ok := l.names[text]; ok {
		s.errorAt(at, "name", "%s is also the name of the peer at %s", scalar.Shown(text), l.positionOf(first))
	} else {
		l.names[text] = place{at: at, peer: s}
	}
	return text
}

// nameOthers names the peers that the file leaves without a name by the beginning of their key: 8
// characters, and more of them where that is taken, as it may be by keys that were made to begin
// with a word.
func (l *loader) nameOthers() {
	for i := range l.cfg.Peers {
		p := &l.cfg.Peers[i]
		if p.Name != "" {
			continue
		}
		text := p.PublicKey.String()
		for n := len(p.PublicKey.Short()); n <= len(text); n++ {
			p.Name = strings.Clone(text[:n])
			if _, taken := l.names[p.Name]; !taken {
				break
			}
		}
		l.names[p.Name] = place{}
	}
}

// peerPrefixes returns the allowed IPs of a peer, and reads its priority among those that have them
// too.
func (l *loader) peerPrefixes(s *section) []netip.Prefix {
	const key = "allowed_ips"
	var list []netip.Prefix
	words, at := s.words(key)
	s.priority = int32(s.integer("priority", 0, 0, maxPriority))
	for i, word := range words {
		p, why := scalar.Prefix(word)
		if why == "" && p.IsSingleIP() && p.Addr().IsUnspecified() {
			why = fmt.Sprintf("is not the address of a host: did you mean %s/0?", p.Addr())
		}
		if why != "" {
			s.errorAt(at[i], key, "%s %s", scalar.Shown(word), why)
			continue
		}
		if masked := p.Masked(); masked != p {
			s.warnAt(at[i], key, "%s has host bits set: %s is used, as wg(8) does", p, masked)
			p = masked
		}
		if !l.mayHave(s, p, at[i]) {
			continue
		}
		if l.isOwnAddress(p) {
			s.errorAt(at[i], key, "%s is our own address: list the addresses behind the peer", p.Addr())
		}
		if p.Bits() == 0 && p.Addr().Is4() {
			l.fullTunnel[0] = at[i] + 1
		} else if p.Bits() == 0 {
			l.fullTunnel[1] = at[i] + 1
		}
		list = append(list, p)
	}
	return list
}

// mayHave notes that the peer of s has the allowed IP p. It reports whether that is new and
// allowed: peers share one only if their priorities say which of them carries.
func (l *loader) mayHave(s *section, p netip.Prefix, at int) bool {
	const key = "allowed_ips"
	first, taken := l.allowedIPs[p]
	if !taken {
		l.allowedIPs[p] = place{at: at, peer: s}
		return true
	}
	system := l.cfg.Tun != nil && l.cfg.Tun.SystemRouting
	for _, other := range append([]place{first}, l.shared[p]...) {
		switch {
		case other.peer != s && system: // the routes of the host choose
		case other.peer == s:
			s.warnAt(at, key, "%s given twice: first at %s", p, l.positionOf(other))
			return false
		case other.peer.priority == s.priority && s.priority != 0:
			s.errorAt(at, key, "%s is also an allowed IP of %s, at %s, with the same priority %d: the higher one is to carry",
				p, other.peer.label, l.positionOf(other), s.priority)
			return false
		case other.peer.priority == s.priority:
			s.errorAt(at, key, "%s is also an allowed IP of %s, at %s; if one stands in for the other, give the preferred one a priority",
				p, other.peer.label, l.positionOf(other))
			return false
		}
	}
	l.shared[p] = append(l.shared[p], place{at: at, peer: s})
	return true
}

// isOwnAddress reports whether p is one address alone, and one of our own. A wider prefix around it
// is usual: the kernel delivers to its own addresses before it looks at routes.
func (l *loader) isOwnAddress(p netip.Prefix) bool {
	own := func(a netip.Prefix) bool { return a.Addr() == p.Addr() }
	return p.IsSingleIP() && (l.cfg.Tun != nil && slices.ContainsFunc(l.cfg.Tun.Addresses, own) ||
		l.cfg.Tap != nil && slices.ContainsFunc(l.cfg.Tap.Addresses, own))
}

// peerEthernet checks what concerns frames.
func (l *loader) peerEthernet(s *section, p *Peer) {
	if l.cfg.Tap == nil && p.Ethernet {
		s.errorAt(s.where("ethernet"), "ethernet", "there is no [tap] section")
	}
	if p.Ethernet && p.Extensions == ExtensionsOff {
		s.errorAt(s.where("extensions"), "extensions", `"off" contradicts ethernet = true, which is an extension itself`)
	}
	p.MACs = l.peerMACs(s)
	p.MaxMACs = int32(s.integer("max_macs", 0, 0, maxMaxMACs))
	if p.MaxMACs != 0 && l.cfg.Tap != nil && !l.cfg.Tap.Learning && l.cfg.Agent == nil {
		s.errorAt(s.where("max_macs"), "max_macs", "needs learning in [tap]: name the addresses in macs instead")
	}
	p.VLANs = s.vlans("vlans")
	p.PVID = uint16(s.integer("pvid", 0, 0, maxVLAN))
	if p.PVID != 0 && slices.Contains(p.VLANs, 0) {
		s.errorAt(s.where("pvid"), "pvid", "vlans has 0: untagged frames are either in a VLAN or in none")
	}
	p.TrustDHCP, p.TrustRA = s.trust("trust")
	p.BroadcastLimit = int32(s.integer("broadcast_limit", 0, 0, maxStormLimit))
	p.MulticastLimit = int32(s.integer("multicast_limit", 0, 0, maxStormLimit))
	p.UnknownUnicastLimit = int32(s.integer("unknown_unicast_limit", 0, 0, maxStormLimit))
	p.Isolated = s.boolean("isolated", false)
	if p.Isolated && l.cfg.Tap != nil && !l.cfg.Tap.Hub {
		s.warnAt(s.where("isolated"), "isolated", "no effect without hub = true in [tap]: peers exchange no frames through us")
	}
	p.NoBUM = !s.boolean("bum", true)
	p.NoSuppression = !s.boolean("neighbor_suppression", true)
	if p.Ethernet {
		return
	}
	for _, key := range ethernetKeys {
		if s.has(key) && !(s.has("ethernet") && s.values["ethernet"] != false) {
			l.errorAt(s.at.Child(key).Key, "%s: %s: needs ethernet = true", s.label, key)
		}
	}
	p.MACs, p.MaxMACs, p.VLANs, p.PVID = nil, 0, nil, 0
	p.TrustDHCP, p.TrustRA, p.Isolated, p.NoBUM, p.NoSuppression = false, false, false, false, false
	p.BroadcastLimit, p.MulticastLimit, p.UnknownUnicastLimit = 0, 0, 0
}

func (l *loader) peerMACs(s *section) []MAC {
	const key = "macs"
	var list []MAC
	words, at := s.words(key)
	for i, word := range words {
		station, err := names.Station(word)
		if err != nil {
			s.errorAt(at[i], key, "%s %v", scalar.Shown(word), err)
			continue
		}
		m := MAC(station)
		if first, ok := l.macs[m]; ok {
			s.errorAt(at[i], key, "%s is also pinned to %s, at %s", m, first.peer.label, l.positionOf(first))
			continue
		}
		l.macs[m] = place{at: at[i], peer: s}
		list = append(list, m)
	}
	return list
}

// vlans returns a list of VLANs, written as numbers and as ranges in strings, ascending and without
// repetitions. However long the list in the file is, it takes no more memory than all VLANs do.
func (s *section) vlans(key string) []uint16 {
	var given [maxVLAN + 1]bool
	for _, it := range s.list(key, `a list of numbers and ranges like "10-19"`) {
		first, last := int64(0), int64(0)
		switch v := it.value.(type) {
		case int64:
			first, last = v, v
		case string:
			from, to, _ := strings.Cut(v, "-")
			f, err1 := strconv.ParseInt(from, 10, 32)
			t, err2 := strconv.ParseInt(to, 10, 32)
			if err1 != nil || err2 != nil {
				s.errorAt(it.at, key, `%s is no range: want one like "10-19", or a number without quotes`, scalar.Shown(v))
				continue
			}
			first, last = f, t
		default:
			s.errorAt(it.at, key, `want a number or a range like "10-19", not %s`, typeName(it.value))
			continue
		}
		if first > last {
			s.errorAt(it.at, key, "%q ends before it begins", vlanRange(first, last))
			continue
		}
		if first < 0 || last > maxVLAN {
			s.errorAt(it.at, key, "%s is out of range (0 to %d)", vlanRange(first, last), maxVLAN)
			continue
		}
		for v := first; v <= last; v++ {
			given[v] = true
		}
	}
	var list []uint16
	for v, there := range given {
		if there {
			list = append(list, uint16(v))
		}
	}
	return list
}

func vlanRange(first, last int64) string {
	if first == last {
		return strconv.FormatInt(first, 10)
	}
	return strconv.FormatInt(first, 10) + "-" + strconv.FormatInt(last, 10)
}

func (s *section) trust(key string) (dhcp, ra bool) {
	words, at := s.words(key)
	for i, word := range words {
		switch word {
		case "dhcp":
			dhcp = true
		case "ra":
			ra = true
		default:
			s.errorAt(at[i], key, `want "dhcp" or "ra", not %s`, scalar.Shown(word))
		}
	}
	return dhcp, ra
}

// peerEndpoints returns the endpoint of a peer, or the list of them.
func (l *loader) peerEndpoints(s *section) []Endpoint {
	const key = "endpoint"
	var words []string
	var at []int
	value, _ := s.value(key, spelling.Text)
	switch value.(type) {
	case nil:
		return nil
	case string:
		text, _ := s.text(key)
		words, at = []string{text}, []int{s.where(key)}
	case []any:
		words, at = s.words(key)
	default:
		s.wrongType(key, "host:port, or a list of them")
	}
	var list []Endpoint
	given := make(map[Endpoint]bool)
	for i, word := range words {
		e, why := parseEndpoint(word)
		switch {
		case why != "":
			s.errorAt(at[i], key, "%s", why)
		case given[e]:
			s.warnAt(at[i], key, "%s given twice", scalar.Shown(word))
		default:
			list, given[e] = append(list, e), true
			if a, ok := e.AddrPort(); ok {
				l.literals = append(l.literals, literal{a.Addr(), s, at[i]})
			}
		}
	}
	return list
}

// ParseEndpoint reads host:port, with brackets around an IPv6 address.
func ParseEndpoint(text string) (Endpoint, error) {
	e, why := parseEndpoint(text)
	if why != "" {
		return Endpoint{}, errors.New(why)
	}
	return e, nil
}

// parseEndpoint reads host:port; why says what is wrong with it.
func parseEndpoint(text string) (e Endpoint, why string) {
	const want = " (want host:port)"
	if text == "" {
		return e, "is empty" + want
	}
	if unbracketed(text) {
		return e, "an IPv6 address needs brackets, and a port after them (want [2001:db8::1]:51820)"
	}
	host, port, err := net.SplitHostPort(text)
	switch {
	case strings.Contains(text, "://"):
		return e, scalar.Shown(text) + " is a URL" + want
	case strings.ContainsAny(text, ", ;\t"):
		return e, scalar.Shown(text) + ` has spaces or commas: want host:port, or a list: ["one:51820", "two:51820"]`
	case err != nil && (!strings.Contains(text, ":") || strings.HasSuffix(text, "]")):
		return e, "missing port" + want
	case err != nil:
		return e, scalar.Shown(text) + " is malformed (want host:port, or [address]:port for IPv6)"
	case host == "":
		return e, "missing host" + want
	case port == "":
		return e, "missing port" + want
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return e, "port " + scalar.Shown(port) + " is not a number from 1 to 65535"
	}
	host, why = scalar.Host(host, strings.HasPrefix(text, "["))
	return Endpoint{Host: host, Port: uint16(n)}, why
}

// unbracketed reports whether text is an IPv6 address without brackets, with a port or without:
// which of both cannot always be told.
func unbracketed(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Is6()
	}
	last := strings.LastIndexByte(text, ':')
	if last < 0 {
		return false
	}
	a, err := netip.ParseAddr(text[:last])
	return err == nil && a.Is6()
}
