// Package noise implements WireGuard's handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, and its
// two MACs against floods. It works on bytes and keys.
//
// It opens no socket, reads no clock (times are arguments), keeps no list of peers, sets no timer
// and logs nothing. The caller decides who may connect, how often, and whether a timestamp is
// fresh.
//
// One handshake, with the names of the functions:
//
//	initiator                                 responder
//	Initiate, Macs.Add  ── initiation ──────▶ MAC1Checker.Valid, (CookieChecker.ValidMAC2,)
//	                                          OpenInitiation,
//	                                          find the peer by Incoming.Public, Authenticate,
//	                                          compare the Timestamp with the greatest one so far,
//	MAC1Checker.Valid,  ◀────── response ──── Respond, Macs.Add
//	Finish
//
// # Errors
//
// An error of OpenInitiation or Authenticate ends that Incoming and has no other effect. An error
// of Finish leaves the Pending unchanged: anybody may send a false response, and the true one must
// still be accepted. An error of Initiate or Respond means that no message was made. A function
// that fails has wiped its keys or never made any. All errors are the sentinel values below; input
// from the network never causes a panic.
//
// # Concurrency
//
// Identity, Remote and CookieChecker may be used by several goroutines at once. Pending, Incoming,
// MAC1Checker and Macs belong to one goroutine at a time.
//
// # Secrets
//
// Types that hold secrets print as "(hidden)". Zero wipes the memory that this package owns.
// crypto/ecdh and x/crypto keep copies of keys that cannot be wiped; they are left to the garbage
// collector.
//
// Sources: WireGuard whitepaper §5.4 (section numbers at the functions); Noise Protocol Framework,
// revision 34; the kernel's drivers/net/wireguard/{noise,cookie}.c where the paper leaves a choice.
package noise

import "errors"

// Errors of the handshake. They are compared with errors.Is and carry no peer and no bytes.
var (
	// ErrNoKey: the Identity was made from the zero key, so there is nobody to be.
	ErrNoKey = errors.New("no private key")
	// ErrLowOrder: a public key, ephemeral or static, is a low-order point: the shared secret would
	// be zero.
	ErrLowOrder = errors.New("public key is a low-order point")
	// ErrMalformed: the datagram is not a message of the kind the function is for, or not for this
	// Pending.
	ErrMalformed = errors.New("not a message of the expected kind")
	// ErrStatic: the initiator's static key does not decrypt. The initiator has another public key
	// for us.
	ErrStatic = errors.New("static key does not decrypt")
	// ErrTimestamp: the timestamp does not decrypt. The initiator does not own the static key it
	// claims.
	ErrTimestamp = errors.New("timestamp does not decrypt")
	// ErrResponse: the response does not decrypt. The preshared keys differ, or it was corrupted or
	// forged.
	ErrResponse = errors.New("response does not decrypt")
	// ErrRemote: Authenticate or Respond was called with another peer than the one the initiation
	// names.
	ErrRemote = errors.New("remote is not the initiator")
	// ErrOrder: Respond was called before Authenticate succeeded, or twice.
	ErrOrder = errors.New("initiation is not authenticated")
	// ErrCookie: the cookie reply does not decrypt, or answers no message of ours.
	ErrCookie = errors.New("cookie reply does not decrypt")
)
