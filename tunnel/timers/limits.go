package timers

import "time"

// Limits of a session and of a handshake. Names and values are those of the WireGuard whitepaper
// §6.1 and of the kernel (drivers/net/wireguard/messages.h).
const (
	// RekeyAfterTime is the age at which the initiator of a session starts the next handshake when
	// it sends.
	RekeyAfterTime = 120 * time.Second
	// RejectAfterTime is the age past which a session neither sends nor receives.
	RejectAfterTime = 180 * time.Second
	// RekeyAttemptTime is how long one run of handshake retries lasts before it gives up.
	RekeyAttemptTime = 90 * time.Second
	// RekeyTimeout is the least time between two initiations to one peer, and the wait for a
	// response.
	RekeyTimeout = 5 * time.Second
	// RekeyTimeoutJitterMax bounds the random time added to both retry kinds, so that two peers
	// that start together do not stay in step.
	RekeyTimeoutJitterMax = 333 * time.Millisecond
	// KeepaliveTimeout is the silence after received data at which a passive keepalive answers.
	KeepaliveTimeout = 10 * time.Second
	// MaxHandshakeAttempts is the number of retries after which a handshake gives up.
	MaxHandshakeAttempts = int(RekeyAttemptTime / RekeyTimeout)
	// InitiationInterval is the least time between two initiations accepted from one peer (50 a
	// second).
	InitiationInterval = time.Second / 50
	// ZeroKeysAfter is the age of the newest session at which all key material of a peer is wiped.
	ZeroKeysAfter = 3 * RejectAfterTime
	// RekeyBeforeReject is the age at which the initiator of a session renews it on receive, so
	// that a side that only receives does not run into RejectAfterTime (kernel receive.c,
	// keep_key_fresh).
	RekeyBeforeReject = RejectAfterTime - KeepaliveTimeout - RekeyTimeout
	// UnansweredAfter is the time after unanswered data at which a new handshake starts (whitepaper
	// §6.2, last sentence).
	UnansweredAfter = KeepaliveTimeout + RekeyTimeout
)
