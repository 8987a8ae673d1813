package peer

import (
	"testing"

	"tund/crypto/keys"
)

// The low byte of an index tells the kernel to which lane its messages go.
func TestIndex_reservesForALane(t *testing.T) {
	t.Parallel()
	ix, p := new(Index), New(keys.PublicKey{1})
	seen := map[uint32]bool{}
	for lanes := 1; lanes <= 64; lanes++ {
		for lane := range lanes {
			index := ix.reserve(p, lane, lanes)
			if int(index&0xff)%lanes != lane || seen[index] {
				t.Fatalf("index %x for lane %d of %d, taken %t", index, lane, lanes, seen[index])
			}
			seen[index] = true
		}
	}
	if n := ix.Len(); n != len(seen) {
		t.Errorf("%d indices in the table, want %d", n, len(seen))
	}
}
