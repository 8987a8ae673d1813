// Package config reads the TOML file of one tund instance into plain, checked values.
//
// Load reports every mistake of a file in one run, each with file, line and column, and applies all
// defaults, so that whoever uses a Config asks no further questions. It reads the file, the key
// files it names and the environment variable CREDENTIALS_DIRECTORY, and nothing else: it resolves
// no name, opens no device and changes nothing. What a Config means to the kernel and the tunnel
// is decided by internal/desired.
//
// Secrets: private and preshared keys print as "(hidden)" wherever a Config is printed, and no
// error or warning quotes a value that is, or may be, a key.
//
// There is no state: Load may be called concurrently. A Config is not changed after Load; its
// slices are shared with whoever holds it and are not to be written to.
//
// Sources: /docs/config.md (the reference for users, checked against this package by a test), TOML
// 1.1.
package config

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"tund/crypto/keys"
)

// Config is one instance: what one file says, with every default filled in.
type Config struct {
	Instance string // base name of the file without ".toml"
	Path     string // the file, as given to Load
	Tunnel   Tunnel
	Tun      *Tun   // nil: no [tun] section. At least one of Tun and Tap is set.
	Tap      *Tap   // nil: no [tap] section
	Agent    *Agent // nil: no [agent] section, and no agent.sock
	Metrics  Metrics
	Peers    []Peer

	text *packed // of the file; nil: it came from elsewhere

	// Files are the files that were read beside Path, as they were opened: those of keys.
	Files []string

	// Warnings are what deserves a word and is no error, in the order of the file.
	Warnings []Warning
}

// Tunnel is [tunnel]: the identity and the underlay, shared by both devices.
type Tunnel struct {
	PrivateKey keys.PrivateKey // from private_key, private_key_file or credential; never zero
	ListenPort uint16          // UDP port; 0: the kernel chooses
	FwMark     uint32          // mark on our datagrams; 0: none but what full-tunnel routing needs
	Offload    bool            // offload = "auto" (true) or "off" (false)
	UDPOffload bool            // udp_offload = "auto" (true) or "off" (false)
	BindDevice string          // link or VRF by which our datagrams come and go; "": any
	DSCP       int             // of our datagrams, 0 to 63; CopyDSCP
	Lanes      int             // 0: chosen from the number of processors
	Cipher     Cipher          // of data sessions

	// PreviousKey, from previous_private_key_file, is the key that peers may still know; zero:
	// none.
	PreviousKey keys.PrivateKey

	// VerifyInnerChecksum asks for TCP and UDP checksums of received packets to be verified before
	// they are handed to the kernel, rather than trusted because the peer authenticated them.
	VerifyInnerChecksum bool
}

// CopyDSCP is the value of Tunnel.DSCP for that of the packet inside.
const CopyDSCP = -1

// Tun is [tun]: the layer 3 device.
type Tun struct {
	Device string // at most 15 bytes
	// Address and length of its network: host bits are kept; no two are equal.
	Addresses []netip.Prefix
	MTU       int  // bytes; 0: smallest MTU of the ways to the endpoints, less 80
	Routes    bool // routes = "auto" (true): a route for each allowed IP
	// Routing table, 0 to 4294967295; 0: main, and policy routing for a full tunnel.
	Table  int
	Metric int // priority of the routes, 0 to 4294967295

	LocalNetworks LocalNetworks // what a full tunnel leaves to the main table
	Guard         Guard         // when traffic for allowed IPs goes nowhere

	// SystemRouting: routes of the host by way of a peer's address choose the peer, and allowed IPs
	// say only what a peer may send. Routes is false then.
	SystemRouting bool

	// DNS servers that this host asks while the instance runs, and the domains for which it does;
	// none: for all names. Domains are in the notation of resolved.conf(5).
	DNS        []netip.Addr
	DNSDomains []string

	Forward    bool // the kernel forwards between all links while the instance runs
	Masquerade bool // packets from peers leave by other links with our address
}

// Guard is a choice of when traffic for allowed IPs goes nowhere, instead of by another route.
type Guard uint8

// The choices of [tun] guard.
const (
	GuardCrash  Guard = iota // after a crash, until the instance runs again
	GuardOff                 // never
	GuardAlways              // also after a stop
)

// String returns the choice as the file writes it.
func (g Guard) String() string {
	switch g {
	case GuardCrash:
		return "crash"
	case GuardOff:
		return "off"
	case GuardAlways:
		return "always"
	}
	return "guard " + strconv.Itoa(int(g))
}

// LocalNetworks is a choice of destinations that a full tunnel leaves to the main routing table.
type LocalNetworks uint8

// The choices of [tun] local_networks.
const (
	LocalPrivate LocalNetworks = iota // private and link-local destinations
	LocalAll                          // whatever main has a route for other than the default
	LocalNone                         // nothing
)

// String returns the choice as the file writes it.
func (n LocalNetworks) String() string {
	switch n {
	case LocalPrivate:
		return "private"
	case LocalAll:
		return "all"
	case LocalNone:
		return "none"
	}
	return "local networks " + strconv.Itoa(int(n))
}

// BPDUPolicy is what the switch does with spanning tree frames that come from a peer.
type BPDUPolicy uint8

// The policies of [tap] bpdu.
const (
	BPDUDrop    BPDUPolicy = iota // discarded: each site has a spanning tree of its own
	BPDUForward                   // carried: one spanning tree over all sites
	BPDUGuard                     // discarded, and the port it came from blocked for a while
)

// String returns the policy as the file writes it.
func (p BPDUPolicy) String() string {
	switch p {
	case BPDUDrop:
		return "drop"
	case BPDUForward:
		return "forward"
	case BPDUGuard:
		return "guard"
	}
	return "bpdu policy " + strconv.Itoa(int(p))
}

// Tap is [tap]: the layer 2 device and the switch behind it.
type Tap struct {
	Device string // at most 15 bytes, not that of Tun
	Bridge string // the Linux bridge to join; "": none
	// VLANs of the port at a VLAN-aware bridge, ascending, 1 to 4094; nil: those that peers carry.
	BridgeVLANs []uint16
	// VLAN of the bridge that is untagged at the port, 1 to 4094; 0: none; negative: as the bridge
	// has it.
	BridgePVID int
	Addresses  []netip.Prefix // as in Tun; usually empty
	MTU        int            // bytes of a frame's payload; 0: that of the bridge, or 1500

	Ageing  time.Duration // how long a learned MAC is kept without being seen
	MaxMACs int           // FDB entries in total
	// Learned entries of one peer: past it nothing more is learned, and frames still pass.
	MaxMACsPerPeer int

	// Storm limits: frames per second that one port may send into the switch; 0: no limit (not: the
	// default).
	BroadcastLimit      int
	MulticastLimit      int
	UnknownUnicastLimit int

	DoubleTags bool // let frames with more than one VLAN tag pass
	Hub        bool // pass frames from one peer on to another
	BPDU       BPDUPolicy
	// Lower the MSS of TCP connections to what fits into one datagram.
	MSSClamp            bool
	Fragment            bool           // send a frame that does not fit as two datagrams
	NeighborSuppression bool           // answer ARP and ND from the snooped table
	UnsuppressedVLANs   []uint16       // VLANs in which it does not; 0: untagged
	Transparent         []LinkProtocol // link-local protocols that pass, ascending
	Learning            bool           // learn where MACs live, or know only pinned ones
	Snooping            bool           // send multicast only where IGMP or MLD asked for it
	Querier             bool           // ask for multicast groups, as long as nobody else does
}

// Extensions is a choice of whether a peer is asked for what tund peers do beyond WireGuard.
type Extensions uint8

// The choices.
const (
	ExtensionsAuto Extensions = iota // in the first session, and later if it has answered
	ExtensionsOn                     // in every session
	ExtensionsOff                    // never
)

// String returns the choice as it is written in the file.
func (e Extensions) String() string {
	switch e {
	case ExtensionsOn:
		return "on"
	case ExtensionsOff:
		return "off"
	}
	return "auto"
}

// PostQuantum is a choice of whether data sessions with a peer have a post-quantum secret.
type PostQuantum uint8

// The choices.
const (
	PostQuantumPrefer  PostQuantum = iota // if the peer can
	PostQuantumRequire                    // or no packet passes
	PostQuantumOff                        // never
)

// String returns the choice as it is written in the file.
func (p PostQuantum) String() string {
	switch p {
	case PostQuantumRequire:
		return "require"
	case PostQuantumOff:
		return "off"
	}
	return "prefer"
}

// Cipher is a choice of ciphers for data sessions.
type Cipher uint8

// The choices.
const (
	CipherAuto   Cipher = iota // the one that costs both sides least
	CipherChaCha               // ChaCha20-Poly1305 alone
	CipherAES                  // AES-256-GCM alone
)

// Peer is one [[peer]]. The order of its fields and the sizes of its numbers keep it small, because
// an instance may have 10,000 of them.
type Peer struct {
	Name         string            // unique; default: first 8 characters of the public key, or more
	PublicKey    keys.PublicKey    // unique, never zero, never our own
	PresharedKey keys.PresharedKey // zero: none
	Endpoints    []Endpoint        // tried in turn; empty: the peer calls us
	// Masked, IPv4 never mapped into IPv6. A prefix is at several peers only if these have
	// different priorities.
	AllowedIPs []netip.Prefix
	Keepalive  time.Duration // persistent keepalive, whole seconds; 0: off
	Liveness   time.Duration // interval of echo requests, whole seconds; 0: off
	// Among the peers that have the same allowed IP: the highest carries, 0 to 65535.
	Priority    int32
	Extensions  Extensions  // whether the peer is asked for what tund does beyond WireGuard
	PostQuantum PostQuantum // whether data sessions with it have a post-quantum secret

	// What follows concerns layer 2 and is zero unless Ethernet is set.

	Ethernet      bool // carries frames of [tap]
	TrustDHCP     bool // the peer may send what DHCP servers send
	TrustRA       bool // the peer may send IPv6 router advertisements
	Isolated      bool // on a hub: exchanges no frames with other isolated peers
	NoBUM         bool // broadcasts, multicast and frames to unknown MACs are not sent to it
	NoSuppression bool // ARP and ND for its hosts are not answered here
	// VLAN of the peer's untagged frames, 1 to 4094; then 0 is not in VLANs. 0: see VLANs.
	PVID uint16
	// Source addresses that the peer may use, others are refused; 0: no such limit.
	MaxMACs int32
	// Storm limits for what the peer sends, as those of Tap; 0: those.
	BroadcastLimit      int32
	MulticastLimit      int32
	UnknownUnicastLimit int32
	MACs                []MAC // pinned: the only source addresses the peer may use; empty: learned
	// VLANs carried with their tag, ascending, 1 to 4094; 0 among them: untagged frames too.
	VLANs []uint16
}

// MAC is an Ethernet address.
type MAC [6]byte

// String returns m as in 02:00:00:00:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText returns String.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Endpoint is where a peer is reached: a host, by name or address, and a UDP port.
type Endpoint struct {
	// DNS name, IPv4 address, or IPv6 address without brackets (with a zone if link-local)
	Host string
	Port uint16 // 1 to 65535
}

// String returns host:port, with brackets around an IPv6 address.
func (e Endpoint) String() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// AddrPort returns the endpoint as an address; ok is false when the host is a name, to be resolved.
func (e Endpoint) AddrPort() (addr netip.AddrPort, ok bool) {
	a, err := netip.ParseAddr(e.Host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, e.Port), true
}
