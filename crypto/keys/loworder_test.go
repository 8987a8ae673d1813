package keys

import (
	"crypto/ecdh"
	"testing"
)

// TestPublicKey_lowOrderIsWhatX25519Refuses compares the table with the judgement of crypto/ecdh.
func TestPublicKey_lowOrderIsWhatX25519Refuses(t *testing.T) {
	t.Parallel()
	private, err := GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	tried := []PublicKey{{2}, {9}, private.Public(), nearPrime(0xeb), nearPrime(0xef)}
	for _, k := range lowOrder {
		top := k
		top[Size-1] |= 0x80
		tried = append(tried, k, top)
	}
	for _, k := range tried {
		public, err := ecdh.X25519().NewPublicKey(k[:])
		if err != nil {
			t.Fatal(err)
		}
		_, err = secret.ECDH(public)
		if got := k.IsLowOrder(); got != (err != nil) {
			t.Errorf("IsLowOrder(%v) = %t, but crypto/ecdh says %v", k, got, err)
		}
	}
}
