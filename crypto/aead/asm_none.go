//go:build !amd64 || !gc || purego || tund_xcrypto

package aead

// supported reports whether there is assembly for this processor in this build.
func supported() bool { return false }

// codesAES are the ways in which this build can compute AES-256-GCM.
func codesAES() []aesCode { return []aesCode{libraryAES} }

func chachaXOR(dst, src *byte, n int, key *[32]byte, nonce *[12]byte, otk *[32]byte) {
	panic("crypto/aead: no assembly in this build")
}

func polyTag(tag *[16]byte, msg *byte, n int, otk *[32]byte) {
	panic("crypto/aead: no assembly in this build")
}

func gcmExpand(key *[32]byte, to *gcmKey) {
	panic("crypto/aead: no assembly in this build")
}

func gcmSeal(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte) {
	panic("crypto/aead: no assembly in this build")
}

func gcmOpen(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte) {
	panic("crypto/aead: no assembly in this build")
}

func gcmSeal256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte) {
	panic("crypto/aead: no assembly in this build")
}

func gcmOpen256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte) {
	panic("crypto/aead: no assembly in this build")
}
