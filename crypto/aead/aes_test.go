package aead

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"tund/crypto/keys"
)

func TestAES_reproducesWycheproof(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wycheproof-aes-256-gcm.json")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		ID                    int `json:"tcId"`
		Comment, Result       string
		Key, IV, Msg, CT, Tag hexBytes
	}
	if err := json.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	if len(tests) != 48 {
		t.Fatalf("%d tests, want 48", len(tests))
	}
	for _, impl := range implementations() {
		if impl.suite != AES256GCM {
			continue
		}
		for _, tt := range tests {
			c, nonce := impl.new((*[KeySize]byte)(tt.Key)), (*[NonceSize]byte)(tt.IV)
			sealed := append(bytes.Clone(tt.CT), tt.Tag...)
			got := make([]byte, len(tt.CT))
			n, ok := c.Open(got, nonce, sealed)
			if ok != (tt.Result == "valid") || ok && !bytes.Equal(got[:n], tt.Msg) {
				t.Errorf("%s, test %d (%s): open: %x, %t, want %s", impl.name, tt.ID, tt.Comment, got, ok, tt.Result)
			}
			again := make([]byte, len(sealed))
			if tt.Result == "valid" && (c.Seal(again, nonce, tt.Msg) != len(again) || !bytes.Equal(again, sealed)) {
				t.Errorf("%s, test %d (%s): seal differs", impl.name, tt.ID, tt.Comment)
			}
		}
	}
}

func TestAES_refusesForgeriesAndLeavesNoPlaintext(t *testing.T) {
	t.Parallel()
	c, nonce := New(AES256GCM, &[KeySize]byte{1}), new([NonceSize]byte)
	plain := bytes.Repeat([]byte{7}, 300)
	sealed := make([]byte, len(plain)+Overhead)
	c.Seal(sealed, nonce, plain)
	for i := range sealed {
		out := bytes.Repeat([]byte{0xdd}, len(plain)+1)
		sealed[i] ^= 4
		if n, ok := c.Open(out, nonce, sealed); ok || n != 0 || !bytes.Equal(out[:300], make([]byte, 300)) || out[300] != 0xdd {
			t.Fatalf("byte %d: %d, %t, left %x", i, n, ok, out)
		}
		sealed[i] ^= 4
	}
	out := make([]byte, len(plain))
	for n := range len(sealed) {
		if _, ok := c.Open(out, nonce, sealed[:n]); ok {
			t.Errorf("%d of %d bytes open", n, len(sealed))
		}
	}
	if _, ok := New(ChaCha20Poly1305, &[KeySize]byte{1}).Open(out, nonce, sealed); ok {
		t.Error("the other suite opens the message")
	}
	if n, ok := c.Open(out, nonce, sealed); !ok || !bytes.Equal(out[:n], plain) {
		t.Error("the true message does not open")
	}
}

func TestAES_doesNotAllocate(t *testing.T) {
	c, nonce := New(AES256GCM, new([KeySize]byte)), new([NonceSize]byte)
	plain, sealed := make([]byte, 1424), make([]byte, 1424+Overhead)
	if got := testing.AllocsPerRun(100, func() {
		c.Seal(sealed, nonce, plain)
		if _, ok := c.Open(plain, nonce, sealed); !ok {
			t.Fatal("not opened")
		}
		sealed[3] ^= 1
		if _, ok := c.Open(plain, nonce, sealed); ok {
			t.Fatal("a forgery opened")
		}
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestAES_printsNothingSecret(t *testing.T) {
	t.Parallel()
	c := New(AES256GCM, &[KeySize]byte{0xab, 0xab})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, c); got != keys.Hidden {
			t.Errorf("%s: %q, want %q", verb, got, keys.Hidden)
		}
	}
}

func TestAES_inPlaceAtEveryLength(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 1))
	var key [KeySize]byte
	var nonce [NonceSize]byte
	buf, plain := make([]byte, 2000+Overhead), make([]byte, 2000)
	fill(r, plain)
	for n := range len(plain) + 1 {
		fill(r, key[:], nonce[:])
		want := oracleAES(&key, &nonce, plain[:n])
		for _, impl := range implementations() {
			if impl.suite != AES256GCM {
				continue
			}
			c := impl.new(&key)
			copy(buf, plain[:n])
			if c.Seal(buf, &nonce, buf[:n]); !bytes.Equal(buf[:n+Overhead], want) {
				t.Fatalf("%s: Seal of %d bytes: %x", impl.name, n, buf[:n+Overhead])
			}
			if got, ok := c.Open(buf, &nonce, buf[:n+Overhead]); !ok || got != n || !bytes.Equal(buf[:n], plain[:n]) {
				t.Fatalf("%s: Open of %d bytes: %d, %t", impl.name, n, got, ok)
			}
		}
	}
}
