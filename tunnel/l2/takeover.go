package l2

import (
	"time"

	"tund/internal/boottime"
)

// Claims when a standby gateway takes over.
//
// The gateway of a LAN that stands by hears the hosts of other sites at its TAP: what the gateway
// in use writes to the LAN reaches it as well. So it takes these hosts for local ones. When it
// takes over, their first frames through the tunnel are claims (claim.go) to addresses of its own
// LAN, and every tenth of a second counts, because TCP doubles the time between its attempts.
//
// For doubtLife, the hosts of the LAN are therefore asked at once, and have less time to answer. A
// host that lives on the LAN needs a millisecond; one behind the other gateway cannot answer any
// more, and nothing of what it sent is under way except on the LAN itself. The moves that follow
// from this do not count towards freezing.
//
// What an attacker gains: a peer that says that we stood by for it and no longer do is believed
// only where the LAN has brought probes of another switch, and only as far as its own claims are
// concerned. It then gets the address of a host on our LAN that needs longer than doubtWait to
// answer, until that host sends its next frame.
const (
	doubtLife  = 10 * time.Second // announcements and traffic have brought all claims by then
	doubtGrace = 30 * time.Millisecond
	// With the way of a frame less than TCP's shortest timeout, which is 200 ms.
	doubtWait = 120 * time.Millisecond
	maxDoubts = 1024 // pairs of VLAN and peer
)

// doubt is a peer whose claims to hosts of our LAN are decided quickly, and a VLAN.
type doubt struct {
	vid uint16
	by  PortID // LocalPort: any peer
}

// doubtHosts has the next Tick doubt that the hosts that are known at our LAN in a VLAN live there,
// as far as peer by is concerned; LocalPort stands for all peers. mu is held.
func (s *Switch) doubtHosts(vid uint16, by PortID) {
	if vid != everyVLAN && len(s.doubts) < maxDoubts {
		s.doubts = append(s.doubts, doubt{vid, by})
	}
}

// doubtHosts lets claims of these peers be decided quickly for doubtLife, also those that are
// pending.
func (t *fdb) doubtHosts(now boottime.Time, list []doubt) {
	if len(list) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for d, until := range t.doubts {
		if !now.Before(until) {
			delete(t.doubts, d)
		}
	}
	for _, d := range list {
		if len(t.doubts) < maxDoubts {
			t.doubts[d] = now.Add(doubtLife)
		}
	}
	for _, slot := range t.claims {
		c := &t.cold[slot].claim
		if v := t.value(slot); v&flagClaimed != 0 && !c.quick && t.doubted(slot, v, c.by, now) {
			c.quick, c.at, c.asked, c.check = true, now, false, checkNone
			c.until = min(c.until, t.claimEnd(slot, v, now))
		}
	}
}

// doubted reports whether it is in doubt that the host in slot, whose value is v, lives on our LAN,
// when the peer at port by claims its address. mu is held.
func (t *fdb) doubted(slot int32, v entryValue, by PortID, now boottime.Time) bool {
	if len(t.doubts) == 0 || v.port() != LocalPort || v&immovable != 0 {
		return false
	}
	vid := keyVID(t.keyAt(slot))
	return now.Before(max(t.doubts[doubt{vid, by}], t.doubts[doubt{vid, LocalPort}]))
}

// grace is for how long after the claim frames of the owner prove nothing.
func (c *claim) grace() time.Duration {
	if c.quick {
		return doubtGrace
	}
	return claimGrace
}
