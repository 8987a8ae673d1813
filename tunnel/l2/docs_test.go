package l2

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestProtocolDocument_examplesAreWhatWeSend verifies that the examples in
// docs/protocol-ethernet.md are what the code produces.
func TestProtocolDocument_examplesAreWhatWeSend(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/protocol-ethernet.md")
	if err != nil {
		t.Fatal(err)
	}
	whole, part := make([]byte, FrameHeaderLen), make([]byte, FragmentHeaderLen)
	PutFrameHeader(whole, 0, 60)
	cut, _ := Cut(1514, 1420)
	PutFragmentHeader(part, 0, 1514, 7, cut, true)
	for _, b := range [][]byte{whole, part} {
		var words []string
		for i := 0; i < len(b); i += 4 {
			h := hex.EncodeToString(b[i : i+4])
			words = append(words, h[0:2]+" "+h[2:4]+" "+h[4:6]+" "+h[6:8])
		}
		if example := strings.Join(words, "  ") + "  …"; !strings.Contains(string(text), example) {
			t.Errorf("the document lacks %q", example)
		}
	}
}
