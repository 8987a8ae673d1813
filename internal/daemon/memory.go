package daemon

import (
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
			debug.FreeOSMemory()
		})
	}
}
