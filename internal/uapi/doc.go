// Package uapi speaks WireGuard's cross-platform configuration protocol, so that wg(8),
// wg-quick(8), wgctrl and everything built on them work on a device of tund as on any other.
//
// parse.go reads a request and format.go writes an answer: bytes in, values out, no side effects.
// server.go owns the socket /var/run/wireguard/<device>.sock and its connections. What a request
// means to the running instance is decided by a Backend (internal/daemon). The package sets no
// addresses or routes, and resolves no names: the protocol has none.
//
// Three things are better than the protocol asks, and cannot hurt any client:
//
//   - a set request is read and checked whole before any of it is applied, so a bad line changes
//     nothing;
//   - a connection that is silent or stops half-way is given up, first of all when others want its
//     place;
//   - peers are listed in the order in which they were configured.
//
// Concurrency: a Server answers connections side by side; the Backend serializes what must be.
//
// Sources: https://www.wireguard.com/xplatform/; wireguard-tools src/ipc-uapi.h; wgctrl-go
// internal/wguser; wireguard-go device/uapi.go for the numbers of errors.
package uapi

import (
	"tund/crypto/keys"
	"tund/tunnel"
)

// Dir is where clients look for sockets; wg(8) has it compiled in.
const Dir = "/var/run/wireguard"

// Request is what a set request asks for, checked.
type Request struct {
	tunnel.Change
	ListenPort *uint16 // nil: unchanged; 0: let the kernel choose one
	FwMark     *uint32 // nil: unchanged; 0: none
}

// Device is what a get request is answered with. Both kinds of secret are in it: the socket is for
// root only.
type Device struct {
	PrivateKey keys.PrivateKey
	ListenPort uint16 // 0: not bound yet
	FwMark     uint32
	Peers      []tunnel.PeerStatus // in a stable order
}

// Backend is the instance behind the socket. It is called from several goroutines at once.
type Backend interface {
	// Get describes the device.
	Get() Device
	// Set applies a request, all of it or, with an error, none. An *Error says which number the
	// client gets to see.
	Set(Request) error
}

// Error is a failure as the protocol tells it: a number of errno(3).
type Error struct {
	Errno   int64 // positive
	Message string
}

// Error returns the message, which holds no secret.
func (e *Error) Error() string { return e.Message }

// The numbers a client can get to see, as wireguard-go uses them.
const (
	errnoIO      = 5  // EIO: the request could not be read
	errnoTooBig  = 7  // E2BIG: the request is longer than maxRequest
	errnoInvalid = 22 // EINVAL: a key or value that is not one, or that is not possible
	errnoUnknown = 55 // anything else
	errnoFormat  = 71 // EPROTO: a line without "="
	errnoInUse   = 98 // EADDRINUSE: the UDP port could not be bound, or the mark not set
)

// ErrInvalid makes the error of a request that asks for something impossible.
func ErrInvalid(message string) *Error { return &Error{errnoInvalid, message} }

// ErrInUse makes the error of a UDP port that could not be bound or a mark that could not be set.
// wireguard-go answers with this number whatever the reason was; the message has the reason.
func ErrInUse(message string) *Error { return &Error{errnoInUse, message} }
