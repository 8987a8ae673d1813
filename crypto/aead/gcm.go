package aead

// gcmKey is a key of AES-256-GCM as the assembly wants it.
type gcmKey struct {
	powers [20][16]byte // H^20 to H^1, as POLYVAL has them (RFC 8452, appendix A)
	rounds [15][16]byte // read as well, and multiplied by zero, where a message ends before H^1
}
