package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/stamps"
	"tund/tunnel"
)

// How often the timestamps of handshakes are saved: soon after the first new one, and then so
// seldom that 10,000 peers, each with a handshake every two minutes, do not wear out flash storage.
const (
	stampsSoon  = time.Second
	stampsPause = 10 * time.Second
	// stampsRate is the average number of bytes written per second.
	stampsRate = 8 << 10
)

// openStamps reads the timestamps that an earlier run saved. An interface without a file does not
// use it: it forgets its peers at the end, as WireGuard's own programs do.
func (d *Daemon) openStamps(context.Context) error {
	store, err := stamps.Open(stamps.Dir(d.config.Instance))
	if err != nil {
		d.log.Warn("recorded handshakes from before this start cannot be told from fresh ones", zap.Error(err))
	}
	d.stamps = store
	if d.contacts, d.former, err = stamps.OpenContacts(stamps.Dir(d.config.Instance)); err != nil {
		d.log.Warn("tund peers without an endpoint here may take 15 s to notice this start", zap.Error(err))
	}
	return nil
}

// contactFormer asks the peers that had a session when the last run ended for a new one.
func (d *Daemon) contactFormer() {
	var list []tunnel.Contact
	for _, c := range d.former {
		list = append(list, tunnel.Contact{PublicKey: c.Peer, Endpoint: c.Endpoint})
	}
	d.former = nil
	d.tunnel.Contact(list)
}

// saveContacts saves which peers are to be asked at the next start, and returns the bytes written.
func (d *Daemon) saveContacts() (size int, err error) {
	var list []stamps.Contact
	for _, c := range d.tunnel.Contacts() {
		list = append(list, stamps.Contact{Peer: c.PublicKey, Endpoint: c.Endpoint})
	}
	size, err = d.contacts.Save(list)
	if err != nil {
		d.log.Debug("the next start will not know the present peers", zap.Error(err))
	}
	return size, err
}

// keepStamps saves timestamps of handshakes, and who is to be asked at the next start, until ctx
// ends, and then once more.
func (d *Daemon) keepStamps(ctx context.Context) {
	failed := false
	files := [...]keptFile{
		{pause: stampsPause, save: func() (int, error) {
			size, err := d.stamps.Save(d.configured())
			if err != nil && !failed { // if it failed at the start, it was logged then
				d.log.Warn("handshakes recorded from now on may be taken for fresh ones after a restart", zap.Error(err))
			}
			failed = err != nil
			return size, err
		}},
		{pause: stampsSoon, save: d.saveContacts}, // they seldom change
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

// configured returns a function that reports whether a peer is in the configuration in force.
func (d *Daemon) configured() func(keys.PublicKey) bool {
	peers := d.peers()
	var known map[keys.PublicKey]bool // made on first use, because there is seldom anything new
	return func(key keys.PublicKey) bool {
		if known == nil {
			known = make(map[keys.PublicKey]bool, len(peers))
			for _, p := range peers {
				known[p.PublicKey] = true
			}
		}
		return known[key]
	}
}
