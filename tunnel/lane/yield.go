package lane

import (
	"runtime"
	"time"

	"tund/internal/boottime"
)

// yieldEvery is below the 10 ms after which the runtime takes the processor (P) away from a
// goroutine that was not rescheduled, whether or not it is in a system call (runtime/proc.go,
// forcePreemptNS).
const yieldEvery = 4 * time.Millisecond

// yielder lets a loop that spends its time in system calls pass through the scheduler once in a
// while. Otherwise the runtime takes the loop's P away in each wait, and each packet that ends a
// wait has to get one back and to wake the runtime's monitor thread, which then checks every 20 µs.
// At 500 pings a second that costs 1 futex call and 6 wakeups per ping (strace), and 10 to 30 µs of
// its round trip.
//
// The zero value is ready. It belongs to one loop.
type yielder struct{ last boottime.Time }

// beforeWait is called when the loop has nothing to do except wait.
func (y *yielder) beforeWait(now boottime.Time) {
	if now.Sub(y.last) >= yieldEvery {
		y.last = now
		runtime.Gosched()
	}
}
