package lane

import (
	"runtime"
	"time"

	"tund/internal/boottime"
)

// yieldEvery is below the 10 ms after which the runtime takes the processor (P) of a goroutine that
// was never scheduled anew, be it in a system call or not (runtime/proc.go, forcePreemptNS).
const yieldEvery = 4 * time.Millisecond

// yielder lets a loop that lives in system calls go through the scheduler once in a while. Without
// that the runtime takes the loop's P in each wait, and each packet that ends a wait has to get one
// back and to wake the runtime's monitor thread, which then looks around every 20 µs: at 500 pings
// a second 1 futex call and 6 wakeups a ping (strace), and 10 to 30 µs of its round trip.
//
// The zero value is ready. It belongs to one loop.
type yielder struct{ last boottime.Time }

// beforeWait is called when the loop has nothing to do but to wait.
func (y *yielder) beforeWait(now boottime.Time) {
	if now.Sub(y.last) >= yieldEvery {
		y.last = now
		runtime.Gosched()
	}
}
