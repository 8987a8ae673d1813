// Package datasession agrees on data sessions: the sessions, beside the one that WireGuard's
// handshake made, in which two tunds carry their packets. The agreement takes one message from the
// initiator of the WireGuard session, the offer, and one back, the answer. It settles three things:
// the cipher that costs the two processors least, the number of lanes that both have, and, with
// ML-KEM-768, a secret that is safe from a quantum computer which reads recorded traffic later.
//
// Offer and answer travel inside the WireGuard session they belong to, so both are authenticated,
// and each session has its own. Their keys come from the exporter of that session's handshake, the
// shared secret of ML-KEM, and the hash of both messages as they were sent: whoever changes a byte
// of either, or answers with another one, ends with other keys, and nothing opens.
//
// Exchange is the state of one agreement: it cuts messages into parts, joins them, repeats what is
// lost and gives up in the end. It takes bytes and the time, and returns what to send and what was
// agreed; it knows no peer, socket or goroutine. docs/protocol.md draws the messages and says what
// the scheme does and does not protect.
//
// Nothing here is safe for concurrent use. Sources: RFC 5869 (HKDF); FIPS 203 (ML-KEM).
package datasession
