package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/stamps"
	"tund/internal/statusview"
	"tund/tunnel"
)

// openStamps reads the timestamps that an earlier run saved. An interface without a file does not
// use it: it forgets its peers at the end, as WireGuard's own programs do.
func (d *Daemon) openStamps(context.Context) error {
	store, err := stamps.Open(stamps.Dir(d.config.Instance))
	if err != nil {
		d.log.Warn("recordings of handshakes from before this start cannot be told from new handshakes", zap.Error(err))
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

// keepStamps saves timestamps of handshakes, and who is to be asked at the next start, until ctx
// ends, and then once more.
func (d *Daemon) keepStamps(ctx context.Context) {
	stamps.Keeper{
		Log: d.log, Store: d.stamps, Contacts: d.contacts, Configured: d.configured, Failed: d.stampsFailed,
		Present: func() (list []stamps.Contact) {
			for _, c := range d.tunnel.Contacts() {
				list = append(list, stamps.Contact{Peer: c.PublicKey, Endpoint: c.Endpoint})
			}
			return list
		},
	}.Run(ctx)
}

// stampsFailed notes why timestamps could not be saved, or that they were.
func (d *Daemon) stampsFailed(err error) {
	if err == nil {
		d.problems.Solved(statusview.KindState, "")
		return
	}
	d.problems.NoteRemedy(statusview.KindState, "", "the times of handshakes cannot be saved, so that recorded ones may be taken for fresh ones "+
		"after a restart: "+oneLine(err), "make room in "+stamps.Dir(d.config.Instance)+", and make it writable for the user that runs tund")
}

// configured returns a function that reports whether a peer is in the configuration in force.
func (d *Daemon) configured() func(keys.PublicKey) bool {
	peers := d.peers()
	var known map[keys.PublicKey]bool // made on first use: an end without any handshake needs none
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
