package extension

import (
	"encoding/binary"

	"tund/crypto/wire"
)

// A control message is an inner payload with first nibble 3, which WireGuard's implementations
// authenticate and then drop:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------+---------------+-------------------------------+
//	|   3   | format|     type      |          body length          |
//	+-------+-------+---------------+-------------------------------+
//	|  body …                                       | padding …
//
// The format is 0. Integers are big endian. A body may be longer than the receiver knows: later
// versions append fields, and a receiver reads those it knows. Unknown types are ignored.
const (
	// Nibble is the first nibble of a control message.
	Nibble = 3
	// HeaderLen is the size of the header of a control message, in bytes.
	HeaderLen = 4
	// MaxBody is the size of the longest body that a receiver accepts, in bytes: an offer with an
	// ML-KEM-768 key (1,184) and room for what accompanies it, within what every path carries.
	MaxBody = 2048 - HeaderLen
)

// Type is the type of a control message.
type Type uint8

// The types of this package. Other packages of the engine register theirs with Exchange.Handle;
// the list of all is in docs/protocol.md.
const (
	TypeHello       Type = 1
	TypeGoodbye     Type = 2
	TypeEchoRequest Type = 3
	TypeEchoReply   Type = 4
	TypeRefusal     Type = 5
	TypeUnheard     Type = 6
	TypeOffer       Type = 16
	TypeAnswer      Type = 17
)

// maxType bounds the types that can be registered.
const maxType = 32

// AppendMessage appends a control message to b and pads it with zeros to a multiple of 16 bytes, as
// transport data is. body must not be longer than MaxBody.
func AppendMessage(b []byte, t Type, body []byte) []byte {
	start := len(b)
	b = append(b, Nibble<<4, byte(t))
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return wire.Pad(append(b, body...), start, 0)
}

// Parse returns the type and the body of a control message, a slice of payload. ok is false if
// payload is none, is of another format, or has fewer bytes than its header announces.
func Parse(payload []byte) (t Type, body []byte, ok bool) {
	if len(payload) < HeaderLen || payload[0] != Nibble<<4 {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(payload[2:]))
	if n > len(payload)-HeaderLen || n > MaxBody {
		return 0, nil, false
	}
	return Type(payload[1]), payload[HeaderLen : HeaderLen+n], true
}

// Hello is the body of a hello:
//
//	+---------------+-------------+-+-------------------------------+
//	|    version    | reserved    |A|            features           |
//	+---------------+-------------+-+-------------------------------+
//
//	version   the highest version that the sender speaks, 1; both use the lower of the two
//	A         a hello is requested in answer
//	features  what the sender takes part in
type Hello struct {
	Version  uint8 // never 0
	Answer   bool
	Features Features
}

// Features is a set of what a peer takes part in. Unknown bits are kept.
type Features uint16

// The features.
const (
	// FeatureEcho: answers echo requests.
	FeatureEcho Features = 1 << 0
	// FeatureGoodbye: knows what a goodbye means.
	FeatureGoodbye Features = 1 << 1
	// FeatureDataSessions: answers offers of data sessions.
	FeatureDataSessions Features = 1 << 2
	// FeatureRefusal: wants to be told that its packets are dropped.
	FeatureRefusal Features = 1 << 3
	// FeatureUnheard: wants to be told that it is not heard.
	FeatureUnheard Features = 1 << 4
)

// EchoRequest is the body of an echo request. It is followed by any amount of padding, which counts
// for the size of the request but not for its body:
//
//	+---------------------------------------------------------------+
//	|                            number                             |
//	+---------------------------------------------------------------+
//	|                  clock of the sender (8 bytes)                |
//	+---------------------------------------------------------------+
//
//	number  chosen by the sender, counted up
//	clock   when it was sent; the receiver returns it
type EchoRequest struct {
	Number uint32
	Clock  uint64
}

// EchoReply is the body of the answer: number and clock of the request, and
//
//	+---------------------------------------------------------------+
//	|                             size                              |
//	+---------------------------------------------------------------+
//
//	size  bytes of the plaintext in which the request came, header and padding included
type EchoReply struct {
	EchoRequest
	Size uint32
}

// EchoSize is the size of the smallest echo request, in bytes of plaintext.
const EchoSize = HeaderLen + echoRequestLen

const (
	echoRequestLen = 12
	echoReplyLen   = 16
)

// Append appends the body of the request to b.
func (e EchoRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, e.Number)
	return binary.BigEndian.AppendUint64(b, e.Clock)
}

// ParseEchoRequest reads the body of an echo request. ok is false if it is too short.
func ParseEchoRequest(body []byte) (e EchoRequest, ok bool) {
	if len(body) < echoRequestLen {
		return e, false
	}
	return EchoRequest{binary.BigEndian.Uint32(body), binary.BigEndian.Uint64(body[4:])}, true
}

// Append appends the body of the reply to b.
func (e EchoReply) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(e.EchoRequest.Append(b), e.Size)
}

// ParseEchoReply reads the body of an echo reply. ok is false if it is too short.
func ParseEchoReply(body []byte) (e EchoReply, ok bool) {
	if len(body) < echoReplyLen {
		return e, false
	}
	request, _ := ParseEchoRequest(body)
	return EchoReply{request, binary.BigEndian.Uint32(body[echoRequestLen:])}, true
}

// Names returns the features as shown in status. Unknown ones have no name.
func (f Features) Names() []string {
	var names []string
	for _, x := range [...]struct {
		bit  Features
		name string
	}{{FeatureEcho, "echo"}, {FeatureGoodbye, "goodbye"}} {
		if f&x.bit != 0 {
			names = append(names, x.name)
		}
	}
	return names
}

const (
	helloVersion = 1
	helloLen     = 4
	helloAnswer  = 1 << 0
)

// Append appends the body of the hello to b.
func (h *Hello) Append(b []byte) []byte {
	var flags byte
	if h.Answer {
		flags |= helloAnswer
	}
	b = append(b, h.Version, flags)
	return binary.BigEndian.AppendUint16(b, uint16(h.Features))
}

// ParseHello reads the body of a hello. ok is false if it is too short or its version is 0.
func ParseHello(body []byte) (h Hello, ok bool) {
	if len(body) < helloLen || body[0] == 0 {
		return h, false
	}
	return Hello{
		Version: body[0], Answer: body[1]&helloAnswer != 0, Features: Features(binary.BigEndian.Uint16(body[2:])),
	}, true
}
