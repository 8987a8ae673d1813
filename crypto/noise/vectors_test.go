package noise

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"tund/crypto/keys"
	"tund/crypto/wire"
)

// hexBytes reads a hex string of a test data file.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func load(t testing.TB, file string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func ephemeral(t testing.TB, key []byte) *ecdh.PrivateKey {
	t.Helper()
	e, err := ecdh.X25519().NewPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The vectors have payloads, prologues and transport messages of their own, so they run on the
// message patterns below the WireGuard messages.
func TestNoise_vectorsOfCacophonyAndFlynn(t *testing.T) {
	t.Parallel()
	var vectors []struct {
		Name          string
		Prologue      hexBytes
		Preshared     hexBytes
		InitStatic    hexBytes `json:"init_static"`
		InitEphemeral hexBytes `json:"init_ephemeral"`
		RespStatic    hexBytes `json:"resp_static"`
		RespEphemeral hexBytes `json:"resp_ephemeral"`
		HandshakeHash hexBytes `json:"handshake_hash"`
		Messages      []struct{ Payload, Ciphertext hexBytes }
	}
	load(t, "ikpsk2.json", &vectors)
	if len(vectors) != 5 {
		t.Fatalf("%d vectors, want 5", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			alice, bob := NewIdentity(keys.PrivateKey(v.InitStatic)), NewIdentity(keys.PrivateKey(v.RespStatic))
			toBob, toAlice := NewRemote(alice, bob.public), NewRemote(bob, alice.public)
			psk := keys.PresharedKey(v.Preshared)
			m1, m2 := v.Messages[0], v.Messages[1]
			var a symmetric
			in := &Incoming{}
			a.start(v.Prologue, (*[32]byte)(&bob.public))
			in.state.start(v.Prologue, (*[32]byte)(&bob.public))

			e := ephemeral(t, v.InitEphemeral)
			out := make([]byte, len(m1.Ciphertext))
			if err := alice.writeInitiation(&a, e, toBob, out, m1.Payload); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, m1.Ciphertext) {
				t.Fatalf("first message %x, want %x", out, m1.Ciphertext)
			}
			if err := bob.readStatic(in, out); err != nil || in.public != alice.public {
				t.Fatalf("static key %v, %v, want %v", in.public, err, alice.public)
			}
			payload := make([]byte, len(m1.Payload))
			if !in.readPayload(toAlice, payload, out[initiationNoiseSize:]) || !bytes.Equal(payload, m1.Payload) {
				t.Fatalf("first payload %x, want %x", payload, m1.Payload)
			}

			out = make([]byte, len(m2.Ciphertext))
			if err := in.writeResponse(ephemeral(t, v.RespEphemeral), psk, out, m2.Payload); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, m2.Ciphertext) {
				t.Fatalf("second message %x, want %x", out, m2.Ciphertext)
			}
			payload = make([]byte, len(m2.Payload))
			if err := alice.readResponse(&a, e, psk, out, payload); err != nil || !bytes.Equal(payload, m2.Payload) {
				t.Fatalf("second payload %x, %v, want %x", payload, err, m2.Payload)
			}
			if a.hash != in.state.hash || len(v.HandshakeHash) > 0 && !bytes.Equal(a.hash[:], v.HandshakeHash) {
				t.Errorf("handshake hash %x and %x, want %x", a.hash, in.state.hash, []byte(v.HandshakeHash))
			}

			var k [3][32]byte
			k[0], k[1], k[2] = a.split()
			if x, y, z := in.state.split(); x != k[0] || y != k[1] || z != k[2] {
				t.Error("the two sides have different transport keys")
			}
			if want := lastKDF(t, a.chain[:]); !bytes.Equal(slices.Concat(k[0][:], k[1][:], k[2][:]), want) {
				t.Errorf("transport keys and exporter %x, want %x", k, want)
			}
			for i, m := range v.Messages[2:] {
				nonce := zeroNonce
				nonce[4] = byte(i / 2)
				got := newAEAD(k[i%2][:], chacha20poly1305.New).Seal(nil, nonce[:], m.Payload, nil)
				if !bytes.Equal(got, m.Ciphertext) {
					t.Errorf("message %d: %x, want %x", i+3, got, []byte(m.Ciphertext))
				}
			}
		})
	}
}

// lastKDF is what HKDF of the standard library makes of the last chaining key.
func lastKDF(t *testing.T, chain []byte) []byte {
	t.Helper()
	blake := func() hash.Hash {
		h, err := blake2s.New256(nil)
		if err != nil {
			panic(err)
		}
		return h
	}
	out, err := hkdf.Key(blake, []byte{}, chain, "", 3*hashSize)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// capture is a handshake of the kernel's WireGuard with all private keys.
type capture struct {
	Name               string
	InitiatorStatic    hexBytes `json:"initiator_static"`
	ResponderStatic    hexBytes `json:"responder_static"`
	InitiatorEphemeral hexBytes `json:"initiator_ephemeral"`
	ResponderEphemeral hexBytes `json:"responder_ephemeral"`
	Preshared          hexBytes
	Initiation         hexBytes
	Response           hexBytes
	Timestamp          hexBytes
	InitiatorSends     hexBytes `json:"initiator_sends"`
	ResponderSends     hexBytes `json:"responder_sends"`
}

func captures(t testing.TB) []capture {
	t.Helper()
	var c []capture
	load(t, "handshakes.json", &c)
	if len(c) != 4 {
		t.Fatalf("%d handshakes, want 4", len(c))
	}
	return c
}

// Both roles make the captured messages again, byte for byte, macs included, and end with the same
// keys.
func TestHandshake_reproducesCapturesOfTheKernel(t *testing.T) {
	t.Parallel()
	for _, c := range captures(t) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			alice, bob := NewIdentity(keys.PrivateKey(c.InitiatorStatic)), NewIdentity(keys.PrivateKey(c.ResponderStatic))
			toBob, toAlice := NewRemote(alice, bob.Public()), NewRemote(bob, alice.Public())
			psk := keys.PresharedKey(c.Preshared)

			var initiation [wire.InitiationSize]byte
			p, err := alice.initiate(&initiation, toBob, wire.Sender(c.Initiation), Timestamp(c.Timestamp), ephemeral(t, c.InitiatorEphemeral))
			if err != nil {
				t.Fatal(err)
			}
			NewMacs(toBob).Add(initiation[:], 1)
			if !bytes.Equal(initiation[:], c.Initiation) {
				t.Fatalf("initiation\n got %x\nwant %x", initiation, []byte(c.Initiation))
			}
			if !NewMAC1Checker(bob).Valid(c.Initiation) || NewMAC1Checker(alice).Valid(c.Initiation) {
				t.Error("mac1 of the initiation: not valid for the responder, or valid for the initiator")
			}

			in, err := bob.OpenInitiation(c.Initiation)
			if err != nil {
				t.Fatal(err)
			}
			if in.Public() != alice.Public() || in.Sender() != wire.Sender(c.Initiation) {
				t.Errorf("from %v, sender %d", in.Public(), in.Sender())
			}
			if ts, err := in.Authenticate(toAlice); err != nil || ts != Timestamp(c.Timestamp) {
				t.Fatalf("timestamp %x, %v, want %x", ts, err, []byte(c.Timestamp))
			}
			var response [wire.ResponseSize]byte
			bobKeys, err := in.respond(&response, toAlice, psk, wire.Sender(c.Response), ephemeral(t, c.ResponderEphemeral))
			if err != nil {
				t.Fatal(err)
			}
			NewMacs(toAlice).Add(response[:], 1)
			if !bytes.Equal(response[:], c.Response) {
				t.Fatalf("response\n got %x\nwant %x", response, []byte(c.Response))
			}
			if !NewMAC1Checker(alice).Valid(c.Response) || NewMAC1Checker(bob).Valid(c.Response) {
				t.Error("mac1 of the response: not valid for the initiator, or valid for the responder")
			}

			aliceKeys, err := alice.Finish(p, toBob, psk, c.Response)
			if err != nil {
				t.Fatal(err)
			}
			a, b := [32]byte(c.InitiatorSends), [32]byte(c.ResponderSends)
			ai, bi := wire.Sender(c.Initiation), wire.Sender(c.Response)
			if want := (Keys{a, b, bobKeys.Exporter, ai, bi, true}); aliceKeys != want {
				t.Error("the initiator's keys differ")
			}
			if want := (Keys{b, a, aliceKeys.Exporter, bi, ai, false}); bobKeys != want {
				t.Error("the responder's keys differ")
			}
		})
	}
}

func TestAEAD_xchachaOfWycheproof(t *testing.T) {
	t.Parallel()
	var tests []struct {
		ID                         int `json:"tcId"`
		Comment, Result            string
		Key, IV, AAD, Msg, CT, Tag hexBytes
	}
	load(t, "wycheproof-xchacha20-poly1305.json", &tests)
	if len(tests) != 315 {
		t.Fatalf("%d tests, want 315", len(tests))
	}
	ran := 0
	for _, tt := range tests {
		if len(tt.Key) != keySize || len(tt.IV) != chacha20poly1305.NonceSizeX {
			if tt.Result != "invalid" {
				t.Errorf("test %d: %s with a key of %d and a nonce of %d bytes", tt.ID, tt.Result, len(tt.Key), len(tt.IV))
			}
			continue // a cookie reply has no room for other nonces
		}
		ran++
		aead := newAEAD(tt.Key, chacha20poly1305.NewX)
		sealed := append(bytes.Clone(tt.CT), tt.Tag...)
		got, err := aead.Open(nil, tt.IV, sealed, tt.AAD)
		if (err == nil) != (tt.Result == "valid") || err == nil && !bytes.Equal(got, tt.Msg) {
			t.Errorf("test %d (%s): open: %x, %v, want %s", tt.ID, tt.Comment, got, err, tt.Result)
		}
		if tt.Result == "valid" && !bytes.Equal(aead.Seal(nil, tt.IV, tt.Msg, tt.AAD), sealed) {
			t.Errorf("test %d (%s): seal differs", tt.ID, tt.Comment)
		}
	}
	if ran < 250 {
		t.Errorf("only %d tests ran", ran)
	}
}

func newBlake2s() hash.Hash {
	h, err := blake2s.New256(nil)
	if err != nil {
		panic(err)
	}
	return h
}

func TestKDF_agreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	rnd := rand.NewChaCha8(sha256.Sum256([]byte("kdf")))
	for n := range 100 {
		var key [32]byte
		input := make([]byte, n)
		_, _ = rnd.Read(key[:])
		_, _ = rnd.Read(input)

		ref := stdhmac.New(newBlake2s, key[:])
		ref.Write(input)
		if got := hmac(&key, input); !bytes.Equal(got[:], ref.Sum(nil)) {
			t.Fatalf("hmac of %d bytes differs", n)
		}
		want, err := hkdf.Key(newBlake2s, input, key[:], "", 96)
		if err != nil {
			t.Fatal(err)
		}
		var out [3][32]byte
		kdf(&key, input, &out[0], &out[1], &out[2])
		if got := bytes.Join([][]byte{out[0][:], out[1][:], out[2][:]}, nil); !bytes.Equal(got, want) {
			t.Fatalf("kdf of %d bytes: %x, want %x", n, got, want)
		}
		chain := key
		kdf(&chain, input, &chain, &out[1], nil)
		if !bytes.Equal(chain[:], want[:32]) || !bytes.Equal(out[1][:], want[32:64]) {
			t.Fatal("kdf into its own key differs")
		}
	}
}
