package ethernet

import (
	"bytes"
	"testing"
)

func TestAfterMACs_findsWhatIsBehindTags(t *testing.T) {
	t.Parallel()
	ip := []byte{0x60, 1, 2, 3}
	macs := make([]byte, 12)
	for what, frame := range map[string][]byte{
		"untagged": append(append(macs, 0x86, 0xdd), ip...),
		"tagged":   append(append(macs, 0x81, 0, 0, 7, 0x86, 0xdd), ip...),
		"twice":    append(append(macs, 0x88, 0xa8, 0, 7, 0x81, 0, 0, 7, 0x86, 0xdd), ip...),
	} {
		if got := afterMACs(frame); !bytes.Equal(got, ip) {
			t.Errorf("%s: %x", what, got)
		}
		for n := range len(frame) { // cut short, it is read no further than it goes
			if got := afterMACs(frame[:n]); len(got) > len(ip) {
				t.Errorf("%s: %d of %d bytes: %x", what, n, len(frame), got)
			}
		}
	}
}
