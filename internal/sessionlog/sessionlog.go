// Package sessionlog logs when sessions with peers come up, are lost and recover, and summarizes
// the states of all peers in one line.
//
// The caller passes the peers and their states; the package keeps only what it last logged for each
// peer. It does not explain why a peer is down; `tunctl status` does.
package sessionlog

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

const (
	// interval is how often Run looks. For ten thousand peers, a look takes 2 ms.
	interval = 2 * time.Second
	// maxLines is how many lines are written about peers per minute. Changes beyond that are
	// counted in one line: an uplink that fails would otherwise write a line for each of thousands
	// of peers.
	maxLines = 30
	// maxNames is how many of the peers that are down Summary names: `systemctl status` shows one
	// line.
	maxNames = 3
)

// Log logs what happens to sessions. It is for one goroutine.
type Log struct {
	log   *zap.Logger
	peers map[keys.PublicKey]said // without those about which nothing was logged
	looks uint32

	minute  time.Time // start of the minute in which lines are counted
	lines   int       // lines written in that minute
	skipped int       // changes in that minute that were not written
}

// New makes a Log without any history.
func New(log *zap.Logger) *Log { return &Log{log: log, peers: make(map[keys.PublicKey]said)} }

// said is what was last logged about a peer.
type said struct {
	lost int64  // when it was seen to be lost, in nanoseconds since 1970; 0: never
	look uint32 // in which the peer was configured
	up   bool
}

// Run looks at the peers at intervals until ctx ends, and calls looked after each time. states
// returns what tells the state of each peer now.
func (c *Log) Run(ctx context.Context, peers func() []*config.Peer, states func() func(keys.PublicKey) tunnel.State, looked func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.Look(peers(), states(), now)
			looked()
		}
	}
}

// Look compares the states of the peers with those of the last call and logs what changed. A
// session that is lost and recovers between two calls is not noticed. peers are those configured
// now; all others are forgotten.
func (c *Log) Look(peers []*config.Peer, state func(keys.PublicKey) tunnel.State, now time.Time) {
	if now.Sub(c.minute) >= time.Minute {
		if c.skipped > 0 {
			c.log.Info("more sessions came up or were lost than are logged one by one", zap.Int("changes", c.skipped))
		}
		c.minute, c.lines, c.skipped = now, 0, 0
	}
	c.looks++
	present := 0
	for _, p := range peers {
		was := c.peers[p.PublicKey]
		is := was
		switch s := state(p.PublicKey); {
		case s == tunnel.StateUp && !was.up:
			is.up = true
			if was.lost == 0 {
				c.write("session up", p)
			} else {
				c.write("session recovered", p, zap.Duration("after", now.Sub(time.Unix(0, was.lost)).Round(time.Second)))
			}
		case s == tunnel.StateDown && was.up: // idle and connecting do not yet count as lost
			is = said{lost: now.UnixNano()}
			c.write("session lost", p)
		}
		if is != (said{}) { // most of very many peers are idle: they cost nothing here
			is.look = c.looks
			c.peers[p.PublicKey] = is
			present++
		}
	}
	if present < len(c.peers) { // some are no longer configured
		maps.DeleteFunc(c.peers, func(_ keys.PublicKey, s said) bool { return s.look != c.looks })
	}
}

func (c *Log) write(what string, p *config.Peer, fields ...zap.Field) {
	if c.lines == maxLines {
		c.skipped++
		return
	}
	c.lines++
	c.log.Info(what, append([]zap.Field{zap.String("peer", p.Name)}, fields...)...)
}

// Summary describes in one line, for `systemctl status`, how many peers are in which state, and
// which are down.
func Summary(peers []*config.Peer, state func(keys.PublicKey) tunnel.State, port uint16) string {
	count := make(map[tunnel.State]int)
	var down []string
	for n := range peers {
		s := state(peers[n].PublicKey)
		count[s]++
		if s == tunnel.StateDown && len(down) < maxNames {
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
