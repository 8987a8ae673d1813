// Package control is the control API of a running instance: HTTP/1.1 and JSON over a unix socket,
// both sides.
//
// The daemon listens at <run directory>/<instance>/control.sock and answers from a Backend, which
// internal/daemon implements; tunctl and anything that speaks HTTP (curl --unix-socket) ask. The
// types in api.go, status.go and agent_api.go are the contract: fields may be added, never renamed
// or removed, and no field ever carries a secret.
//
// The package decides who may ask what, by the mode of the socket and by what
// internal/control/admission says of a caller, and bounds what asking costs. It knows nothing of
// tunnels: it does not import them, computes no rates, and cannot be reached from a network.
//
// Concurrency: a Server and a Client may be used from several goroutines. A Backend must allow that
// too.
//
// Sources: RFC 9110 for status codes.
package control

import (
	"context"
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
	// restart. A change that the configuration could not make is an *Error with CodeConfig, an
	// unknown peer one with CodeNotFound.
	ChangePeer(change PeerChange) error
	// Ping sends one echo request to a peer and waits for the answer, until the time of the request
	// is over or ctx ends. An unknown peer is an *Error with CodeNotFound, one that answers no echo
	// requests an *Error with CodeUnsupported.
	Ping(ctx context.Context, request PingRequest) (PingAnswer, error)
	// Capture begins to capture packets. A request that the instance does not understand is an
	// *Error with CodeInvalid, one for which there is no place now an *Error with CodeBusy.
	Capture(request CaptureRequest) (Capture, error)
	// Events returns what happened in the instance, which goes on to happen. It is always the same.
	Events() *events.Log
	// Sources describes what belongs to whom.
	Sources() []Source
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
	// Standby lists the peers that reach our LAN by another gateway of it.
	Standby []StandbyPort `json:"standby,omitempty"`
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
	Kind string  `json:"kind"` // "learned", "static", "local" or "control" (assigned by an agent)
	AgeS float64 `json:"age_s"`

	Frozen bool `json:"frozen"` // moved too often, held at its port for a while
	Moves  int  `json:"moves"`  // how often it changed its port lately

	// Source is who has assigned the entry: "agent", or absent.
	Source string `json:"source,omitempty"`
	Seq    uint32 `json:"seq,omitempty"`    // of an assigned entry: how often the host has moved
	Sticky bool   `json:"sticky,omitempty"` // it does not move by appearing on our own LAN
	// IPs are the addresses of the host, as ARP and neighbour discovery have shown them.
	IPs []string `json:"ips,omitempty"`
	// Advertised are those of IPs for which the host has sent neighbour advertisements, and Router
	// says that they call it a router.
	Advertised []string `json:"advertised,omitempty"`
	Router     bool     `json:"router,omitempty"`
	FrozenS    float64  `json:"frozen_s,omitempty"`
	Blocked    bool     `json:"blocked"` // its port is blocked in the VLAN by the loop guard
	// BridgePort is the port of the bridge that has a local address; only in FDBTable.
	BridgePort string `json:"bridge_port,omitempty"`
}

// BlockedPort is a port that the loop guard has blocked in a VLAN.
type BlockedPort struct {
	Port string `json:"port"` // name of a peer
	VLAN int    `json:"vlan"` // 0: untagged; AllVLANs
	// OurLAN: the LAN behind it is ours, which has two gateways: that one and this.
	OurLAN bool `json:"our_lan"`
}

// StandbyPort is a peer that reaches our LAN by another gateway in a VLAN: this one stands by for
// it. What is heard of the peer's hosts on our LAN comes from that gateway.
type StandbyPort struct {
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
	CodeConfig      Code = "config"      // 422: the configuration has faults, or would have
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
