package daemon

import (
	"os"
	"runtime/debug"
	"time"
)

// manyThings is the number of peers and prefixes whose description takes tens of megabytes.
const manyThings = 1000

// returnMemory gives memory back to the kernel that was used for work on so many peers and
// prefixes, once for all such work within a second.
func (d *Daemon) returnMemory(things int) {
	if things >= manyThings && d.trimming.CompareAndSwap(false, true) {
		time.AfterFunc(time.Second, func() {
			d.trimming.Store(false)
			keepHeapSmall()
			debug.FreeOSMemory()
		})
	}
}

// keepHeapSmall makes the collector run when a third as much garbage has gathered as there is in
// use, instead of twice as much: with ten thousand peers that is 6 MB instead of 40. Work on so
// many peers is rare, and packets make no garbage.
func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(30)
	}
}
