// Package stream is what a daemon sends to a program that captures packets: a sequence of records
// in the order in which they lie in the daemon's rings, so that the daemon copies them without
// looking at them again.
//
// A record is a header of HeaderSize bytes and a payload, padded to a multiple of Align bytes. All
// numbers are little endian. The first record is a KindStart, the last a KindEnd; a stream without
// that was cut off.
//
// The package lays records out and takes them apart. It knows no socket and no file format
// (internal/capture/pcapng). Functions are safe for concurrent use, a Reader is not.
package stream

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Schema names the format, in Start. It changes with the meaning of anything below.
const Schema = "tund.capture/v1"

// Kind says what the payload of a record is.
type Kind uint8

// The kinds.
const (
	KindStart  Kind = iota + 1 // Start, in JSON
	KindPeer                   // a public key (32 bytes) and a name: who a slot stands for
	KindPacket                 // a packet, or its first bytes
	KindMark                   // Mark, in JSON: everything until a time has been sent
	KindSecret                 // the keys of a handshake: see Secret
	KindEnd                    // why the capture ends, in words
	KindPad                    // nothing: the end of a ring
)

// Flags of a packet.
const (
	In    = 1 << iota // from the peer; otherwise to it
	Waits             // it waits for a session
)

// Sizes in bytes.
const (
	HeaderSize = 32
	// Align is such that the rest of a ring, whose size is a multiple of it, has room for a header.
	Align = HeaderSize
	// MaxPayload bounds the payload of a record: a packet of 64 KB with its Ethernet header and
	// tags, and room to spare.
	MaxPayload = 128 << 10
)

// Header begins each record. Fields that do not apply to its kind are zero.
type Header struct {
	Kind      Kind
	Flags     uint8
	Interface uint8  // index in Start.Interfaces
	Ring      uint8  // the ring of the daemon, which has its own numbers of peers
	Time      int64  // CLOCK_BOOTTIME, nanoseconds
	Payload   uint32 // bytes
	Length    uint32 // bytes of the packet before it was cut to the snap length
	Peer      uint16 // slot of a peer, counted from 1; 0: none, or unknown
	Segments  uint16 // packets of which the packet consists (GSO)
	Reason    uint16 // index in Start.Reasons; 0: it was not dropped
}

// Size returns the length of a record with n bytes of payload.
func Size(n int) int { return (HeaderSize + n + Align - 1) &^ (Align - 1) }

// Put writes a header to b, which has at least HeaderSize bytes.
func (h *Header) Put(b []byte) {
	le := binary.LittleEndian
	_ = b[HeaderSize-1]
	b[0], b[1], b[2], b[3] = byte(h.Kind), h.Flags, h.Interface, h.Ring
	le.PutUint32(b[4:], h.Payload)
	le.PutUint64(b[8:], uint64(h.Time))
	le.PutUint32(b[16:], h.Length)
	le.PutUint16(b[20:], h.Peer)
	le.PutUint16(b[22:], h.Segments)
	le.PutUint16(b[24:], h.Reason)
	clear(b[26:HeaderSize])
}

// parse reads a header.
func (h *Header) parse(b []byte) {
	le := binary.LittleEndian
	*h = Header{
		Kind: Kind(b[0]), Flags: b[1], Interface: b[2], Ring: b[3], Payload: le.Uint32(b[4:]), Time: int64(le.Uint64(b[8:])),
		Length: le.Uint32(b[16:]), Peer: le.Uint16(b[20:]), Segments: le.Uint16(b[22:]), Reason: le.Uint16(b[24:]),
	}
}

// Append appends a whole record to b.
func Append(b []byte, h Header, payload []byte) []byte {
	h.Payload = uint32(len(payload))
	n := Size(len(payload))
	b = slices.Grow(b, n)
	start := len(b)
	b = b[:start+n]
	h.Put(b[start:])
	clear(b[start+HeaderSize+copy(b[start+HeaderSize:], payload):])
	return b
}

// Start describes a capture.
type Start struct {
	Schema     string      `json:"schema"`
	Instance   string      `json:"instance"`
	Version    string      `json:"version"` // of tund
	Interfaces []Interface `json:"interfaces"`
	Reasons    []string    `json:"reasons"` // names of drop reasons, by number
	SnapLength int         `json:"snap_length"`
	Filter     string      `json:"filter"`
	Offset     int64       `json:"offset"` // as in Mark
}

// Interface is where packets were seen.
type Interface struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // KindTUN, KindTAP or KindOuter
}

// The kinds of interfaces.
const (
	KindTUN   = "tun"   // IP packets
	KindTAP   = "tap"   // Ethernet frames
	KindOuter = "outer" // datagrams of the underlay, with IP and UDP headers made for them
)

// Mark says how far the stream has come.
type Mark struct {
	// Until is a time in the clock of Header.Time: of what happened before, nothing is outstanding.
	Until int64 `json:"until"`
	// Offset is the time of day, in nanoseconds since 1970, less that clock.
	Offset int64 `json:"offset"`
	// By interface, since the capture began.
	Taken []uint64 `json:"taken"`
	Lost  []uint64 `json:"lost"` // taken by the filter, but the reader was too slow
}

// Secret is what a program needs in order to decrypt the sessions of one handshake.
type Secret struct {
	Static    [32]byte // our private key
	Remote    [32]byte // the peer's public key
	Ephemeral [32]byte // our private key of the handshake
	Preshared [32]byte // zero: none
}

// SecretSize is the length of a Secret in bytes.
const SecretSize = 4 * 32

// Put writes s to b, which has at least SecretSize bytes.
func (s *Secret) Put(b []byte) {
	copy(b, s.Static[:])
	copy(b[32:], s.Remote[:])
	copy(b[64:], s.Ephemeral[:])
	copy(b[96:SecretSize], s.Preshared[:])
}

// ParseSecret reads what Put wrote; ok is false if b has another length.
func ParseSecret(b []byte) (s Secret, ok bool) {
	if len(b) != SecretSize {
		return s, false
	}
	return Secret{[32]byte(b), [32]byte(b[32:]), [32]byte(b[64:]), [32]byte(b[96:])}, true
}

// Format prints "(hidden)" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(hidden)") }

// MarshalText returns "(hidden)". The error is always nil.
func (Secret) MarshalText() ([]byte, error) { return []byte("(hidden)"), nil }

// ParsePeer takes the payload of a KindPeer apart.
func ParsePeer(b []byte) (key [32]byte, name string, ok bool) {
	if len(b) < len(key) {
		return key, "", false
	}
	return [32]byte(b), string(b[len(key):]), true
}

// AppendJSON appends a record of a kind whose payload is a document.
func AppendJSON(b []byte, kind Kind, document any) []byte {
	text, err := json.Marshal(document)
	if err != nil {
		panic("internal/capture/stream: " + err.Error()) // Start and Mark can be encoded
	}
	return Append(b, Header{Kind: kind}, text)
}

// errFormat is returned for what is no stream of records.
var errFormat = errors.New("the daemon sent something that is not a stream of packets (are tund and tunctl of the same version?)")

// readerSize is the buffer of a Reader, in bytes: what a socket holds at once. It has room for any
// record.
const readerSize = 256 << 10

// Reader takes a stream apart.
type Reader struct {
	in   *bufio.Reader
	last int // bytes in front of it that belong to the record that Next has returned
}

// NewReader returns a reader of r, which it reads ahead of what Next returns.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, readerSize)} }

// Next returns the next record. The payload is valid until the next call. The error is io.EOF
// between two records, io.ErrUnexpectedEOF within one, or that of the reader.
func (r *Reader) Next() (h Header, payload []byte, err error) {
	if _, err = r.in.Discard(r.last); err != nil { // it is there
		return h, nil, err
	}
	r.last = 0
	head, err := r.in.Peek(HeaderSize)
	if err != nil {
		if len(head) > 0 {
			err = unexpected(err)
		}
		return h, nil, err
	}
	h.parse(head)
	if h.Kind < KindStart || h.Kind > KindPad || h.Payload > MaxPayload && h.Kind != KindPad || h.Payload > 1<<30 {
		return h, nil, errFormat
	}
	size := Size(int(h.Payload))
	if h.Kind == KindPad {
		_, err = r.in.Discard(size)
		return h, nil, unexpected(err)
	}
	record, err := r.in.Peek(size)
	if err != nil {
		return h, nil, unexpected(err)
	}
	r.last = size
	return h, record[HeaderSize : HeaderSize+int(h.Payload)], nil
}

// unexpected makes the end of a record within it another error than the end between two.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
