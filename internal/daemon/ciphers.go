package daemon

import (
	"errors"
	"time"

	"tund/config"
	"tund/crypto/aead"
	"tund/tunnel/datasession"
)

// errNoAES refuses a configuration that this processor cannot carry out.
var errNoAES = errors.New(`tunnel: cipher: "aes256gcm" needs a processor with instructions for AES, ` +
	`without which it is slow and its duration may depend on the key; this one has none: use "auto"`)

// ciphers returns the ciphers that data sessions may use, with what each costs this host. It takes
// about a millisecond. AES is among them only if the processor computes it in constant time.
func ciphers(choice config.Cipher) (costs []datasession.Cost, err error) {
	if choice == config.CipherAES && !aead.HasAES() {
		return nil, errNoAES
	}
	if choice != config.CipherAES {
		costs = append(costs, datasession.Cost{Suite: aead.ChaCha20Poly1305})
	}
	if choice != config.CipherChaCha && aead.HasAES() {
		costs = append(costs, datasession.Cost{Suite: aead.AES256GCM})
	}
	for i := range costs {
		costs[i].Nanoseconds = costOf(costs[i].Suite)
	}
	return costs, nil
}

const (
	// costBytes is the size of the message whose cost decides: a packet of a usual path.
	costBytes = 1420
	// costRuns times costMessages are sealed and opened to measure a cipher. The fastest run
	// counts: an interruption makes others slower.
	costRuns, costMessages = 16, 16
)

// costOf measures what sealing and opening a message costs in a suite, in nanoseconds.
func costOf(s aead.Suite) uint32 {
	c := aead.New(s, new([aead.KeySize]byte))
	nonce, plain, sealed := new([aead.NonceSize]byte), make([]byte, costBytes), make([]byte, costBytes+aead.Overhead)
	best := time.Hour
	for range costRuns {
		began := time.Now()
		for range costMessages {
			c.Seal(sealed, nonce, plain)
			c.Open(plain, nonce, sealed)
		}
		best = min(best, time.Since(began))
	}
	return uint32(max(best/costMessages, 1))
}
