package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/stamps"
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
	return nil
}

// keepStamps saves timestamps of handshakes until ctx ends, and then once more.
func (d *Daemon) keepStamps(ctx context.Context) {
	failed := false
	save := func() (pause time.Duration) {
		size, err := d.stamps.Save(d.configured())
		if err != nil && !failed { // if it failed at the start, it was logged then
			d.log.Warn("handshakes recorded from now on may be taken for fresh ones after a restart", zap.Error(err))
		}
		failed = err != nil
		if size == 0 && err == nil {
			return stampsSoon
		}
		return max(stampsPause, time.Duration(size)*time.Second/stampsRate)
	}
	timer := time.NewTimer(stampsSoon)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			save()
			return
		case <-timer.C:
			timer.Reset(save())
		}
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
