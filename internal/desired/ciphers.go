package desired

import (
	"errors"
	"math"
	"time"

	"tund/config"
	"tund/crypto/aead"
	"tund/tunnel/datasession"
)

// errNoAES refuses a configuration that this processor cannot carry out.
var errNoAES = errors.New(`tunnel: cipher: "aes256gcm" needs a processor with instructions for AES, ` +
	`without which it is slow and its duration may depend on the key; this one has none: use "auto"`)

// Ciphers returns the ciphers that data sessions may use, with what each costs this host. It takes
// about a millisecond. AES is among them only if the processor computes it in constant time.
func Ciphers(choice config.Cipher) (costs []datasession.Cost, err error) {
	if choice == config.CipherAES && !aead.HasAES() {
		return nil, errNoAES
	}
	if choice != config.CipherAES {
		costs = append(costs, datasession.Cost{Suite: aead.ChaCha20Poly1305})
	}
	if choice != config.CipherChaCha && aead.HasAES() {
		costs = append(costs, datasession.Cost{Suite: aead.AES256GCM})
	}
	measure(costs)
	return costs, nil
}

const (
	// costBytes is the size of the message whose cost decides: a packet of a usual path.
	costBytes = 1420
	// costRuns times costMessages are sealed and opened to measure a cipher: together about a
	// millisecond.
	costRuns, costMessages = 48, 8
)

// measure finds out what sealing and opening a message costs in each suite. The suites take turns,
// so that what slows the machine down slows down all of them, and the fastest run of each counts.
func measure(costs []datasession.Cost) {
	plain, sealed := make([]byte, costBytes), make([]byte, costBytes+aead.Overhead)
	nonce := new([aead.NonceSize]byte)
	ciphers := make([]*aead.Cipher, len(costs))
	for i, c := range costs {
		ciphers[i] = aead.New(c.Suite, new([aead.KeySize]byte))
		costs[i].Nanoseconds = math.MaxUint32
	}
	for range costRuns {
		for i, c := range ciphers {
			began := time.Now()
			for range costMessages {
				c.Seal(sealed, nonce, plain)
				c.Open(plain, nonce, sealed)
			}
			took := time.Since(began).Nanoseconds() / costMessages
			costs[i].Nanoseconds = min(costs[i].Nanoseconds, uint32(max(took, 1)))
		}
	}
}
