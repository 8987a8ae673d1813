package aead

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"tund/crypto/keys"
)

// hexBytes reads a hex string of a test data file.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// implementation is one way to compute a suite, and the library that says what is right.
type implementation struct {
	name   string
	suite  Suite
	new    func(key *[KeySize]byte) *Cipher
	oracle func(key *[KeySize]byte, nonce *[NonceSize]byte, plaintext []byte) []byte
}

// implementations are what this machine can run: x/crypto and the standard library always, the
// assembly where it is supported.
func implementations() []implementation {
	list := []implementation{
		{"xcrypto", ChaCha20Poly1305, func(key *[KeySize]byte) *Cipher { return newCipher(key, false) }, oracle},
		{"standard AES", AES256GCM, func(key *[KeySize]byte) *Cipher { return newAES(key, libraryAES) }, oracleAES},
	}
	return append(list, assemblies()...)
}

// assemblies are those of ours that this machine can run.
func assemblies() (list []implementation) {
	if supported() {
		list = append(list, implementation{
			"assembly", ChaCha20Poly1305, func(key *[KeySize]byte) *Cipher { return newCipher(key, true) }, oracle,
		})
	}
	for _, code := range codesAES()[1:] {
		list = append(list, implementation{
			map[aesCode]string{vaes256: "AES assembly 256", vaes512: "AES assembly 512"}[code],
			AES256GCM, func(key *[KeySize]byte) *Cipher { return newAES(key, code) }, oracleAES,
		})
	}
	return list
}

// oracle is x/crypto, called past this package.
func oracle(key *[KeySize]byte, nonce *[NonceSize]byte, plaintext []byte) []byte {
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err)
	}
	return a.Seal(nil, nonce[:], plaintext, nil)
}

// oracleAES is the standard library, called past this package.
func oracleAES(key *[KeySize]byte, nonce *[NonceSize]byte, plaintext []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm.Seal(nil, nonce[:], plaintext, nil)
}

func fill(r *rand.Rand, bs ...[]byte) {
	for _, b := range bs {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
}

// check compares the cipher with the oracle: sealing, opening, and that a byte of frame around both
// results and the inputs stay as they are. Room for src and dst begin at the offsets given.
func check(t *testing.T, impl implementation, key *[KeySize]byte, nonce *[NonceSize]byte, plaintext []byte, srcOffset, dstOffset int) {
	t.Helper()
	const frame = 64
	n, want := len(plaintext), impl.oracle(key, nonce, plaintext)
	c := impl.new(key)

	src := append(make([]byte, srcOffset), plaintext...)[srcOffset:]
	room := bytes.Repeat([]byte{0xee}, dstOffset+n+Overhead+frame)
	if got := c.Seal(room[dstOffset:], nonce, src); got != n+Overhead || !bytes.Equal(room[dstOffset:][:got], want) {
		t.Fatalf("%s: Seal of %d bytes from %d to %d: %d\n got %x\nwant %x", impl.name, n, srcOffset, dstOffset, got, room[dstOffset:][:got], want)
	}
	checkFrame(t, room, dstOffset, n+Overhead)

	src = append(make([]byte, srcOffset), want...)[srcOffset:]
	room = bytes.Repeat([]byte{0xee}, dstOffset+n+frame)
	if got, ok := c.Open(room[dstOffset:], nonce, src); !ok || got != n || !bytes.Equal(room[dstOffset:][:n], plaintext) {
		t.Fatalf("%s: Open of %d bytes from %d to %d: %d, %t", impl.name, n, srcOffset, dstOffset, got, ok)
	}
	checkFrame(t, room, dstOffset, n)
	if !bytes.Equal(src, want) {
		t.Fatalf("%s: Open of %d bytes wrote to its input", impl.name, n)
	}
}

func checkFrame(t *testing.T, room []byte, begin, n int) {
	t.Helper()
	for i, b := range room {
		if (i < begin || i >= begin+n) && b != 0xee {
			t.Fatalf("%d bytes at %d: byte %d was written", n, begin, i)
		}
	}
}

func TestCipher_isTheLibrarysAtEveryLength(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 4200)
	fill(r, buf)
	for n := range len(buf) + 1 {
		var key [KeySize]byte
		var nonce [NonceSize]byte
		fill(r, key[:], nonce[:])
		for _, impl := range implementations() {
			check(t, impl, &key, &nonce, buf[:n], r.IntN(64), r.IntN(64))
		}
	}
	for _, impl := range assemblies() {
		for _, n := range []int{65503, 65504, 1 << 20} {
			check(t, impl, new([KeySize]byte), new([NonceSize]byte), make([]byte, n), 1, 3)
		}
	}
}

func TestCipher_isTheLibrarysAtEveryAlignment(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 1))
	buf := make([]byte, 1424)
	fill(r, buf)
	for _, impl := range assemblies() {
		for _, n := range []int{33, 96, 241, 600, 1424} {
			for offset := range 64 {
				check(t, impl, new([KeySize]byte), new([NonceSize]byte), buf[:n], offset, 63-offset)
				check(t, impl, new([KeySize]byte), new([NonceSize]byte), buf[:n], offset, 0)
			}
		}
	}
}

// TUND_TEST_SOAK=1 makes this half a million messages.
func TestSoakCipher_isTheLibrarysForRandomMessages(t *testing.T) {
	t.Parallel()
	count := 10_000
	if os.Getenv("TUND_TEST_SOAK") != "" {
		count = 500_000
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, 4096)
	for i := range count {
		var key [KeySize]byte
		var nonce [NonceSize]byte
		n := r.IntN(1 << (4 + r.IntN(9)))
		fill(r, key[:], nonce[:])
		switch m := buf[:n]; r.IntN(8) {
		case 0:
			clear(m)
		case 1, 2: // encrypts to blocks of ones
			clear(m)
			ones := []func(*[KeySize]byte, *[NonceSize]byte, []byte) []byte{oracle, oracleAES}[i%2](&key, &nonce, m)
			for j := range m {
				m[j] = ^ones[j]
			}
		default:
			for j := range m {
				m[j] = byte(j) + byte(i)
			}
		}
		for _, impl := range assemblies() {
			check(t, impl, &key, &nonce, buf[:n], r.IntN(64), r.IntN(64))
		}
		if t.Failed() {
			t.Fatalf("seed %d, message %d", seed, i)
		}
	}
}

func TestCipher_reproducesWycheproof(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wycheproof-chacha20-poly1305.json")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		ID                         int `json:"tcId"`
		Comment, Result            string
		Key, IV, AAD, Msg, CT, Tag hexBytes
	}
	if err := json.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	if len(tests) != 325 {
		t.Fatalf("%d tests, want 325", len(tests))
	}
	for _, impl := range implementations() {
		if impl.suite != ChaCha20Poly1305 {
			continue
		}
		ran := 0
		for _, tt := range tests {
			if len(tt.IV) != NonceSize || len(tt.AAD) != 0 {
				continue // a transport message has neither
			}
			ran++
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
		if ran != 45 {
			t.Errorf("%s: %d tests ran, want 45", impl.name, ran)
		}
	}
}

func TestCipher_refusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 1))
	var key [KeySize]byte
	var nonce [NonceSize]byte
	fill(r, key[:], nonce[:])
	for _, impl := range implementations() {
		c := impl.new(&key)
		for _, n := range []int{0, 1, 16, 48, 63, 64, 65, 240, 241, 256, 300, 1424} {
			sealed := make([]byte, n+Overhead)
			c.Seal(sealed, &nonce, make([]byte, n))
			out := make([]byte, n+1)
			for i := range sealed {
				bit := byte(1) << r.IntN(8)
				sealed[i] ^= bit
				copy(out, bytes.Repeat([]byte{0xdd}, n+1))
				if got, ok := c.Open(out, &nonce, sealed); ok || got != 0 || !bytes.Equal(out[:n], make([]byte, n)) || out[n] != 0xdd {
					t.Fatalf("%s: byte %d of %d: %d, %t, left %x", impl.name, i, n, got, ok, out)
				}
				sealed[i] ^= bit
			}
			for i := range nonce {
				nonce[i]++
				if _, ok := c.Open(out, &nonce, sealed); ok {
					t.Errorf("%s: opens with another nonce", impl.name)
				}
				nonce[i]--
			}
			if _, ok := c.Open(out, &nonce, sealed); !ok {
				t.Errorf("%s: the true message of %d bytes does not open", impl.name, n)
			}
		}
	}
}

func TestCipher_refusesWhatIsTooShort(t *testing.T) {
	t.Parallel()
	for _, impl := range implementations() {
		c, nonce := impl.new(new([KeySize]byte)), new([NonceSize]byte)
		sealed := make([]byte, 40+Overhead)
		c.Seal(sealed, nonce, make([]byte, 40))
		out := make([]byte, 40)
		for n := range len(sealed) {
			if got, ok := c.Open(out, nonce, sealed[:n]); ok || got != 0 {
				t.Errorf("%s: %d of %d bytes open", impl.name, n, len(sealed))
			}
		}
		if got, ok := c.Open(out[:39:39], nonce, sealed); ok || got != 0 {
			t.Errorf("%s: opens into a buffer that is too small", impl.name)
		}
		if _, ok := c.Open(nil, nonce, nil); ok {
			t.Errorf("%s: nothing opens", impl.name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: seals into a buffer that is too small", impl.name)
				}
			}()
			c.Seal(make([]byte, 40+Overhead-1), nonce, make([]byte, 40))
		}()
	}
}

func TestCipher_buffersThatOverlap(t *testing.T) {
	t.Parallel()
	for _, impl := range implementations() {
		c, nonce := impl.new(new([KeySize]byte)), new([NonceSize]byte)
		plain := bytes.Repeat([]byte{7}, 300)
		want := impl.oracle(new([KeySize]byte), nonce, plain)
		buf := append(bytes.Clone(plain), make([]byte, Overhead)...)
		if c.Seal(buf, nonce, buf[:300]); !bytes.Equal(buf, want) {
			t.Errorf("%s: sealed in place %x, want %x", impl.name, buf, want)
		}
		if n, ok := c.Open(buf, nonce, buf); !ok || n != 300 || !bytes.Equal(buf[:300], plain) {
			t.Errorf("%s: opened in place: %d, %t", impl.name, n, ok)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: seals into its own input", impl.name)
				}
			}()
			c.Seal(buf, nonce, buf[1:100])
		}()
		// Neighbours do not overlap.
		arena := append(bytes.Clone(plain), make([]byte, 300+Overhead)...)
		if c.Seal(arena[300:], nonce, arena[:300]); !bytes.Equal(arena[300:], want) {
			t.Errorf("%s: sealed next to the plaintext %x", impl.name, arena[300:])
		}
	}
}

func TestCipher_doesNotAllocate(t *testing.T) {
	for _, impl := range implementations() {
		c, nonce := impl.new(new([KeySize]byte)), new([NonceSize]byte)
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
			t.Errorf("%s: %v allocations, want 0", impl.name, got)
		}
	}
}

func TestCipher_printsNothingSecret(t *testing.T) {
	t.Parallel()
	for _, impl := range implementations() {
		c := impl.new(&[KeySize]byte{0xab, 0xab})
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			if got := fmt.Sprintf(verb, c); got != keys.Hidden {
				t.Errorf("%s: %q, want %q", verb, got, keys.Hidden)
			}
		}
		if text, err := json.Marshal(struct{ C *Cipher }{c}); err != nil || string(text) != `{"C":{}}` {
			t.Errorf("JSON %s, %v", text, err)
		}
	}
}

func FuzzCipher(f *testing.F) {
	f.Add(make([]byte, 44), uint8(0), uint8(0))
	f.Add(bytes.Repeat([]byte{0xff}, 300), uint8(1), uint8(63))
	f.Add(make([]byte, 1600), uint8(16), uint8(5))
	f.Fuzz(func(t *testing.T, data []byte, srcOffset, dstOffset uint8) {
		if len(data) < KeySize+NonceSize {
			return
		}
		key, nonce, m := (*[KeySize]byte)(data), (*[NonceSize]byte)(data[KeySize:]), data[KeySize+NonceSize:]
		for _, impl := range implementations() {
			check(t, impl, key, nonce, m, int(srcOffset), int(dstOffset))
		}
		// The message as ciphertext: assembly and library refuse it, or both open it.
		for _, impl := range assemblies() {
			if len(m) < Overhead {
				break
			}
			library := newCipher(key, false)
			if impl.suite == AES256GCM {
				library = newAES(key, libraryAES)
			}
			n, ok := impl.new(key).Open(make([]byte, len(m)), nonce, m)
			if wantN, want := library.Open(make([]byte, len(m)), nonce, m); ok != want || n != wantN {
				t.Errorf("%s: Open: %d, %t, want %d, %t", impl.name, n, ok, wantN, want)
			}
		}
	})
}
