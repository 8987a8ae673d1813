package lane

import (
	"time"

	"tund/internal/boottime"
)

// Budget of one send loop for the growth of superpackets with tiny segments beyond what any
// legitimate one needs (offload.Splitter.Excess), in bytes. It admits datagrams of a few bytes that
// Linux joined while receiving them (rx-udp-gro-forwarding). A container that makes 128 segments of
// one byte out of every packet gets 8 Mbit/s of the underlay for itself, rather than a hundred
// times what it sends.
const (
	excessRate  = 1 << 20   // per second
	excessBurst = 256 << 10 // at once: some 18 superpackets of 128 segments of one byte
)

// excessBudget is the remainder of that budget. The zero value is full. It belongs to one loop.
type excessBudget struct {
	used int           // bytes of the burst
	at   boottime.Time // when used was last reduced
}

// take uses n bytes, or reports that fewer are left.
func (b *excessBudget) take(n int, now boottime.Time) bool {
	passed := min(now.Sub(b.at), time.Second) // longer than it takes to fill
	if refill := int(int64(passed) * excessRate / int64(time.Second)); refill > 0 {
		b.used, b.at = max(0, b.used-refill), now
	}
	if b.used+n > excessBurst {
		return false
	}
	b.used += n
	return true
}
