// Package control is the control API of a running instance: HTTP/1.1 and JSON over a unix socket,
// both sides.
//
// The daemon listens at <run directory>/<instance>/control.sock and answers from a Backend, which
// internal/daemon implements; tunctl and anything that speaks HTTP (curl --unix-socket) ask. The
// types in api.go are the contract: fields may be added, never renamed or removed, and no field
// ever carries a secret.
//
// The package decides who may ask (by the socket's mode, and by SO_PEERCRED for verbs that change
// something) and bounds what asking costs. It knows nothing of tunnels: it does not import them,
// computes no rates, and cannot be reached from a network.
//
// Concurrency: a Server and a Client may be used from several goroutines. A Backend must allow that
// too.
//
// Sources: unix(7) for SO_PEERCRED, flock(2) for the lock beside the socket, RFC 9110 for status
// codes.
package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tund/internal/events"
)

// Schema names of the documents; a program that reads them checks these first.
const (
	StatusSchema = "tund.status/v1" // Status
	FDBSchema    = "tund.fdb/v1"    // FDBTable
	RoutesSchema = "tund.routes/v1" // RouteTable
)

// Backend is the running instance as the control API sees it.
//
// Methods are called from several goroutines at once and should return within a few seconds. An
// error that is an *Error keeps its code on the way to the client; any other becomes CodeInternal.
// Text of an error is shown to the user as it is, so it must hold no secret.
type Backend interface {
	// Status describes the instance as it is now. Slices and maps in it belong to the caller; nil
	// ones are shown as empty.
	Status() Instance
	// FDB describes the forwarding database alone; it is empty without [tap].
	FDB() FDBInstance
	// Reload reads the configuration file again and applies what changed. A file with faults, and
	// one that cannot be applied to a running instance, is an *Error with CodeConfig whose message
	// holds every reason, one per line; the old configuration stays in force then. Any other error
	// says what the kernel refused of the new one, which is in force. With confirm, the former
	// configuration comes back after that time unless Confirm is called, and at once, with
	// CodeConfig, if the kernel refuses anything.
	Reload(confirm time.Duration) error
	// Confirm keeps what a reload with confirm has put in force. If nothing waits for that it is an
	// *Error with CodeInvalid.
	Confirm() error
	// LogLevel returns the level in force: debug, info, warn or error.
	LogLevel() string
	// SetLogLevel changes it at run time; the level has been checked with ValidLogLevel.
	SetLogLevel(level string) error
	// FlushFDB removes the entries that filter selects and returns how many they were. Without
	// [tap] it is an *Error with CodeUnsupported.
	FlushFDB(filter FDBFilter) (int, error)
	// PinFDB adds a static entry, or moves one. An unknown port is an *Error with CodeNotFound;
	// without [tap] it is one with CodeUnsupported.
	PinFDB(pin FDBPin) error
	// Routes compares what the instance wants in the kernel's network configuration with what is
	// there now.
	Routes() (RouteInstance, error)
	// ChangePeer adds, changes or removes a peer, with its routes, until the next reload or
	// restart. A change that the configuration could not make is an *Error with CodeInvalid, an
	// unknown peer one with CodeNotFound.
	ChangePeer(change PeerChange) error
	// Ping sends one echo request to a peer and waits for the answer, until the time of the request
	// is over or ctx ends. An unknown peer is an *Error with CodeNotFound, one that answers no echo
	// requests an *Error with CodeUnsupported.
	Ping(ctx context.Context, request PingRequest) (PingAnswer, error)
	// Events returns what happened in the instance, which goes on to happen. It is always the same.
	Events() *events.Log
	// Sources describes what belongs to whom.
	Sources() []Source
}

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
	Answered uint64 `json:"answered"` // here, on behalf of a host behind a peer
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

// FDBTable is the document of `tunctl fdb --json` and of GET /v1/fdb (there with one instance).
type FDBTable struct {
	Schema    string        `json:"schema"` // FDBSchema
	Instances []FDBInstance `json:"instances"`
}

// FDBInstance is the forwarding database of one instance.
type FDBInstance struct {
	Name  string     `json:"name"`
	FDB   []FDBEntry `json:"fdb"`
	Limit int        `json:"fdb_limit"`
	// Blocked lists the ports that the loop guard has blocked.
	Blocked []BlockedPort `json:"blocked,omitempty"`
}

// RouteTable is the document of `tunctl routes --json` and of GET /v1/routes (there with one
// instance).
type RouteTable struct {
	Schema    string          `json:"schema"` // RoutesSchema
	Instances []RouteInstance `json:"instances"`
}

// RouteInstance is what one instance wants in the kernel, and has there.
type RouteInstance struct {
	Name    string        `json:"name"`
	Objects []RouteObject `json:"objects"`
	// Warnings name what is left out on purpose, one sentence each.
	Warnings []string `json:"warnings"`
}

// RouteObject is a route, or something else that goes with it.
type RouteObject struct {
	Kind   string `json:"kind"`   // "route", "rule", "address", "link", "bridge", "nft" or "sysctl"
	Object string `json:"object"` // what ip(8) calls it, without the kind
	// State is "present", "missing", "refused" (by the kernel, when it was tried last) or "surplus"
	// (there by our mark, and not wanted).
	State string `json:"state"`
}

// AllVLANs in FDBEntry.VLAN stands for every VLAN: an address of macs = [...] is pinned in all of
// them.
const AllVLANs = 4095

// FDBEntry is one entry of the forwarding database.
type FDBEntry struct {
	MAC  string  `json:"mac"`  // lower case, colons
	VLAN int     `json:"vlan"` // 0: untagged
	Port string  `json:"port"` // name of a peer, or of the TAP device
	Kind string  `json:"kind"` // "learned", "static" or "local"
	AgeS float64 `json:"age_s"`

	Frozen bool `json:"frozen"` // moved too often, held at its port for a while
	Moves  int  `json:"moves"`  // how often it changed its port lately

	// IPs are the addresses of the host, as ARP and neighbour discovery have shown them.
	IPs     []string `json:"ips,omitempty"`
	FrozenS float64  `json:"frozen_s,omitempty"`
	Blocked bool     `json:"blocked"` // its port is blocked in the VLAN by the loop guard
	// BridgePort is the port of the bridge that has a local address; only in FDBTable.
	BridgePort string `json:"bridge_port,omitempty"`
}

// BlockedPort is a port that the loop guard has blocked in a VLAN.
type BlockedPort struct {
	Port string `json:"port"` // name of a peer
	VLAN int    `json:"vlan"` // 0: untagged; AllVLANs
}

// FDBFilter selects FDB entries to remove. The zero value selects all learned ones; each field that
// is set narrows it.
type FDBFilter struct {
	MAC  string `json:"mac,omitempty"`  // lower case, colons
	Port string `json:"port,omitempty"` // name of a peer, or of the TAP device
	VLAN *int   `json:"vlan,omitempty"` // nil: any
	// Static selects pinned entries instead of learned ones.
	Static bool `json:"static,omitempty"`
}

// FDBPin is a static entry to add: frames to MAC go to Port, whatever is learned later.
type FDBPin struct {
	MAC  string `json:"mac"`
	VLAN int    `json:"vlan"` // 0: untagged
	Port string `json:"port"`
}

// PeerChange is a change of one peer. It may hold a preshared key, and prints without its values.
type PeerChange struct {
	Op   string `json:"op"`   // "add", "set" or "remove"
	Peer string `json:"peer"` // name or public key of the peer to change or remove; "" to add one
	// Values are keys of [[peer]] and what the configuration would say there; null takes a key
	// away. Numbers are whole. Not for "remove".
	Values map[string]any `json:"values,omitempty"`
}

// Format hides the values.
func (c PeerChange) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s peer %s (hidden)", c.Op, c.Peer)
}

// Time is a point in time that is null in JSON when it never came. Otherwise it is RFC 3339, in
// UTC, to the second.
type Time struct{ time.Time }

// At makes a Time; the zero time stays "never".
func At(t time.Time) Time { return Time{t} }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(t.UTC().Format(`"` + time.RFC3339 + `"`)), nil
}

// ValidLogLevel reports whether level is one of those that can be set.
func ValidLogLevel(level string) bool {
	switch level {
	case "debug", "info", "warn", "error":
		return true
	}
	return false
}

// Code says what kind of failure an answer reports; programs branch on it, people read the message.
type Code string

// The codes, each with the HTTP status it travels with.
const (
	CodeInvalid     Code = "invalid"     // 400: the request is malformed
	CodePermission  Code = "permission"  // 403: the caller may not use this verb
	CodeNotFound    Code = "not-found"   // 404: no such path, peer or entry
	CodeMethod      Code = "method"      // 405
	CodeUnsupported Code = "unsupported" // 409: not with this configuration (no [tap], …)
	CodeGone        Code = "gone"        // 410: events that are not remembered
	CodeTooLarge    Code = "too-large"   // 413
	CodeGeneration  Code = "generation"  // 409: the change starts from a state that is not in force
	CodeConfig      Code = "config"      // 422: the configuration file has faults
	CodeInternal    Code = "internal"    // 500
	CodeBusy        Code = "busy"        // 503: too many connections
)

// Error is a failure as it travels over the control socket.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error returns the message alone; the code is for programs.
func (e *Error) Error() string { return e.Message }
