package noise

import (
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDH_wycheproof(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wycheproof-x25519.json")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		ID      int `json:"tcId"`
		Comment string
		Public  string
		Private string
		Shared  string
		Result  string
	}
	if err := json.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	if len(tests) != 518 {
		t.Fatalf("%d tests, want 518", len(tests))
	}
	lowOrder := 0
	for _, tt := range tests {
		want := [32]byte(unhex(t, tt.Shared))
		private, err := ecdh.X25519().NewPrivateKey(unhex(t, tt.Private))
		if err != nil {
			t.Fatal(err)
		}
		var got [32]byte
		err = dh(&got, private, unhex(t, tt.Public))
		if want == [32]byte{} {
			lowOrder++
			if !errors.Is(err, ErrLowOrder) {
				t.Errorf("test %d (%s): error %v, want ErrLowOrder", tt.ID, tt.Comment, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("test %d (%s): got %x, %v, want %x", tt.ID, tt.Comment, got, err, want)
		}
	}
	if lowOrder == 0 {
		t.Error("no test with a low-order point")
	}
}
