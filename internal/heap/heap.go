// Package heap keeps the memory of a daemon small: it sets how often the collector runs, and after
// work on very many peers it gives memory back to the kernel, so that what such work takes for a
// moment does not count as the daemon's for good.
//
// It knows neither peers nor sessions, only how many there were. A Trimmer may be used from several
// goroutines. Where the environment sets GOGC, the collector runs as that says.
package heap

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// manyThings is the number of peers and prefixes whose description takes tens of megabytes.
const manyThings = 1000

// How much garbage may gather before the collector runs, as a share of what is in use, in percent.
const (
	// ordinary is for a daemon with few peers: nothing per packet is garbage; what is, is little.
	ordinary = 200
	// working is for a start, a change of very many peers or as many handshakes: with ten thousand
	// peers this is 4 MB instead of 30, and the collector takes a tenth of the time.
	working = 30
	// leastQuiet and working bound what is computed for the time in between.
	leastQuiet = 8
)

// slack is how much garbage may gather, in bytes, while nothing happens with very many peers. The
// looks at them leave 50 KB/s, so the collector runs every 40 seconds, for 20 ms.
const slack = 2 << 20

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
			settle()
		})
	}
}

// Working makes the collector fit work that is about to begin on up to so many peers and prefixes.
// It is followed by Worked.
func (t *Trimmer) Working(things int) {
	if things >= manyThings {
		collectAt(working)
	}
}

// Work is Working and Worked around work after which there may be another number of things. done is
// called at its end.
func (t *Trimmer) Work(things func() int) (done func()) {
	before := things()
	t.Working(before)
	return func() { t.Worked(max(before, things())) }
}

// Started gives back what a start of an instance with so many peers took, at once and, after the
// first looks at the peers, once more.
func (t *Trimmer) Started(peers int) {
	debug.FreeOSMemory()
	t.Worked(peers)
}

// Begin makes the collector spare memory while the configuration is read and the instance starts,
// which takes several times as much as the instance has in use afterwards. It is followed by Suit.
func Begin() { collectAt(working) }

// Suit makes the collector fit a daemon with so many peers, once their description was read. What
// was needed to read very many is given back.
func Suit(peers int) {
	if peers >= manyThings {
		debug.FreeOSMemory()
		return
	}
	collectAt(ordinary)
}

// settle gives back what is not in use, and lets little garbage gather from now on.
func settle() {
	debug.FreeOSMemory() // which collects
	collectAt(quiet(inUse()))
	dropCode()
}

// quiet returns at how much garbage to collect, in percent, when so many bytes are in use.
func quiet(inUse uint64) int {
	if inUse == 0 {
		return working
	}
	return min(max(int(slack*100/inUse), leastQuiet), working)
}

// inUse returns how many bytes the last collection has found in use.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// collectAt makes the collector run when so much garbage has gathered, in percent of what is in
// use.
func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// waveRate is the number of new sessions per look at the peers from which they are a wave of them:
// more than ten thousand peers need to renew theirs, which takes two minutes.
const waveRate = 100

// wave recognizes that very many sessions have been made in a short time, as after a start or when
// an uplink is back.
type wave struct{ sessions uint64 }

// look takes the number of sessions made since the last look. It reports whether a wave begins, and
// whether one of at least manyThings sessions is over.
func (w *wave) look(sessions uint64) (begins, ends bool) {
	if sessions >= waveRate {
		begins = w.sessions == 0
		w.sessions += sessions
		return begins, false
	}
	was := w.sessions
	w.sessions = 0
	return false, was >= manyThings
}

// NewWave returns what to call at each look at the peers with the number of new sessions: when a
// wave of them is over, it gives back the memory that the handshakes took beside the sessions.
func NewWave() func(sessions uint64) {
	var w wave
	return func(sessions uint64) {
		begins, ends := w.look(sessions)
		switch {
		case begins:
			collectAt(working)
		case ends:
			settle()
		}
	}
}
