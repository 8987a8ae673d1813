package noise

import (
	"testing"
)

func BenchmarkHandshake(b *testing.B) {
	alice, bob := pair(b)
	psk := preshared(b)
	b.Run("initiator", func(b *testing.B) {
		for b.Loop() {
			p, m1 := initiate(b, alice)
			b.StopTimer()
			_, m2 := respond(b, bob, psk, m1[:])
			b.StartTimer()
			if _, err := alice.id.Finish(p, alice.remote, psk, m2[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	_, m1 := initiate(b, alice)
	b.Run("responder", func(b *testing.B) {
		for b.Loop() {
			respond(b, bob, psk, m1[:])
		}
	})
}

// The form in which a private key is kept decides the price: given bytes, crypto/ecdh computes the
// public key too.
func BenchmarkX25519_keptKey(b *testing.B) {
	alice, bob := pair(b)
	public := bob.id.Public()
	var out [32]byte
	for b.Loop() {
		if err := dh(&out, alice.id.private, public[:]); err != nil {
			b.Fatal(err)
		}
	}
}
