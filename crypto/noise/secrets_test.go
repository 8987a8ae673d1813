package noise

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/crypto/keys"
)

// Every type with a secret says "(hidden)" to every way of printing, and nothing else.
func TestSecrets_areNeverPrinted(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	p, m1 := initiate(t, a)
	in, err := b.id.OpenInitiation(m1[:])
	if err != nil {
		t.Fatal(err)
	}
	k, _ := respond(t, b, keys.PresharedKey{}, m1[:])
	checker := NewCookieChecker(b.id)
	checker.cookie(source, start)
	macs := NewMacs(a.remote)
	cookieRun(t, macs, checker, m1[:], start)

	for _, v := range []any{a.id, a.remote, p, in, k, &k, macs, checker, NewMAC1Checker(b.id)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%b", "%c"} {
			if got := fmt.Sprintf(verb, v); got != keys.Hidden {
				t.Errorf("%T with %s: %q, want %q", v, verb, got, keys.Hidden)
			}
		}
	}
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", k, "p", &k)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "k", k, "p", &k)
	zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zapcore.DebugLevel)).
		Info("x", zap.Any("k", k), zap.Any("p", &k), zap.Reflect("r", k))
	text, err := json.Marshal([]any{k, &k, a.id, a.remote, p, in, macs, checker})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	for _, secret := range [][32]byte{k.Send, k.Receive, k.Exporter} {
		list := strings.Trim(strings.ReplaceAll(fmt.Sprint(secret[:4]), " ", ","), "[]")
		if strings.Contains(out.String(), list) || bytes.Contains([]byte(out.String()), secret[:4]) ||
			strings.Contains(out.String(), fmt.Sprintf("%x", secret[:4])) {
			t.Errorf("a transport key in %s", out.String())
		}
	}
}
