package config

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/crypto/keys"
)

// ethernetKeys are the keys of a peer that mean something only for frames.
var ethernetKeys = []string{"macs", "max_macs", "vlans", "pvid", "trust"}

// peer checks one [[peer]], the one of that number in the file (from 1).
func (l *loader) peer(s *section, number int) Peer {
	s.label = "peer " + strconv.Itoa(number)
	if name, ok := s.values["name"].(string); ok && checkName(name) == "" {
		s.label = "peer " + strconv.Quote(name)
	}
	s.unknownKeys()
	p := Peer{
		Name:         l.peerName(s),
		PublicKey:    l.publicKey(s),
		PresharedKey: l.presharedKey(s),
		Endpoints:    l.peerEndpoints(s),
		AllowedIPs:   l.peerPrefixes(s),
		Keepalive:    time.Duration(s.integer("keepalive", 0, 0, maxKeepalive)) * time.Second,
		Ethernet:     s.boolean("ethernet", false),
	}
	l.peerEthernet(s, &p)
	switch {
	case l.cfg.Tun == nil && len(p.AllowedIPs) > 0:
		s.warnAt(s.where("allowed_ips"), "allowed_ips", "without [tun] they mean nothing")
	case len(p.AllowedIPs) == 0 && !p.Ethernet && !s.has("allowed_ips") && !s.has("ethernet"):
		l.warnAt(s.at.value, "%s: has neither allowed_ips nor ethernet = true: nothing is sent to it", s.label)
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
	if why := checkName(text); why != "" {
		s.errorAt(at, "name", "%s %s", shown(text), why)
		return ""
	}
	if first, ok := l.names[text]; ok {
		s.errorAt(at, "name", "%s is also the name of the peer at %s", shown(text), l.positionOf(first))
	} else {
		l.names[text] = place{at: at, peer: s}
	}
	return text
}

// nameOthers names the peers that the file leaves without a name by the beginning of their key: 8 characters,
// and more of them where that is taken, as it may be by keys that were made to begin with a word.
func (l *loader) nameOthers() {
	for i := range l.cfg.Peers {
		p := &l.cfg.Peers[i]
		if p.Name != "" {
			continue
		}
		text := p.PublicKey.String()
		for n := len(p.PublicKey.Short()); n <= len(text); n++ {
			p.Name = text[:n]
			if _, taken := l.names[p.Name]; !taken {
				break
			}
		}
		l.names[p.Name] = place{}
	}
}

func (l *loader) publicKey(s *section) (key keys.PublicKey) {
	text, ok := s.text("public_key")
	if !s.has("public_key") {
		l.errorAt(s.at.value, "%s: public_key: missing", s.label)
	}
	if !ok {
		return key
	}
	at := s.where("public_key")
	key, err := keys.ParsePublic(text)
	switch {
	case err != nil:
		s.errorAt(at, "public_key", "%v", err)
		return keys.PublicKey{}
	case key.IsZero():
		s.errorAt(at, "public_key", "is all zero")
		return key
	case key == l.ownKey:
		s.errorAt(at, "public_key", "is our own, that of the private key at %s", l.positionOf(place{at: l.privateKeyAt}))
	}
	if first, ok := l.keys[key]; ok {
		s.errorAt(at, "public_key", "is also that of %s at %s", first.peer.label, l.positionOf(first))
	} else {
		l.keys[key] = place{at: at, peer: s}
	}
	return key
}

func (l *loader) presharedKey(s *section) keys.PresharedKey {
	key := s.oneOf("preshared_key", "preshared_key_file")
	if key == "" {
		return keys.PresharedKey{}
	}
	src := s.secretSource(key)
	errs := len(l.errs)
	psk := readSecret(s, key, src, keys.ParsePreshared)
	if len(l.errs) == errs && psk.IsZero() {
		s.warnAt(src.at, key, "is all zero, which is the same as none")
	}
	return psk
}

// peerPrefixes returns the allowed IPs of a peer.
func (l *loader) peerPrefixes(s *section) []netip.Prefix {
	const key = "allowed_ips"
	var list []netip.Prefix
	words, at := s.words(key)
	for i, word := range words {
		p, why := parsePrefix(word)
		if why != "" {
			s.errorAt(at[i], key, "%s %s", shown(word), why)
			continue
		}
		if masked := p.Masked(); masked != p {
			s.warnAt(at[i], key, "%s has bits behind its length set: read as %s", p, masked)
			p = masked
		}
		if first, ok := l.allowedIPs[p]; ok && first.peer == s {
			s.warnAt(at[i], key, "%s given twice: first at %s", p, l.positionOf(first))
			continue
		} else if ok {
			s.errorAt(at[i], key, "%s is also at %s, at %s", p, first.peer.label, l.positionOf(first))
			continue
		}
		l.allowedIPs[p] = place{at: at[i], peer: s}
		l.checkAllowed(s, p, at[i])
		list = append(list, p)
	}
	return list
}

// checkAllowed looks at an allowed IP beside our own addresses, and remembers the full-tunnel ones.
func (l *loader) checkAllowed(s *section, p netip.Prefix, at int) {
	if p.Bits() == 0 && p.Addr().Is4() {
		l.fullTunnel[0] = at + 1
	} else if p.Bits() == 0 {
		l.fullTunnel[1] = at + 1
	}
	if l.cfg.Tun == nil || !p.IsSingleIP() {
		return
	}
	for _, a := range l.cfg.Tun.Addresses {
		if a.Addr() == p.Addr() {
			s.warnAt(at, "allowed_ips", "%s is our own address", p.Addr())
		}
	}
}

// peerEthernet checks what concerns frames.
func (l *loader) peerEthernet(s *section, p *Peer) {
	if l.cfg.Tap == nil && p.Ethernet {
		s.errorAt(s.where("ethernet"), "ethernet", "there is no [tap] section")
	}
	p.MACs = l.peerMACs(s)
	p.MaxMACs = int(s.integer("max_macs", 0, 0, maxMaxMACs))
	p.VLANs = s.vlans("vlans")
	p.PVID = uint16(s.integer("pvid", 0, 0, maxVLAN))
	if p.PVID != 0 && slices.Contains(p.VLANs, 0) {
		s.errorAt(s.where("pvid"), "pvid", "vlans has 0: untagged frames are either in a VLAN or in none")
	}
	p.TrustDHCP, p.TrustRA = s.trust("trust")
	if p.Ethernet {
		return
	}
	for _, key := range ethernetKeys {
		if s.has(key) && !(s.has("ethernet") && s.values["ethernet"] != false) {
			l.errorAt(s.at.child(key).key, "%s: %s: needs ethernet = true", s.label, key)
		}
	}
	p.MACs, p.MaxMACs, p.VLANs, p.PVID = nil, 0, nil, 0
	p.TrustDHCP, p.TrustRA = false, false
}

func (l *loader) peerMACs(s *section) []MAC {
	const key = "macs"
	var list []MAC
	words, at := s.words(key)
	for i, word := range words {
		m, why := parseMAC(word)
		if why != "" {
			s.errorAt(at[i], key, "%s %s", shown(word), why)
			continue
		}
		if first, ok := l.macs[m]; ok {
			s.errorAt(at[i], key, "%s is also at %s, at %s", m, first.peer.label, l.positionOf(first))
			continue
		}
		l.macs[m] = place{at: at[i], peer: s}
		list = append(list, m)
	}
	return list
}

// vlans returns a list of VLANs, written as numbers and as ranges in strings, ascending and without repetitions.
func (s *section) vlans(key string) []uint16 {
	var list []uint16
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
				s.errorAt(it.at, key, `%s is no range: want one like "10-19", or a number without quotes`, shown(v))
				continue
			}
			first, last = f, t
		default:
			s.errorAt(it.at, key, `want a number or a range like "10-19", not %s`, typeName(it.value))
			continue
		}
		if first < 0 || last > maxVLAN || first > last {
			s.errorAt(it.at, key, "%s is out of range (0 to %d)", vlanRange(first, last), maxVLAN)
			continue
		}
		for v := first; v <= last; v++ {
			list = append(list, uint16(v))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
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
			s.errorAt(at[i], key, `want "dhcp" or "ra", not %s`, shown(word))
		}
	}
	return dhcp, ra
}

// peerEndpoints returns the endpoint of a peer, or the list of them.
func (l *loader) peerEndpoints(s *section) []Endpoint {
	const key = "endpoint"
	var words []string
	var at []int
	value, _ := s.value(key)
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		words, at = []string{v}, []int{s.where(key)}
	case []any:
		words, at = s.words(key)
	default:
		s.wrongType(key, "host:port, or a list of them")
	}
	var list []Endpoint
	for i, word := range words {
		e, why := parseEndpoint(word)
		switch {
		case why != "":
			s.errorAt(at[i], key, "%s", why)
		case slices.Contains(list, e):
			s.warnAt(at[i], key, "%s given twice", shown(word))
		default:
			list = append(list, e)
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
	if a, err := netip.ParseAddr(text); err == nil && a.Is6() {
		return e, "missing brackets around an IPv6 address, or port (want [2001:db8::1]:51820)"
	}
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil && (!strings.Contains(text, ":") || strings.HasSuffix(text, "]")):
		return e, "missing port" + want
	case err != nil:
		return e, shown(text) + " is malformed (want host:port, or [address]:port for IPv6)"
	case host == "":
		return e, "missing host" + want
	case port == "":
		return e, "missing port" + want
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return e, "port " + shown(port) + " is not a number from 1 to 65535"
	}
	host, why = checkHost(host, strings.HasPrefix(text, "["))
	return Endpoint{Host: host, Port: uint16(n)}, why
}
