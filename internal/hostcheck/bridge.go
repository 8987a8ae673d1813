package hostcheck

import "fmt"

// bridge finds a TAP that somebody has taken out of its bridge, and a bridge that somebody has set
// down. tund leaves both alone, since it may have been done on purpose.
func (t *Tunnel) bridge(h Host) []Finding {
	tap, bridge := h.link(t.Tap), h.link(t.Bridge)
	if t.Bridge == "" || tap == nil || bridge == nil { // a bridge that is gone is recreated
		return nil
	}
	switch {
	case tap.Master != t.Bridge:
		where := "of no bridge"
		if tap.Master != "" {
			where = "of " + tap.Master
		}
		return []Finding{{
			Kind: Bridge, Subject: t.Tap,
			Message: fmt.Sprintf("%s is a port %s, and [tap] wants it in %s: hosts behind %s are cut off from the peers", t.Tap, where, t.Bridge, t.Bridge),
			Remedy:  fmt.Sprintf("ip link set %s master %s", t.Tap, t.Bridge),
		}}
	case !bridge.Up:
		return []Finding{{
			Kind: Bridge, Subject: t.Bridge,
			Message: fmt.Sprintf("the bridge %s is down: no frame passes between its ports and the peers", t.Bridge),
			Remedy:  fmt.Sprintf("ip link set %s up", t.Bridge),
		}}
	}
	return nil
}
