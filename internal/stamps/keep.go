package stamps

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
)

// How often the timestamps of handshakes are saved: soon after the first new one, and then so
// seldom that 10,000 peers, each with a handshake every two minutes, do not wear out flash storage.
const (
	stampsSoon  = time.Second
	stampsPause = 10 * time.Second
	// stampsRate is the average number of bytes written per second.
	stampsRate = 8 << 10
)

// Keeper saves what a running instance would not remember after its end.
type Keeper struct {
	Log      *zap.Logger
	Store    *Store
	Contacts *Contacts
	// Configured returns a function that reports whether a peer is configured now.
	Configured func() func(keys.PublicKey) bool
	// Failed, if not nil, is told why the timestamps could not be saved, or nil when they were.
	Failed func(error)
	// Present returns the peers that have a session now. The slice is the Keeper's.
	Present func() []Contact
}

// saveContacts saves which peers are to be asked at the next start, and returns the bytes written.
func (k Keeper) saveContacts() (size int, err error) {
	size, err = k.Contacts.Save(k.Present())
	if err != nil {
		k.Log.Debug("the next start will not know the present peers", zap.Error(err))
	}
	return size, err
}

// Run saves timestamps of handshakes, and who is to be asked at the next start, until ctx
// ends, and then once more.
func (k Keeper) Run(ctx context.Context) {
	failed := false
	files := [...]keptFile{
		{pause: stampsPause, save: func() (int, error) {
			if !k.Store.Changed() {
				return 0, nil // the usual case, which is not worth a list of very many peers
			}
			size, err := k.Store.Save(k.Configured())
			if err != nil && !failed { // if it failed at the start, it was logged then
				k.Log.Warn("handshakes recorded from now on may be taken for fresh ones after a restart", zap.Error(err))
			}
			if failed = err != nil; k.Failed != nil && (size != 0 || failed) {
				k.Failed(err)
			}
			return size, err
		}},
		{pause: stampsSoon, save: k.saveContacts}, // they seldom change
	}
	tick := time.NewTicker(stampsSoon)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for i := range files {
				_, _ = files[i].save() // the timestamps' error has been logged
			}
			return
		case now := <-tick.C:
			for i := range files {
				files[i].keep(now)
			}
		}
	}
}

// keptFile is a file that is saved now and then.
type keptFile struct {
	pause time.Duration // the least after it was written
	next  time.Time     // not before
	save  func() (size int, err error)
}

// keep saves the file if it is its time.
func (f *keptFile) keep(now time.Time) {
	if now.Before(f.next) {
		return
	}
	if size, err := f.save(); size != 0 || err != nil {
		f.next = now.Add(max(f.pause, time.Duration(size)*time.Second/stampsRate))
	}
}
