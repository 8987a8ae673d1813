package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

const (
	// chronicleEvery is how often the states of the peers are looked at. Ten thousand peers take 2 ms of it.
	chronicleEvery = 2 * time.Second
	// chronicleLines is how many lines a minute are written about peers; what is beyond that is counted in one line. An
	// uplink that fails would otherwise write one for each of thousands.
	chronicleLines = 30
	// chronicleNames is how many peers that are down STATUS= names: `systemctl status` shows one line.
	chronicleNames = 3
)

// chronicle writes down when sessions come up, are lost and recover. A change that is taken back between two looks is
// not seen.
type chronicle struct {
	log   *zap.Logger
	peers map[keys.PublicKey]chronicled

	minute  time.Time // when the lines of the present minute began to count
	lines   int       // in it
	skipped int       // changes in it that were not written down
}

// chronicled is what was last said about a peer.
type chronicled struct {
	up   bool
	lost time.Time // when it was seen to be lost; zero: never
}

// look compares the states of the peers with those of the last look and writes down what changed.
func (c *chronicle) look(peers []config.Peer, state func(keys.PublicKey) tunnel.State, now time.Time) {
	if now.Sub(c.minute) >= time.Minute {
		if c.skipped > 0 {
			c.log.Info("more sessions came up or were lost than are written down one by one", zap.Int("changes", c.skipped))
		}
		c.minute, c.lines, c.skipped = now, 0, 0
	}
	seen := make(map[keys.PublicKey]chronicled, len(peers))
	for n := range peers {
		p := &peers[n]
		was := c.peers[p.PublicKey]
		is := was
		switch s := state(p.PublicKey); {
		case s == tunnel.StateUp && !was.up:
			is.up = true
			if was.lost.IsZero() {
				c.write("session up", p)
			} else {
				c.write("session recovered", p, zap.Duration("after", now.Sub(was.lost).Round(time.Second)))
			}
		case s == tunnel.StateDown && was.up: // idle and connecting are no loss yet
			is = chronicled{lost: now}
			c.write("session lost", p)
		}
		seen[p.PublicKey] = is
	}
	c.peers = seen // those of a configuration that is no longer in force are forgotten
}

func (c *chronicle) write(what string, p *config.Peer, fields ...zap.Field) {
	if c.lines == chronicleLines {
		c.skipped++
		return
	}
	c.lines++
	c.log.Info(what, append([]zap.Field{zap.String("peer", p.Name)}, fields...)...)
}

// keepChronicle follows the peers until ctx ends: in the log, and in the line that `systemctl status` shows.
func (d *Daemon) keepChronicle(ctx context.Context) {
	c := chronicle{log: d.log}
	told := ""
	tick := time.NewTicker(chronicleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.mu.Lock()
			peers := d.config.Peers
			d.mu.Unlock()
			c.look(peers, d.tunnel.PeerState, now)
			if text := d.summary(); text != told {
				d.tell(d.notify.Status(text))
				told = text
			}
		}
	}
}

// summarize is the line that `systemctl status` shows: how many peers are in which state, and which are down.
func summarize(peers []config.Peer, state func(keys.PublicKey) tunnel.State, port uint16) string {
	count := make(map[tunnel.State]int)
	var down []string
	for n := range peers {
		s := state(peers[n].PublicKey)
		count[s]++
		if s == tunnel.StateDown && len(down) < chronicleNames {
			down = append(down, peers[n].Name)
		}
	}
	var parts []string
	for _, s := range []tunnel.State{tunnel.StateUp, tunnel.StateConnecting, tunnel.StateIdle, tunnel.StateDown} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	text := fmt.Sprintf("port %d, %d peers", port, len(peers))
	if len(peers) == 1 {
		text = fmt.Sprintf("port %d, 1 peer", port)
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if len(down) > 0 {
		text += " (" + strings.Join(down, ", ")
		if count[tunnel.StateDown] > len(down) {
			text += ", …"
		}
		text += ")"
	}
	return text
}
