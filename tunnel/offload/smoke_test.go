package offload

import "testing"

func TestCoalescer_slotThenCancelIsHarmless(t *testing.T) {
	c := NewCoalescer(IP, 0, Features{true, true, true}, func([]byte) {})
	b := c.Slot(100)
	clear(b)
	c.Cancel()
	c.Flush()
}
