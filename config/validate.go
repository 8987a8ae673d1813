package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/internal/names"
	"tund/internal/sizes"
)

// Ranges and defaults of the numbers in a file. docs/config.md repeats them, checked by a test.
const (
	maxLanes = 64 // queues of one TUN device that are worth having; the kernel allows 256

	minMTU = 576 // what every IPv4 host takes, RFC 791
	// The largest datagram, less IPv6, UDP and WireGuard headers.
	maxMTU     = 65535 - sizes.Overhead
	maxTable   = math.MaxUint32 // RTA_TABLE has 32 bits
	localTable = 255            // RT_TABLE_LOCAL: the kernel's own

	maxKeepalive = 65535 // seconds, as in wg(8)
	maxPriority  = 65535
	maxDSCP      = 63   // six bits, RFC 2474
	maxLiveness  = 3600 // seconds: longer than that, keepalive and traffic notice a loss sooner

	defaultAgeing         = 300 // seconds, as Linux bridges do
	minAgeing, maxAgeing  = 10, 86400
	defaultMaxMACs        = 16384 // in total
	maxMaxMACs            = 1 << 20
	defaultMaxMACsPerPeer = 256
	defaultStormLimit     = 1000 // frames per second
	maxStormLimit         = 10_000_000
	maxVLAN               = 4094 // IEEE 802.1Q §9.6: 0 and 4095 are reserved
)

// tunnel checks [tunnel].
func (l *loader) tunnel(root *section) (t Tunnel) {
	s, ok := root.table("tunnel")
	if !ok {
		if !root.has("tunnel") {
			l.errorAt(0, "no [tunnel] section, which holds the private key")
		}
		return t
	}
	t.PrivateKey = l.privateKey(s)
	t.PreviousKey = l.previousKey(s, t.PrivateKey)
	t.ListenPort = uint16(s.integer("listen_port", 0, 0, 65535))
	t.FwMark = uint32(s.integer("fwmark", 0, 0, math.MaxUint32))
	t.Offload = s.choice("offload", "auto", "off") == 0
	t.UDPOffload = s.choice("udp_offload", "auto", "off") == 0
	t.BindDevice = s.device("bind_device")
	t.DSCP = s.dscp("dscp")
	t.Lanes = int(s.integer("lanes", 0, 0, maxLanes))
	t.Cipher = Cipher(s.choice("cipher", "auto", "chacha20poly1305", "aes256gcm"))
	t.VerifyInnerChecksum = s.choice("inner_checksum", "trust", "verify") == 1
	return t
}

// dscp returns a differentiated services code point, written as a number or by a word.
func (s *section) dscp(key string) int {
	value, _ := s.value(key, spelling.Text)
	switch v := value.(type) {
	case nil:
		return 0
	case int64:
		if v >= 0 && v <= maxDSCP {
			return int(v)
		}
		s.errorAt(s.where(key), key, "%d is out of range (0 to %d)", v, maxDSCP)
	case string:
		switch v {
		case "none":
			return 0
		case "copy":
			return CopyDSCP
		}
		s.errorAt(s.where(key), key, `want "none", "copy" or a number from 0 to %d, not %s`, maxDSCP, scalar.Shown(v))
	default:
		s.wrongType(key, fmt.Sprintf(`"none", "copy" or a number from 0 to %d`, maxDSCP))
	}
	return 0
}

// tun checks [tun].
func (l *loader) tun(s *section) *Tun {
	t := &Tun{
		Device:    s.orInstance("device", s.device("device")),
		Addresses: s.addresses("address"),
		MTU:       s.mtu(),
		Routes:    s.choice("routes", "auto", "off") == 0,
		Table:     int(s.integer("table", 0, 0, maxTable)),
		Metric:    int(s.integer("metric", 0, 0, math.MaxUint32)),

		LocalNetworks: LocalNetworks(s.choice("local_networks", "private", "all", "none")),
		Guard:         Guard(s.choice("guard", "crash", "off", "always")),
		SystemRouting: s.choice("routing", "allowed_ips", "system") == 1,
		Forward:       s.boolean("forward", false),
		Masquerade:    s.boolean("masquerade", false),
	}
	t.DNS, t.DNSDomains = s.dns("dns")
	if t.SystemRouting {
		// A route for each allowed IP would compete with those of the routing daemon.
		t.Routes = false
	}
	if t.Table == localTable {
		s.errorAt(s.where("table"), "table", "255 is the kernel's own table of local addresses")
	}
	s.checkNotBound(t.Device)
	s.checkIPv6MTU(t.MTU, t.Addresses)
	return t
}

// checkNotBound reports a device of the tunnel that its own datagrams are to leave through.
func (s *section) checkNotBound(device string) {
	if device != "" && device == s.l.cfg.Tunnel.BindDevice {
		s.errorAt(s.where("device"), "device", "%s is the bind_device of [tunnel]: our datagrams cannot leave through the tunnel itself", scalar.Shown(device))
	}
}

// tap checks [tap].
func (l *loader) tap(s *section) *Tap {
	t := &Tap{
		Device:              s.device("device"),
		Bridge:              s.device("bridge"),
		BridgeVLANs:         s.bridgeVLANs("bridge_vlans"),
		BridgePVID:          int(s.integer("bridge_pvid", bridgesOwn, 0, maxVLAN)),
		Addresses:           s.addresses("address"),
		MTU:                 s.mtu(),
		Ageing:              s.seconds("ageing", defaultAgeing, minAgeing, maxAgeing),
		MaxMACs:             int(s.integer("max_macs", defaultMaxMACs, 1, maxMaxMACs)),
		MaxMACsPerPeer:      int(s.integer("max_macs_per_peer", defaultMaxMACsPerPeer, 1, maxMaxMACs)),
		BroadcastLimit:      s.stormLimit("broadcast_limit"),
		MulticastLimit:      s.stormLimit("multicast_limit"),
		UnknownUnicastLimit: s.stormLimit("unknown_unicast_limit"),
		DoubleTags:          s.boolean("double_tags", false),
		Hub:                 s.boolean("hub", false),
		BPDU:                BPDUPolicy(s.choice("bpdu", "drop", "forward", "guard")),
		MSSClamp:            s.boolean("mss_clamp", true),
		Fragment:            s.boolean("fragment", true),
		NeighborSuppression: s.boolean("neighbor_suppression", true),
		UnsuppressedVLANs:   s.vlans("unsuppressed_vlans"),
		Snooping:            s.boolean("snooping", true),
		Querier:             s.boolean("querier", false),
		Learning:            s.boolean("learning", true),
		Transparent:         s.linkProtocols("transparent"),
	}
	switch {
	case l.cfg.Tun == nil:
		t.Device = s.orInstance("device", t.Device)
	case !s.has("device"):
		s.l.errorAt(s.at.Value, "tap: device: set a name: the [tun] device has that of the instance")
	case t.Device != "" && t.Device == l.cfg.Tun.Device:
		s.errorAt(s.where("device"), "device", "%s is the name of the [tun] device", scalar.Shown(t.Device))
	}
	if !t.Learning && t.UnknownUnicastLimit != 0 {
		s.warnAt(s.where("learning"), "learning", "frames to MACs that are not pinned are held to unknown_unicast_limit, %d a second", t.UnknownUnicastLimit)
	}
	s.checkNotBound(t.Device)
	l.checkBridge(s, t)
	s.checkIPv6MTU(t.MTU, t.Addresses)
	return t
}

// checkBridge checks the bridge of [tap] against what else has a name or an address.
func (l *loader) checkBridge(s *section, t *Tap) {
	for _, key := range []string{"bridge_vlans", "bridge_pvid"} {
		if s.has(key) && t.Bridge == "" {
			s.warnAt(s.where(key), key, "no effect without bridge: it is about the device's port there")
		}
	}
	if t.Querier && !t.Snooping {
		s.errorAt(s.where("querier"), "querier", "needs snooping, which is what the answers are for")
	}
	at := s.where("bridge")
	switch {
	case t.Bridge == "":
		return
	case t.Bridge == t.Device:
		s.errorAt(at, "bridge", "%s is the name of the [tap] device itself", scalar.Shown(t.Bridge))
	case l.cfg.Tun != nil && t.Bridge == l.cfg.Tun.Device:
		s.errorAt(at, "bridge", "%s is the name of the [tun] device", scalar.Shown(t.Bridge))
	}
	if len(t.Addresses) > 0 {
		s.warnAt(s.where("address"), "address", "a bridge port is not reachable by an address of its own: put it on the bridge")
	}
}

// bridgesOwn as BridgePVID leaves that to the bridge.
const bridgesOwn = -1

// bridgeVLANs returns a list of VLANs without 0, or nil if there is no such key.
func (s *section) bridgeVLANs(key string) []uint16 {
	list := s.vlans(key)
	if slices.Contains(list, 0) {
		s.errorAt(s.where(key), key, "0 is no VLAN of a bridge: bridge_pvid is the one that is untagged at the port")
	}
	if s.has(key) && list == nil {
		return []uint16{}
	}
	return list
}

func (s *section) stormLimit(key string) int {
	limit := int(s.integer(key, defaultStormLimit, 0, maxStormLimit))
	if limit == 0 {
		s.warnAt(s.where(key), key, "0 turns storm control off")
	}
	return limit
}

func (s *section) mtu() int {
	mtu := int(s.integer("mtu", 0, 0, maxMTU))
	if mtu != 0 && mtu < minMTU {
		s.errorAt(s.where("mtu"), "mtu", "%d is out of range (0, or %d to %d)", mtu, minMTU, maxMTU)
		return 0
	}
	return mtu
}

// checkIPv6MTU reports an MTU at which IPv6 addresses cannot be.
func (s *section) checkIPv6MTU(size int, addresses []netip.Prefix) {
	if size == 0 || size >= sizes.MinIPv6MTU {
		return
	}
	for _, a := range addresses {
		if a.Addr().Is6() {
			s.errorAt(s.where("mtu"), "mtu", "%d is too small for the address %s: IPv6 needs %d", size, a, sizes.MinIPv6MTU)
			return
		}
	}
}

// orInstance returns the name that the section gives its device at key or, where it gives none,
// that of the instance.
func (s *section) orInstance(key, given string) string {
	name := s.l.cfg.Instance
	if s.has(key) {
		return given
	}
	// Characters in the name of the instance are checked where that is.
	if len(name) > names.MaxDevice {
		s.l.errorAt(s.at.Value, "%s: %s: set a name: that of the instance, %s, is longer than %d bytes",
			s.label, key, scalar.Shown(name), names.MaxDevice)
	} else if err := names.Device(name); err != nil && names.Instance(name) == nil {
		s.l.errorAt(s.at.Value, "%s: %s: set a name: that of the instance, %s, %v",
			s.label, key, scalar.Shown(name), err)
	}
	return name
}

// device returns the value of key as the name of a network device; "" where there is none.
func (s *section) device(key string) string {
	name, ok := s.text(key)
	if !ok {
		return ""
	}
	if err := names.Device(name); err != nil {
		s.errorAt(s.where(key), key, "%s %v", scalar.Shown(name), err)
		return ""
	}
	return name
}

// addresses returns the addresses of a device.
func (s *section) addresses(key string) []netip.Prefix {
	var list []netip.Prefix
	seen := make(map[netip.Addr]place)
	words, at := s.words(key)
	for i, word := range words {
		p, why := scalar.Prefix(word)
		switch {
		case why != "":
		case p.Addr().IsUnspecified():
			why = "is not the address of a device"
		case p.Addr().IsMulticast():
			why = "is a multicast address"
		case p.Addr().IsLoopback():
			why = "is a loopback address, which no peer can reach"
		default:
			why = notOfAHost(p)
		}
		if why != "" {
			s.errorAt(at[i], key, "%s %s", scalar.Shown(word), why)
			continue
		}
		if first, ok := seen[p.Addr()]; ok {
			s.errorAt(at[i], key, "%s given twice: first at %s", p.Addr(), s.l.positionOf(first))
			continue
		}
		seen[p.Addr()] = place{at: at[i]}
		list = append(list, p)
	}
	return list
}

// notOfAHost says why p stands for a network rather than for one host in it, or returns "".
// Networks of one and of two addresses have none to spare (RFC 3021, RFC 6164).
func notOfAHost(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.BitLen()-p.Bits() < 2:
		return ""
	case p.Masked() == p:
		return fmt.Sprintf("is the network itself: give the address of this host in it, such as %s/%d",
			a.Next(), p.Bits())
	case a.Is4() && !p.Contains(a.Next()):
		return "is the broadcast address of its network: give the address of this host in it"
	}
	return ""
}

// wholeFile checks what only shows when all sections are known.
func (l *loader) wholeFile() {
	v4, v6 := l.fullTunnel[0], l.fullTunnel[1]
	routed := l.cfg.Tun != nil && l.cfg.Tun.Routes
	if routed && v4 != 0 && v6 == 0 {
		l.warnAt(v4-1, "0.0.0.0/0 without ::/0: IPv6 does not go through the tunnel")
	}
	if routed && v6 != 0 && v4 == 0 {
		l.warnAt(v6-1, "::/0 without 0.0.0.0/0: IPv4 does not go through the tunnel")
	}
	l.checkEndpoints()
	if l.cfg.Tunnel.ListenPort != 0 || len(l.cfg.Peers) == 0 {
		return
	}
	for i := range l.cfg.Peers {
		if len(l.cfg.Peers[i].Endpoints) > 0 {
			return
		}
	}
	l.warnAt(0, "no peer has an endpoint and listen_port is not set: neither side can start a session")
}
