package control

import "encoding/json"

// Status is the document of `tunctl status --json` and of GET /v1/status (there with one instance).
type Status struct {
	Schema    string     `json:"schema"` // StatusSchema
	Instances []Instance `json:"instances"`
}

// Instance is one running tund.
type Instance struct {
	Name       string  `json:"name"`
	Version    string  `json:"version"`
	PID        int     `json:"pid"`
	UptimeS    float64 `json:"uptime_s"`
	PublicKey  string  `json:"public_key"`
	ListenPort int     `json:"listen_port"`

	Host string `json:"host"` // host name
	// Path of the configuration file; "" in wg-quick mode.
	Config       string `json:"config"`
	ConfigLoaded Time   `json:"config_loaded"` // when the configuration in force was read
	// ConfigError says why the last reload was refused, so the file and the running state differ;
	// "" when they agree.
	ConfigError string `json:"config_error"`
	LogLevel    string `json:"log_level"`
	FwMark      uint32 `json:"fwmark"`
	// UnderLoad: initiations are being answered with cookies now.
	UnderLoad bool `json:"under_load"`
	// Underlay says what the UDP sockets can do: "gso", "gro", "ipv6".
	Underlay []string `json:"underlay"`
	Lanes    int      `json:"lanes"`

	// Warnings are the reasons for which an operator should look, in words; empty is healthy.
	Warnings []Warning `json:"warnings"`
	// Notes are present states that are as they should be, and explain what an operator may wonder
	// about: a redundant gateway that stands by.
	Notes []Warning `json:"notes"`

	// Sources says to whom the peers belong.
	Sources []Source `json:"sources"`

	Devices []Device `json:"devices"`
	// Drops of the whole instance by the names of internal/drop, peers and devices included;
	// reasons that never occurred may be left out.
	Drops      map[string]uint64 `json:"drops"`
	Handshakes Handshakes        `json:"handshakes"` // sum over peers, and those of no peer
	Peers      []Peer            `json:"peers"`
	FDB        []FDBEntry        `json:"fdb"`
	// FDBLimit is the greatest number of FDB entries; 0 without [tap].
	FDBLimit int `json:"fdb_limit"`
	// Suppression says what neighbour suppression has saved; nil without [tap].
	Suppression *Suppression `json:"suppression,omitempty"`
}

// Suppression counts what became of broadcast ARP requests and neighbour solicitations of the LAN,
// since the start, where neighbor_suppression is on.
type Suppression struct {
	Answered uint64 `json:"answered"` // here for a host behind a peer, or sent to that peer alone
	Local    uint64 `json:"local"`    // kept on the LAN, where the host is and answers itself
	Flooded  uint64 `json:"flooded"`  // sent to the peers
	// Again is how many of Answered were sent to the peers afterwards, because the answer had to be
	// verified or was wrong.
	Again uint64 `json:"again"`
}

// Warning is one reason for attention.
type Warning struct {
	// Kind groups warnings for programs: "config", "dns", "loop", "offload", "runtime", "switch", …
	Kind string `json:"kind"`
	// Subject is the peer, device or file it is about; "" for the instance.
	Subject string `json:"subject"`
	Message string `json:"message"` // one line for people
	// Remedy says what to do about it; "" when the message says it or nothing is known to help.
	Remedy string `json:"remedy"`
	// Cause distinguishes the warnings of kind "switch": "vlans", "mtu", "guard-dhcp", …; else "".
	Cause string `json:"cause"`
	Since Time   `json:"since"`
}

// Device is one TUN or TAP device of an instance.
type Device struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"` // "tun" or "tap"
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
	// Virtio headers in use: superpackets and no inner checksums.
	Offload bool `json:"offload"`

	Up       bool     `json:"up"`
	Bridge   string   `json:"bridge"` // the Linux bridge it is a port of, or ""
	Queues   int      `json:"queues"`
	Features []string `json:"features"` // "checksum", "tso", "uso"
	// DNS has the servers and the domains that systemd-resolved is to have for the device, as
	// resolvectl(1) takes them.
	DNS []string `json:"dns"`

	// As in `ip -s link`: rx is what came out of the tunnel into this host, tx what went into the
	// tunnel.
	RxPackets uint64            `json:"rx_packets"`
	RxBytes   uint64            `json:"rx_bytes"`
	TxPackets uint64            `json:"tx_packets"`
	TxBytes   uint64            `json:"tx_bytes"`
	Drops     map[string]uint64 `json:"drops"`
}

// PeerState is what can be said of a peer in one word.
type PeerState string

// The states of a peer.
const (
	StateUp         PeerState = "up"         // a session usable now
	StateConnecting PeerState = "connecting" // a handshake is under way and has not failed yet
	StateIdle       PeerState = "idle"       // configured, no traffic wanted it yet
	StateDown       PeerState = "down"       // tried and failed; LastError says why
)

// Peer is one configured peer.
type Peer struct {
	Name          string    `json:"name"`
	PublicKey     string    `json:"public_key"`
	State         PeerState `json:"state"`
	Endpoint      string    `json:"endpoint"` // "" while unknown
	LastHandshake Time      `json:"last_handshake"`
	// Datagrams received and authenticated, headers included.
	RxBytes    uint64   `json:"rx_bytes"`
	TxBytes    uint64   `json:"tx_bytes"`
	AllowedIPs []string `json:"allowed_ips"`
	// Among peers with the same allowed IP, the highest priority that works carries. Active is
	// false while others carry all that the peer shares with them.
	Priority   int    `json:"priority"`
	Active     bool   `json:"active"`
	Ethernet   bool   `json:"ethernet"`
	KeepaliveS int    `json:"keepalive_s"` // 0: off
	LastError  string `json:"last_error"`  // why, in words; "" when nothing is wrong

	StateSince   Time `json:"state_since"`
	PresharedKey bool `json:"preshared_key"` // whether one is configured; never the key
	// Endpoints are the configured ones as written ("host:port"), in the order they are tried.
	Endpoints []string `json:"endpoints"`
	// Roamed is when the endpoint last changed by an authenticated datagram from elsewhere.
	Roamed    Time     `json:"roamed"`
	PathMTU   int      `json:"path_mtu"` // of the way to the endpoint, bytes; 0: not known
	RxPackets uint64   `json:"rx_packets"`
	TxPackets uint64   `json:"tx_packets"`
	LastRx    Time     `json:"last_rx"` // newest authenticated datagram
	Staged    int      `json:"staged"`  // packets waiting for a session
	Session   *Session `json:"session"` // the current one, or null
	// What carries packets for the peer: Suite is "" without a session. Lanes is the number of data
	// sessions, 1 also without any.
	Suite       string `json:"suite"`
	Lanes       int    `json:"lanes"`
	PostQuantum bool   `json:"post_quantum"`
	// Packets of each of our lanes, by its number; empty for a peer that has one.
	LanesDetail []Lane `json:"lanes_detail"`
	// Why there are no data sessions; "" when there are, or when nothing is known against them.
	DataSessionsError string `json:"data_sessions_error"`

	Handshake Handshakes        `json:"handshakes"`
	Drops     map[string]uint64 `json:"drops"`
	// MACs behind this peer now, and the greatest number; both 0 unless Ethernet.
	MACs    int `json:"macs"`
	MaxMACs int `json:"max_macs"`
	// RTTS is the average round trip of echo requests in seconds, and Loss the share of the last 32
	// or fewer that had no answer (0 to 1). Both are null if none was sent.
	RTTS *float64 `json:"rtt_s"`
	Loss *float64 `json:"loss"`
	// Capabilities the peer announced inside the session; empty for plain WireGuard peers.
	Capabilities []string `json:"capabilities"`
	// Source is who the peer belongs to: "file", "runtime" (tunctl, wg) or "agent".
	Source string `json:"source"`
	// Shadows: the agent has handed in a peer of the same key, which has no effect.
	Shadows bool `json:"shadows"`
}

// UnmarshalJSON takes a peer that does not say whether it is active, as older instances do, for one
// that is.
func (p *Peer) UnmarshalJSON(text []byte) error {
	type plain Peer // without this method
	v := plain{Active: true}
	err := json.Unmarshal(text, &v)
	*p = Peer(v)
	return err
}

// Lane is what one lane has carried for a peer since the peer has several.
type Lane struct {
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
}

// Session is the current session with a peer.
type Session struct {
	AgeS      float64 `json:"age_s"`
	Initiator bool    `json:"initiator"` // whether we began the handshake
	// RekeyS and RejectS are the ages at which it is replaced and refused (120 and 180).
	RekeyS     float64 `json:"rekey_s"`
	RejectS    float64 `json:"reject_s"`
	TxMessages uint64  `json:"tx_messages"`
	RxHighest  uint64  `json:"rx_highest"` // greatest counter received
	Suite      string  `json:"suite"`      // "chacha20-poly1305" or "aes-256-gcm"
}

// Handshakes counts handshake messages, those of one peer or of a whole instance.
type Handshakes struct {
	InitiationsTx uint64 `json:"initiations_tx"`
	InitiationsRx uint64 `json:"initiations_rx"` // authenticated ones
	ResponsesTx   uint64 `json:"responses_tx"`
	ResponsesRx   uint64 `json:"responses_rx"` // authenticated ones
	CookiesTx     uint64 `json:"cookies_tx"`
	CookiesRx     uint64 `json:"cookies_rx"`
	Completed     uint64 `json:"completed"` // sessions made, in either role
	Failed        uint64 `json:"failed"`    // handshakes given up or refused
	// Tries since the last session, 0 when one is in use; only for a peer.
	Tries int `json:"tries"`
}
