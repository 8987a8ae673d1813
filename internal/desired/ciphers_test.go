package desired

import (
	"errors"
	"testing"

	"tund/config"
	"tund/crypto/aead"
)

func TestCiphers_onlyThoseThatAreAllowedAndPossible(t *testing.T) {
	t.Parallel()
	for choice, want := range map[config.Cipher][]aead.Suite{
		config.CipherAuto: {aead.ChaCha20Poly1305, aead.AES256GCM}, config.CipherChaCha: {aead.ChaCha20Poly1305},
		config.CipherAES: {aead.AES256GCM},
	} {
		costs, err := Ciphers(choice)
		if !aead.HasAES() {
			if choice == config.CipherAES {
				if !errors.Is(err, errNoAES) {
					t.Errorf("AES without instructions for it: %v", err)
				}
				continue
			}
			want = []aead.Suite{aead.ChaCha20Poly1305}
		}
		if err != nil || len(costs) != len(want) {
			t.Fatalf("choice %d: %v, %v, want %v", choice, costs, err, want)
		}
		for i, c := range costs {
			if c.Suite != want[i] || c.Nanoseconds < 50 || c.Nanoseconds > 1e7 {
				t.Errorf("choice %d: %v for %d ns", choice, c.Suite, c.Nanoseconds)
			}
		}
	}
}
