package aead

// gcmKey is a key of AES-256-GCM as the assembly wants it: H^20 to H^1, as POLYVAL has them (RFC
// 8452, appendix A), then the 15 round keys. These are read as powers as well, and multiplied by
// zero, where a message ends before H^1.
type gcmKey [20 + 15][16]byte

// aesCode is what computes AES-256-GCM.
type aesCode uint8

const (
	libraryAES aesCode = iota // crypto/cipher
	vaes256                   // assembly with registers of 256 bits
	vaes512                   // assembly with registers of 512 bits
)

// bestAES is the fastest of codesAES. It is asked once for every key.
func bestAES() aesCode {
	codes := codesAES()
	return codes[len(codes)-1]
}
