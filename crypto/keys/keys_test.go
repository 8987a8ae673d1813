package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("bad hex in test data: %v", err)
	}
	return b
}

func TestPrivateKey_generatedIsClampedAndDiffers(t *testing.T) {
	t.Parallel()
	seen := map[PrivateKey]bool{}
	for range 100 {
		k, err := GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		if k[0]&7 != 0 || k[31]&0xc0 != 0x40 {
			t.Fatalf("first byte %08b, last byte %08b: not clamped", k[0], k[31])
		}
		if seen[k] {
			t.Fatal("the same key twice")
		}
		seen[k] = true
	}
}

func TestKeys_base64RoundTrip(t *testing.T) {
	t.Parallel()
	private, err := GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePrivate(private.Base64()); err != nil || got != private {
		t.Errorf("private key did not survive: err %v", err)
	}
	psk, err := GeneratePreshared()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePreshared(psk.Base64()); err != nil || got != psk {
		t.Errorf("preshared key did not survive: err %v", err)
	}
	public := private.Public()
	if got, err := ParsePublic(public.String()); err != nil || got != public {
		t.Errorf("public key did not survive: got %v, err %v, want %v", got, err, public)
	}
	if got, want := public.Short(), public.String()[:8]; got != want {
		t.Errorf("Short() = %q, want %q", got, want)
	}
	text, err := json.Marshal(public)
	if err != nil || string(text) != `"`+public.String()+`"` {
		t.Errorf("JSON = %s, %v, want the base64 text", text, err)
	}
}

// The pair is the responder's of the cacophony Noise vectors.
func TestPrivateKey_publicKeyOfAKnownPair(t *testing.T) {
	t.Parallel()
	k := PrivateKey(unhex(t, "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"))
	want := PublicKey(unhex(t, "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62"))
	if got := k.Public(); got != want {
		t.Errorf("Public() = %v, want %v", got, want)
	}
}

func TestPrivateKey_parsedIsClampedUnlessZero(t *testing.T) {
	t.Parallel()
	loose := bytes.Repeat([]byte{0xff}, Size)
	k, err := ParsePrivate(base64.StdEncoding.EncodeToString(loose))
	if err != nil {
		t.Fatal(err)
	}
	if k[0] != 0xf8 || k[31] != 0x7f {
		t.Errorf("ends are %#x and %#x, want 0xf8 and 0x7f", k[0], k[31])
	}
	zero, err := ParsePrivate(PrivateKey{}.Base64())
	if err != nil || !zero.IsZero() {
		t.Errorf("the zero key became another: zero %t, err %v", zero.IsZero(), err)
	}
	if got := zero.Public(); !got.IsZero() {
		t.Errorf("public key of no key is %v, want none", got)
	}
}

func TestParse_refusesWhatIsNotAKeyWithoutEchoingIt(t *testing.T) {
	t.Parallel()
	const good = "YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	if _, err := ParsePrivate(good); err != nil {
		t.Fatalf("a good key: %v", err)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"one short":        good[1:],
		"one long":         "A" + good,
		"no padding":       good[:43],
		"other last":       good[:43] + "A",
		"spare bits set":   good[:42] + "l=",
		"url alphabet":     strings.ReplaceAll(good, "+", "-"),
		"line break":       good[:20] + "\n" + good[21:],
		"two line breaks":  good[:40] + "\n\n" + good[:2],
		"hex":              strings.Repeat("0a", 22),
		"two padding":      good[:42] + "==",
		"space":            " " + good[:43],
		"not ASCII":        "é" + good[2:],
		"break in padding": good[:42] + "\n=",
	} {
		_, err1 := ParsePrivate(text)
		_, err2 := ParsePublic(text)
		_, err3 := ParsePreshared(text)
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s: error %v, want ErrFormat", name, err)
			} else if text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("%s: the error echoes the input", name)
			}
		}
	}
}

func TestKeys_equalAndZero(t *testing.T) {
	t.Parallel()
	a, err := GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	p := PresharedKey(a)
	b, q := a, p
	b[5]++
	q[5]++
	if !a.Equal(a) || a.Equal(b) || !p.Equal(p) || p.Equal(q) {
		t.Error("Equal is wrong")
	}
	a.Zero()
	p.Zero()
	if !a.IsZero() || !p.IsZero() || b.IsZero() || q.IsZero() || b.Public().IsZero() {
		t.Error("IsZero or Zero is wrong")
	}
}

// secrets is what a careless log line would print: keys in exported fields, pointers, slices and
// maps.
type secrets struct {
	Private   PrivateKey
	Preshared *PresharedKey
	List      []PrivateKey
	Map       map[string]PresharedKey
	Any       any
}

func TestSecrets_areNeverPrinted(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xab, 0xcd, 0xef, 0x81}, 8)
	private, psk := PrivateKey(raw), PresharedKey(raw)
	s := secrets{private, &psk, []PrivateKey{private}, map[string]PresharedKey{"k": psk}, private}

	var out strings.Builder
	for _, v := range []any{private, &private, psk, &psk, s, &s} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%o", "%b", "%c", "%U", "%t", "%08.3v"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", v)
		for _, enc := range []zapcore.Encoder{
			zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
			zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
		} {
			logger := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zapcore.DebugLevel))
			logger.Info("x", zap.Any("any", v), zap.Reflect("reflect", v))
			logger.Sugar().Infof("%v %x", v, v)
			logger.Sugar().Infow("x", "k", v)
		}
	}
	text := strings.ToLower(out.String())
	// Log lines hold digits of their own, so numbers are looked for two in a row.
	for name, leak := range map[string]string{
		"hex":      "abcdef81",
		"Go hex":   "0xab",
		"spaced":   "ab cd",
		"decimal":  "171 205",
		"array":    "171,205",
		"octal":    "253 315",
		"binary":   "10101011",
		"base64":   strings.ToLower(private.Base64()[:8]),
		"verbatim": string(raw[:4]),
	} {
		if strings.Contains(text, leak) {
			t.Errorf("%s of the key in the output", name)
		}
	}
	if !strings.Contains(text, Hidden) {
		t.Errorf("no %q in the output", Hidden)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=")
	f.Add("")
	f.Add(strings.Repeat("=", 44))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePublic(text)
		if err == nil && k.String() != text {
			t.Errorf("%q parsed as %v: not the canonical text", text, k)
		}
	})
}
