// Package session seals and opens transport data: one Session is one pair of keys, the counter of
// what was sent and the window of what was received. It is WireGuard's own, whose suite is
// ChaCha20-Poly1305, or a data session of two tunds, whose suite they have agreed on.
//
// It keeps no age and starts no handshake: the caller decides when a session is renewed, retired or
// replaced, from Sent, RekeyAfterMessages and its own clock. It does not route or pad: plaintext
// arrives padded.
//
// The order of the steps on receive is fixed, and the caller performs each of them: find the
// session by its index, Open, then (under LockReceive) Accept, and only then trust the datagram's
// source address, count the datagram or deliver it. Open changes no state, so a forged datagram has
// no effect.
//
// All methods are safe for concurrent use, Accept and Highest under LockReceive. Neither Seal nor
// Open allocates.
//
// Sources: WireGuard whitepaper §5.4.6, §6.1; RFC 8439 (ChaCha20-Poly1305); RFC 9001 appendix B
// (limits of AES-GCM).
package session

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/replay"
	"tund/crypto/wire"
)

const (
	// RekeyAfterMessages is the number of messages sent after which a new handshake is started.
	// Whitepaper §6.1: 2^60.
	RekeyAfterMessages = 1 << 60
	// RekeyAfterMessagesAES is the same for AES-256-GCM. Its blocks have 128 bits, so the more of
	// them one key encrypts the easier messages are to tell from random ones: by 2^-57 after 2^35
	// blocks (RFC 9001 §B.1.1), which are 2^26 messages of a path that carries 8 KiB.
	RekeyAfterMessagesAES = 1 << 26
	// RejectAfterMessages is the first counter that is neither sent nor accepted. Whitepaper §6.1:
	// 2^64-2^13-1; the kernel's limit is a little greater (see replay.Limit).
	RejectAfterMessages = replay.Limit
)

// ciphers are the two directions of a session, each a copy of its key.
type ciphers struct {
	send, receive *aead.Cipher
}

// Session is one pair of transport keys between us and a peer. It takes about 300 bytes, and one
// KiB more for the replay window once more than 64 messages have come.
type Session struct {
	ciphers atomic.Pointer[ciphers] // nil after Zero
	sent    atomic.Uint64           // the next counter; never above RejectAfterMessages
	local   uint32
	remote  uint32
	suite   aead.Suite // never changes

	// receive guards window. A lane holds it once per train, never while it waits for anything.
	receive   sync.Mutex
	initiator bool // never changes
	window    replay.Window
}

// Scratch is space Seal and Open need and nobody keeps. Each loop has one of its own, on the heap.
type Scratch struct {
	nonce [aead.NonceSize]byte // four zero bytes, then the counter, little endian
}

// New returns WireGuard's session of the keys a handshake has yielded. It copies the keys; wiping k
// is up to the caller.
func New(k *noise.Keys) *Session {
	return NewData(aead.ChaCha20Poly1305, &k.Send, &k.Receive, k.LocalIndex, k.RemoteIndex, k.Initiator)
}

// NewData returns a session of any suite. local and remote are the receiver indices of messages to
// us and to the peer. It copies the keys; wiping them is up to the caller.
func NewData(suite aead.Suite, send, receive *[32]byte, local, remote uint32, initiator bool) *Session {
	s := &Session{local: local, remote: remote, initiator: initiator, suite: suite}
	s.ciphers.Store(&ciphers{send: aead.New(suite, send), receive: aead.New(suite, receive)})
	return s
}

// LocalIndex returns the receiver index of messages to us.
func (s *Session) LocalIndex() uint32 { return s.local }

// Suite returns the AEAD that seals the session's messages.
func (s *Session) Suite() aead.Suite { return s.suite }

// RekeyAfter returns the number of messages sent after which a new handshake is started.
func (s *Session) RekeyAfter() uint64 {
	if s.suite == aead.AES256GCM {
		return RekeyAfterMessagesAES
	}
	return RekeyAfterMessages
}

// Initiator reports whether we sent the initiation of this session.
func (s *Session) Initiator() bool { return s.initiator }

// Format prints "(hidden)" for every verb.
func (s *Session) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Reserve takes n counters for the caller alone: first, first+1 and so on. ok is false, and nothing
// taken, when fewer than n are left below RejectAfterMessages, or after Zero. n must not be
// negative.
func (s *Session) Reserve(n int) (first uint64, ok bool) {
	for {
		first = s.sent.Load()
		if uint64(n) > RejectAfterMessages-first || s.ciphers.Load() == nil {
			return 0, false
		}
		if s.sent.CompareAndSwap(first, first+uint64(n)) {
			return first, true
		}
	}
}

// Sent returns the number of counters reserved so far.
func (s *Session) Sent() uint64 { return s.sent.Load() }

// Seal writes a transport data message, header, ciphertext and tag, into dst[:32+len(plaintext)]
// and returns that length. The counter is one that Reserve gave and no other message has: a counter
// used twice gives the plaintext away. dst is long enough and does not overlap plaintext; both stay
// the caller's. After Zero it writes nothing and returns 0.
func (s *Session) Seal(dst []byte, counter uint64, plaintext []byte, sc *Scratch) int {
	c := s.ciphers.Load()
	if c == nil {
		return 0
	}
	n := wire.TransportOverhead + len(plaintext)
	dst = dst[:n:n]
	wire.PutTransportHeader(dst, s.remote, counter)
	binary.LittleEndian.PutUint64(sc.nonce[4:], counter)
	c.send.Seal(dst[wire.TransportHeaderSize:], &sc.nonce, plaintext)
	return n
}

// Open decrypts msg, transport data for this session, into dst and returns the length of the
// plaintext, len(msg)-32. It checks the tag and nothing else, and changes no state: whether the
// counter is new is for Accept to say. dst does not overlap msg; both stay the caller's. ok is
// false when the tag is wrong, when msg is too short for the message or dst for the plaintext, or
// after Zero; no plaintext is in dst then, and what would have held it is zero.
func (s *Session) Open(dst []byte, msg []byte, sc *Scratch) (n int, ok bool) {
	c := s.ciphers.Load()
	n = len(msg) - wire.TransportOverhead
	if c == nil || n < 0 || n > len(dst) {
		return 0, false
	}
	binary.LittleEndian.PutUint64(sc.nonce[4:], wire.TransportCounter(msg))
	return c.receive.Open(dst[:n], &sc.nonce, msg[wire.TransportHeaderSize:])
}

// LockReceive takes the lock that Accept and Highest need. A lane takes it once for all datagrams
// of a train.
func (s *Session) LockReceive() { s.receive.Lock() }

// UnlockReceive gives back what LockReceive took.
func (s *Session) UnlockReceive() { s.receive.Unlock() }

// Accept reports whether the counter of a datagram that Open has authenticated is new, and marks it
// as seen. The caller holds the receive lock.
func (s *Session) Accept(counter uint64) bool { return s.window.Accept(counter) }

// Highest returns the greatest counter accepted, 0 when there was none. The caller holds the
// receive lock.
func (s *Session) Highest() uint64 { return s.window.Highest() }

// Zero ends the session: Reserve and Open refuse from now on and Seal does nothing. The keys are
// dropped, not overwritten: another goroutine may be sealing with them this moment, and would go on
// with a key of zeros.
func (s *Session) Zero() { s.ciphers.Store(nil) }
