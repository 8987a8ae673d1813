package peer

import (
	"net/netip"
	"time"

	"tund/internal/boottime"
)

const (
	// sharedReturns is how often initiations must have come from an address again, with another
	// address in between, before two hosts are suspected of sharing a key. A host that moves from
	// one network to another and back returns once.
	sharedReturns = 2
	// sharedWithin is the longest time between two returns, and how long the suspicion is shown.
	// Each of two such hosts loses its session to the other and asks again 15 seconds later.
	sharedWithin = time.Minute
)

// callers records where the initiations of a peer came from: enough to detect two hosts that
// alternate.
type callers struct {
	last    netip.AddrPort
	before  *netip.AddrPort // nil: all came from one address
	returns int             // in a row
	at      boottime.Time
}

// called notes where a genuine initiation came from.
func (c *callers) called(from netip.AddrPort, now boottime.Time) {
	switch {
	case from == c.last:
		return
	case c.before == nil || from != *c.before:
		c.returns = 0
	case c.returns == 0 || now.Sub(c.at) < sharedWithin:
		c.returns++
		c.at = now
	default:
		c.returns, c.at = 1, now
	}
	if c.last.IsValid() {
		last := c.last
		c.before = &last
	}
	c.last = from
}

// words returns a text saying that two hosts have the same key, or "" if nothing suggests it.
func (c *callers) words(now boottime.Time) string {
	if c.returns < sharedReturns || now.Sub(c.at) >= sharedWithin {
		return ""
	}
	return sharedWords(*c.before, c.last)
}

func sharedWords(one, other netip.AddrPort) string {
	return "two hosts use the key of this peer at once, and take each other's session: " + one.String() +
		" and " + other.String() + "; give each a key pair and a [[peer]] of its own"
}

// Called notes where a genuine initiation of the peer came from. It returns a text to log if two
// hosts appear to have the peer's key, otherwise "".
func (p *Peer) Called(from netip.AddrPort, now boottime.Time) (words string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history().callers.called(from, now)
	return p.sharedKey(now)
}
