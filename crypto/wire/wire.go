// Package wire defines the layout of WireGuard's four messages. It tells the kinds of datagram
// apart and reads and writes their plain fields; it does not encrypt, authenticate or keep
// anything.
//
//	initiation, 148 bytes            response, 92 bytes
//	  0 type 1, three zero bytes       0 type 2, three zero bytes
//	  4 sender index                   4 sender index
//	  8 ephemeral key (32)             8 receiver index
//	 40 sealed static key (48)        12 ephemeral key (32)
//	 88 sealed timestamp (28)         44 sealed empty text (16)
//	116 mac1 (16)                     60 mac1 (16)
//	132 mac2 (16)                     76 mac2 (16)
//
//	cookie reply, 64 bytes           transport data, 32 bytes or more
//	  0 type 3, three zero bytes       0 type 4, three zero bytes
//	  4 receiver index                 4 receiver index
//	  8 nonce (24)                     8 counter (64 bits)
//	 32 sealed cookie (32)            16 sealed packet, then tag (16)
//
// Integers are little endian. Every function except Kind relies on the length that Kind has
// checked, and panics on a shorter slice. All functions depend on their arguments only and are safe
// for concurrent use.
//
// Sources: WireGuard whitepaper §5.4.2 to §5.4.7; the kernel's drivers/net/wireguard/messages.h.
package wire

import "encoding/binary"

// Types of message, the first byte of a datagram. Whitepaper §5.4.
const (
	TypeInitiation  = 1
	TypeResponse    = 2
	TypeCookieReply = 3
	TypeTransport   = 4
)

// Sizes in bytes. Whitepaper §5.4.
const (
	InitiationSize      = 148
	ResponseSize        = 92
	CookieReplySize     = 64
	TransportHeaderSize = 16
	TagSize             = 16                            // Poly1305
	TransportOverhead   = TransportHeaderSize + TagSize // what sealing adds to a packet
	MinTransportSize    = TransportHeaderSize + TagSize // an empty packet: a keepalive
	MACSize             = 16                            // mac1, mac2 and the cookie
	// Packets are padded with zeros to it, up to the MTU.
	PaddingMultiple = 16
)

// Pad appends zeros to b until b[at:] has a multiple of PaddingMultiple bytes, or limit bytes
// unless that is 0 (whitepaper §5.4.6). offload.Splitter pads the segments of superpackets in
// place.
func Pad(b []byte, at, limit int) []byte {
	for n := len(b) - at; n%PaddingMultiple != 0 && (limit == 0 || n < limit); n++ {
		b = append(b, 0)
	}
	return b
}

// Offsets in bytes of the fields that take part in the handshake. Whitepaper §5.4.2, §5.4.3,
// §5.4.7.
const (
	InitiationEphemeral = 8
	InitiationStatic    = 40
	InitiationTimestamp = 88
	InitiationMAC1      = 116
	InitiationMAC2      = 132
	ResponseEphemeral   = 12
	ResponseEmpty       = 44
	ResponseMAC1        = 60
	ResponseMAC2        = 76
	CookieReplyNonce    = 8
	CookieReplyCookie   = 32
)

const (
	senderOffset   = 4 // initiation and response
	receiverOffset = 4 // cookie reply and transport data
	respReceiver   = 8
	counterOffset  = 8
)

// Kind returns the type of a datagram, and false when it is none of the four: an unknown type,
// reserved bytes that are not zero, or a length the type cannot have. The kernel judges by the same
// rules: the first four bytes are one little-endian word, lengths of types 1 to 3 are exact, type 4
// is 32 bytes or more. Nothing is said about authenticity.
func Kind(datagram []byte) (typ byte, ok bool) {
	if len(datagram) < 4 {
		return 0, false
	}
	switch word := binary.LittleEndian.Uint32(datagram); word {
	case TypeTransport:
		ok = len(datagram) >= MinTransportSize
	case TypeInitiation:
		ok = len(datagram) == InitiationSize
	case TypeResponse:
		ok = len(datagram) == ResponseSize
	case TypeCookieReply:
		ok = len(datagram) == CookieReplySize
	}
	if !ok {
		return 0, false
	}
	return datagram[0], true
}

// PutType writes the type and the reserved zero bytes at the head of b.
func PutType(b []byte, typ byte) { binary.LittleEndian.PutUint32(b, uint32(typ)) }

// TransportReceiver returns the receiver index of transport data.
func TransportReceiver(b []byte) uint32 { return binary.LittleEndian.Uint32(b[receiverOffset:]) }

// TransportCounter returns the counter of transport data.
func TransportCounter(b []byte) uint64 { return binary.LittleEndian.Uint64(b[counterOffset:]) }

// PutTransportHeader writes the 16 bytes of a transport data header into b.
func PutTransportHeader(b []byte, receiver uint32, counter uint64) {
	_ = b[TransportHeaderSize-1] // one bounds check for the three stores
	binary.LittleEndian.PutUint32(b, TypeTransport)
	binary.LittleEndian.PutUint32(b[receiverOffset:], receiver)
	binary.LittleEndian.PutUint64(b[counterOffset:], counter)
}

// Sender returns the sender index of an initiation or a response.
func Sender(b []byte) uint32 { return binary.LittleEndian.Uint32(b[senderOffset:]) }

// PutSender writes the sender index of an initiation or a response.
func PutSender(b []byte, index uint32) { binary.LittleEndian.PutUint32(b[senderOffset:], index) }

// ResponseReceiver returns the receiver index of a response.
func ResponseReceiver(b []byte) uint32 { return binary.LittleEndian.Uint32(b[respReceiver:]) }

// PutResponseReceiver writes the receiver index of a response.
func PutResponseReceiver(b []byte, index uint32) {
	binary.LittleEndian.PutUint32(b[respReceiver:], index)
}

// CookieReplyReceiver returns the receiver index of a cookie reply.
func CookieReplyReceiver(b []byte) uint32 { return binary.LittleEndian.Uint32(b[receiverOffset:]) }

// PutCookieReplyReceiver writes the receiver index of a cookie reply.
func PutCookieReplyReceiver(b []byte, index uint32) {
	binary.LittleEndian.PutUint32(b[receiverOffset:], index)
}

// MAC1 returns the mac1 field of an initiation or a response, a slice of b.
func MAC1(b []byte) []byte { return b[len(b)-2*MACSize : len(b)-MACSize] }

// MAC2 returns the mac2 field of an initiation or a response, a slice of b.
func MAC2(b []byte) []byte { return b[len(b)-MACSize:] }
