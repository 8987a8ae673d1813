package tunnel

import (
	"testing"
	"unsafe"
)

// 10,000 peers are to fit in 40 MiB with everything else, so a peer is a compact record.
func TestPeer_isACompactRecord(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(Peer{}); n > 768 {
		t.Errorf("Peer is %d bytes, want at most 768", n)
	} else {
		t.Logf("Peer is %d bytes", n)
	}
}
