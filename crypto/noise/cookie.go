package noise

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/boottime"
)

const (
	// cookieSecretMaxAge is how long the secret behind the cookies we give lives. Whitepaper
	// §5.4.7.
	cookieSecretMaxAge = 120 * time.Second
	// cookieSecretLatency is what a receiver of a cookie takes off, for the way it travelled
	// (COOKIE_SECRET_LATENCY in the kernel's messages.h).
	cookieSecretLatency = 5 * time.Second
	// cookieMaxAge is how long a cookie we were given is used.
	cookieMaxAge = cookieSecretMaxAge - cookieSecretLatency
)

// mac is keyed BLAKE2s with 16 bytes of output, kept so that computing one allocates nothing.
type mac struct {
	hash hash.Hash
	sum  [wire.MACSize]byte
}

func newMAC(key []byte) mac {
	h, err := blake2s.New128(key)
	if err != nil {
		panic("crypto/noise: " + err.Error()) // only for an empty key or one of more than 32 bytes
	}
	return mac{hash: h}
}

// compute returns the MAC of the data. The result is overwritten by the next call.
func (m *mac) compute(data ...[]byte) []byte {
	m.hash.Reset()
	for _, d := range data {
		_, _ = m.hash.Write(d) // never fails (hash.Hash)
	}
	return m.hash.Sum(m.sum[:0])
}

// isHandshake reports whether msg is an initiation or a response: the messages that carry macs.
func isHandshake(msg []byte) bool {
	typ, ok := wire.Kind(msg)
	return ok && (typ == wire.TypeInitiation || typ == wire.TypeResponse)
}

// mac1Of returns the part of msg that mac1 covers, mac2Of the part that mac2 covers. Whitepaper
// §5.4.4.
func mac1Of(msg []byte) []byte { return msg[:len(msg)-2*wire.MACSize] }
func mac2Of(msg []byte) []byte { return msg[:len(msg)-wire.MACSize] }

// ── what a receiver checks ───────────────────────────────────────────────────

// MAC1Checker tells whether a handshake message was made for us by somebody who knows our public
// key. That is the first check, before anything is queued or computed. It allocates nothing and
// keeps scratch space: each lane has its own.
type MAC1Checker struct {
	mac  mac
	able bool // the identity has a key
}

// NewMAC1Checker returns a checker of messages sent to id.
func NewMAC1Checker(id *Identity) *MAC1Checker {
	return &MAC1Checker{mac: newMAC(id.mac1Key[:]), able: id.private != nil}
}

// Valid reports whether msg is an initiation or a response with the right mac1.
func (c *MAC1Checker) Valid(msg []byte) bool {
	if !c.able || !isHandshake(msg) {
		return false
	}
	return subtle.ConstantTimeCompare(c.mac.compute(mac1Of(msg)), wire.MAC1(msg)) == 1
}

// Format prints "(hidden)" for every verb.
func (c *MAC1Checker) Format(f fmt.State, _ rune) { keys.Hide(f) }

// CookieChecker gives out cookies under load and checks that a sender returns the one given to its
// address. Safe for concurrent use.
type CookieChecker struct {
	replyKey [hashSize]byte

	// mu guards the fields below. It is held while two short hashes are computed.
	mu      sync.Mutex
	secret  mac // keyed with a random secret
	since   boottime.Time
	started bool
}

// NewCookieChecker returns a checker of messages sent to id.
func NewCookieChecker(id *Identity) *CookieChecker {
	return &CookieChecker{replyKey: id.cookieKey}
}

// Format prints "(hidden)" for every verb.
func (c *CookieChecker) Format(f fmt.State, _ rune) { keys.Hide(f) }

// ValidMAC2 reports whether msg, whose mac1 is valid, carries a mac2 made with the cookie of src.
// It is false for a message without a cookie, and for one whose cookie was made with a secret that
// has expired since.
func (c *CookieChecker) ValidMAC2(msg []byte, src netip.AddrPort, now boottime.Time) bool {
	if !isHandshake(msg) {
		return false
	}
	cookie := c.cookie(src, now)
	m := newMAC(cookie[:])
	return subtle.ConstantTimeCompare(m.compute(mac2Of(msg)), wire.MAC2(msg)) == 1
}

// Reply writes the cookie reply to msg, which came from src and whose mac1 is valid, into dst. The
// error is ErrMalformed when msg is neither an initiation nor a response. Whitepaper §5.4.7.
func (c *CookieChecker) Reply(dst *[wire.CookieReplySize]byte, msg []byte, src netip.AddrPort, now boottime.Time) error {
	if !isHandshake(msg) {
		return ErrMalformed
	}
	cookie := c.cookie(src, now)
	wire.PutType(dst[:], wire.TypeCookieReply)
	wire.PutCookieReplyReceiver(dst[:], wire.Sender(msg))
	nonce := dst[wire.CookieReplyNonce:wire.CookieReplyCookie]
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("cookie reply nonce: %w", err)
	}
	aead := newAEAD(c.replyKey[:], chacha20poly1305.NewX)
	aead.Seal(dst[wire.CookieReplyCookie:wire.CookieReplyCookie], nonce, cookie[:], wire.MAC1(msg))
	return nil
}

// cookie returns MAC(secret, address ‖ UDP port). The port is part of it, or all hosts behind one
// NAT would share a cookie. An IPv4 address counts as 4 bytes, however the socket wrote it.
func (c *CookieChecker) cookie(src netip.AddrPort, now boottime.Time) (cookie [wire.MACSize]byte) {
	var buf [16 + 2]byte
	source := buf[:0]
	if addr := src.Addr().Unmap(); addr.Is4() {
		a := addr.As4()
		source = append(source, a[:]...)
	} else {
		a := addr.As16()
		source = append(source, a[:]...)
	}
	source = binary.BigEndian.AppendUint16(source, src.Port())

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started || now.Sub(c.since) >= cookieSecretMaxAge {
		var secret [hashSize]byte
		if _, err := rand.Read(secret[:]); err != nil {
			// crypto/rand ends the process before it returns an error.
			panic("crypto/noise: " + err.Error())
		}
		c.secret, c.since, c.started = newMAC(secret[:]), now, true
		clear(secret[:])
	}
	copy(cookie[:], c.secret.compute(source))
	return cookie
}

// ── what a sender adds ───────────────────────────────────────────────────────

// Macs adds mac1, and mac2 while there is a fresh cookie, to the handshake messages we send to one
// peer, and takes in that peer's cookie replies. It belongs to one goroutine at a time (the peer's
// handshake lock).
type Macs struct {
	remote   *Remote
	last     [wire.MACSize]byte // mac1 of the last message, which a cookie reply has to answer
	cookie   [wire.MACSize]byte
	cookieAt boottime.Time // when the cookie came
	awaiting bool          // last is set and no reply has answered it yet
	fresh    bool          // there is a cookie, perhaps too old
}

// NewMacs returns a Macs for messages to r, without a cookie.
func NewMacs(r *Remote) *Macs { return &Macs{remote: r} }

// Format prints "(hidden)" for every verb.
func (m *Macs) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Add writes mac1 and mac2 into msg, an initiation or a response that is otherwise complete.
// Without a cookie of the last 115 seconds mac2 is zero. Whitepaper §5.4.4.
func (m *Macs) Add(msg []byte, now boottime.Time) {
	h1 := newMAC(m.remote.mac1Key[:])
	copy(wire.MAC1(msg), h1.compute(mac1Of(msg)))
	copy(m.last[:], wire.MAC1(msg))
	m.awaiting = true

	if !m.fresh || now.Sub(m.cookieAt) >= cookieMaxAge {
		m.fresh = false
		clear(wire.MAC2(msg))
		return
	}
	h2 := newMAC(m.cookie[:])
	copy(wire.MAC2(msg), h2.compute(mac2Of(msg)))
}

// ConsumeReply takes the cookie out of a cookie reply. The reply must be to the last message Add
// saw, and only the first one is taken; the next message then carries mac2. The error is ErrCookie
// or ErrMalformed, and nothing has changed.
func (m *Macs) ConsumeReply(reply []byte, now boottime.Time) error {
	if typ, ok := wire.Kind(reply); !ok || typ != wire.TypeCookieReply {
		return ErrMalformed
	}
	if !m.awaiting {
		return ErrCookie
	}
	var cookie [wire.MACSize]byte
	aead := newAEAD(m.remote.cookieKey[:], chacha20poly1305.NewX)
	nonce := reply[wire.CookieReplyNonce:wire.CookieReplyCookie]
	if _, err := aead.Open(cookie[:0], nonce, reply[wire.CookieReplyCookie:], m.last[:]); err != nil {
		return ErrCookie
	}
	m.cookie, m.cookieAt, m.fresh, m.awaiting = cookie, now, true, false
	return nil
}
