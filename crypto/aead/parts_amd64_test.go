//go:build gc && !purego && !tund_xcrypto

package aead

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// p is the prime of Poly1305.
func p() *big.Int { return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5)) }

func little(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// poly1305 is RFC 8439 §2.5.1 with big integers.
func poly1305(key *[32]byte, msg []byte) (tag [16]byte) {
	r := slices.Clone(key[:16])
	for _, i := range []int{3, 7, 11, 15} {
		r[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		r[i] &= 252
	}
	factor, h, prime := little(r), new(big.Int), p()
	for len(msg) > 0 {
		n := min(16, len(msg))
		h.Add(h, little(append(slices.Clone(msg[:n]), 1)))
		h.Mod(h.Mul(h, factor), prime)
		msg = msg[n:]
	}
	h.Add(h, little(key[16:]))
	h.And(h, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	h.FillBytes(tag[:])
	slices.Reverse(tag[:])
	return tag
}

// framed is the message that Poly1305 sees in an AEAD without additional data.
func framed(msg []byte) []byte {
	out := append(slices.Clone(msg), make([]byte, -len(msg)&15+16)...)
	binary.LittleEndian.PutUint64(out[len(out)-8:], uint64(len(msg)))
	return out
}

// RFC 8439 §2.5.2 and tests 7 to 11 of appendix A.3.
func TestReference_reproducesTheRFC(t *testing.T) {
	t.Parallel()
	ff := "ffffffffffffffffffffffffffffffff"
	zero := "00000000000000000000000000000000"
	for i, tt := range []struct{ key, msg, tag string }{
		{"85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b", hex.EncodeToString([]byte("Cryptographic Forum Research Group")), "a8061dc1305136c6c22b8baf0c0127a9"},
		{"02000000000000000000000000000000" + zero, ff, "03000000000000000000000000000000"},
		{"02000000000000000000000000000000" + ff, "02000000000000000000000000000000", "03000000000000000000000000000000"},
		{"01000000000000000000000000000000" + zero, ff + "f0ffffffffffffffffffffffffffffff" + "11000000000000000000000000000000", "05000000000000000000000000000000"},
		{"01000000000000000000000000000000" + zero, ff + "fbfefefefefefefefefefefefefefefe" + "01010101010101010101010101010101", zero},
		{"02000000000000000000000000000000" + zero, "fdffffffffffffffffffffffffffffff", "faffffffffffffffffffffffffffffff"},
	} {
		if got := poly1305((*[32]byte)(unhex(t, tt.key)), unhex(t, tt.msg)); hex.EncodeToString(got[:]) != tt.tag {
			t.Errorf("%d: %x, want %s", i, got, tt.tag)
		}
	}
}

// RFC 8439 §2.6.2 (the one-time key), §2.4.2 and §2.8.2 (ciphertexts).
func TestChacha_reproducesTheRFC(t *testing.T) {
	t.Parallel()
	if !supported() {
		t.Log("no AVX-512 here")
		return
	}
	sunscreen := []byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")
	for _, tt := range []struct{ key, nonce, otk, ciphertext string }{
		{
			key:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
			nonce: "000000000001020304050607",
			otk:   "8ad5a08b905f81cc815040274ab29471a833b637e3fd0da508dbb8e2fdd1a646",
		},
		{
			key:   "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			nonce: "000000000000004a00000000",
			ciphertext: "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357" +
				"1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736" +
				"5af90bbf74a35be6b40b8eedf2785e42874d",
		},
		{
			key:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
			nonce: "070000004041424344454647",
			otk:   "7bac2b252db447af09b67a55a4e955840ae1d6731075d9eb2a9375783ed553ff",
			ciphertext: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
				"1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
				"3ff4def08e4b7a9de576d26586cec64b6116",
		},
	} {
		var otk [32]byte
		out := make([]byte, len(sunscreen))
		key, nonce := (*[32]byte)(unhex(t, tt.key)), (*[12]byte)(unhex(t, tt.nonce))
		chachaXOR(&out[0], &sunscreen[0], len(out), key, nonce, &otk)
		if got := hex.EncodeToString(otk[:]); tt.otk != "" && got != tt.otk {
			t.Errorf("nonce %s: one-time key %s, want %s", tt.nonce, got, tt.otk)
		}
		if got := hex.EncodeToString(out); tt.ciphertext != "" && got != tt.ciphertext {
			t.Errorf("nonce %s: %s, want %s", tt.nonce, got, tt.ciphertext)
		}
	}
}

// tagOf is polyTag, and checks that it wipes the key.
func tagOf(t *testing.T, key [32]byte, msg []byte) (tag [16]byte) {
	t.Helper()
	polyTag(&tag, &append(slices.Clone(msg), 0)[0], len(msg), &key)
	if key != [32]byte{} {
		t.Errorf("the one-time key is still there: %x", key)
	}
	return tag
}

// edgeKeys are one-time keys with the r that make carries: 0, 1, 2, 4, all ones, ones and zeros in
// turn, one bit at the ends of the limbs of 44 and 64 bits.
func edgeKeys() (ks [][32]byte) {
	for _, s := range []byte{0, 0xff} {
		for _, fill := range []byte{0x00, 0xff, 0x55, 0xaa} {
			ks = append(ks, [32]byte(append(bytes.Repeat([]byte{fill}, 16), bytes.Repeat([]byte{s}, 16)...)))
		}
		for _, bit := range []int{0, 1, 2, 43, 44, 45, 58, 66, 87, 88, 89, 123} {
			k := [32]byte(append(make([]byte, 16), bytes.Repeat([]byte{s}, 16)...))
			k[bit/8] = 1 << (bit % 8)
			ks = append(ks, k)
		}
	}
	return ks
}

func TestPoly_carries(t *testing.T) {
	t.Parallel()
	if !supported() {
		t.Log("no AVX-512 here")
		return
	}
	rnd := rand.New(rand.NewPCG(5, 1))
	messages := []func([]byte){
		func(m []byte) { clear(m) },
		func(m []byte) { copy(m, bytes.Repeat([]byte{0xff}, len(m))) },
		func(m []byte) { // 2^128-5, with the bit of a block p's lower words
			copy(m, bytes.Repeat(append([]byte{0xfb}, bytes.Repeat([]byte{0xff}, 15)...), len(m)/16+1))
		},
		func(m []byte) { fill(rnd, m) },
		func(m []byte) { // blocks of ones and blocks of zeros
			for i := range m {
				m[i] = -byte(i / 16 & 1)
			}
		},
	}
	lengths := []int{0, 1, 15, 16, 17, 32, 48, 64, 223, 224, 225, 239, 240}
	for n := 241; n < 241+16*17; n += 16 { // every number of blocks the first step can lack
		lengths = append(lengths, n, n+15)
	}
	lengths = append(lengths, 752, 1424, 1440)
	for _, key := range edgeKeys() {
		for _, n := range lengths {
			for i, write := range messages {
				m := make([]byte, n)
				write(m)
				if got, want := tagOf(t, key, m), poly1305(&key, framed(m)); got != want {
					t.Errorf("key %x, message %d of %d bytes: %x, want %x", key, i, n, got, want)
				}
			}
		}
	}
}

// With r = 1 the sum of the blocks is what is reduced: here it is made to be, modulo p, the values
// next to 0 and p, where the last subtraction and the last carry decide.
func TestPoly_lastReduction(t *testing.T) {
	t.Parallel()
	if !supported() {
		t.Log("no AVX-512 here")
		return
	}
	rnd := rand.New(rand.NewPCG(6, 1))
	prime, limit := p(), new(big.Int).Lsh(big.NewInt(1), 128)
	for _, blocks := range []int{1, 2, 3, 4, 5, 14, 15, 16, 17, 31, 32, 33, 47, 89} {
		for target := int64(-10); target <= 10; target++ {
			m := make([]byte, 16*blocks)
			for try := 0; ; try++ {
				if try == 1000 {
					if blocks > 5 {
						t.Fatalf("%d blocks, %d: no such message", blocks, target)
					}
					break // a few blocks cannot have every sum
				}
				fill(rnd, m[:len(m)-16])
				rest := big.NewInt(0)
				for f := framed(m); len(f) > 0; f = f[16:] {
					if len(f) != 32 { // all but the last block of m
						rest.Add(rest, little(f[:16]))
					}
					rest.Add(rest, limit)
				}
				last := new(big.Int).Sub(big.NewInt(target), rest)
				if last.Mod(last, prime); last.Cmp(limit) >= 0 {
					continue
				}
				last.FillBytes(m[len(m)-16:])
				slices.Reverse(m[len(m)-16:])
				for _, s := range []byte{0, 0xff} {
					key := [32]byte(append(append([]byte{1}, make([]byte, 15)...), bytes.Repeat([]byte{s}, 16)...))
					if got, want := tagOf(t, key, m), poly1305(&key, framed(m)); got != want {
						t.Errorf("%d blocks, %d: %x, want %x", blocks, target, got, want)
					}
				}
				break
			}
		}
	}
}
