// Package heap keeps the memory of a daemon small: it sets how often the collector runs, and after
// work on very many peers it gives memory back to the kernel, so that what such work takes for a
// moment does not count as the daemon's for good.
//
// It knows neither peers nor sessions, only how many there were. A Trimmer may be used from several
// goroutines.
package heap

import (
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// manyThings is the number of peers and prefixes whose description takes tens of megabytes.
const manyThings = 1000

// Trimmer gives memory back. The zero Trimmer is ready.
type Trimmer struct {
	trimming atomic.Bool // memory is about to be given back
}

// Worked gives memory back to the kernel that was used for work on so many peers and prefixes, once
// for all such work within a second.
func (t *Trimmer) Worked(things int) {
	if things >= manyThings && t.trimming.CompareAndSwap(false, true) {
		time.AfterFunc(time.Second, func() {
			t.trimming.Store(false)
			keepHeapSmall()
			debug.FreeOSMemory()
		})
	}
}

// Begin makes the collector spare memory while the configuration is read and the instance starts,
// which takes several times as much as the instance has in use afterwards.
func Begin() { keepHeapSmall() }

// Suit makes the collector fit a daemon with so many peers, once their description was read. What
// was needed to read very many is given back.
func Suit(peers int) {
	switch {
	case peers >= manyThings:
		debug.FreeOSMemory()
	case os.Getenv("GOGC") == "":
		debug.SetGCPercent(200) // nothing per packet is garbage; what is, is little
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

// waveRate is the number of new sessions per look at the peers from which they are a wave of them:
// more than ten thousand peers need to renew theirs, which takes two minutes.
const waveRate = 100

// wave recognizes that very many sessions have been made in a short time, as after a start or when
// an uplink is back.
type wave struct{ sessions uint64 }

// ended reports, at each look, whether a wave of at least manyThings sessions is over.
func (w *wave) ended(sessions uint64) bool {
	if sessions >= waveRate {
		w.sessions += sessions
		return false
	}
	was := w.sessions
	w.sessions = 0
	return was >= manyThings
}

// NewWave returns what to call at each look at the peers with the number of new sessions: when a
// wave of them is over, it gives back the memory that the handshakes took beside the sessions.
func NewWave() func(sessions uint64) {
	var w wave
	return func(sessions uint64) {
		if w.ended(sessions) {
			keepHeapSmall()
			debug.FreeOSMemory()
		}
	}
}
