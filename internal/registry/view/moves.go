package view

import (
	"slices"
	"time"

	"tund/internal/registry/record"
)

// place is where a host was.
type place struct {
	site record.Site
	seq  uint32
}

// moves returns how often a host has moved until it was at h, up to FreezeMoves. What a site says
// next may come before we have seen what another said before: the sequence numbers tell.
func (p *place) moves(h *Host) int {
	count := 0
	if p.site != h.Site {
		count = 1
	}
	if h.Station.Seq > p.seq {
		count = max(count, int(min(h.Station.Seq-p.seq, FreezeMoves)))
	}
	return count
}

// watchMoves notes which hosts have moved since the last decision, and which are frozen.
func (v *View) watchMoves(l *lan, now time.Time) {
	for id, h := range l.hosts {
		was, known := v.lastAt[id]
		v.lastAt[id] = place{h.Site, h.Station.Seq}
		count := was.moves(&h)
		if !known || count == 0 {
			continue
		}
		m := v.moved[id]
		if m == nil {
			if len(v.moved) >= maxMoved {
				continue
			}
			m = &moves{}
			v.moved[id] = m
		}
		m.times = append(m.times, slices.Repeat([]time.Time{now}, count)...)
		m.times = m.times[max(0, len(m.times)-FreezeMoves):]
	}
	for id := range v.lastAt {
		if _, there := l.hosts[id]; !there {
			delete(v.lastAt, id)
		}
	}
	for id, m := range v.moved {
		if len(m.times) == 0 || now.Sub(m.times[len(m.times)-1]) >= FreezeTime || m.times[len(m.times)-1].After(now) {
			delete(v.moved, id)
		}
	}
	for id, m := range v.moved {
		l.due(m.times[len(m.times)-1].Add(FreezeTime), now)
		if v.Frozen(id, now) {
			l.frozen = append(l.frozen, id)
		}
	}
	slices.SortFunc(l.frozen, HostID.Compare)
}

// Moved returns when a host was last seen to move between sites, if that was lately.
func (v *View) Moved(id HostID) (at time.Time, known bool) {
	if m := v.moved[id]; m != nil && len(m.times) > 0 {
		return m.times[len(m.times)-1], true
	}
	return at, false
}

// Frozen reports whether a host has moved so often that nobody should claim it: a further move
// would be the one of FreezeMoves within moveWindow.
func (v *View) Frozen(id HostID, now time.Time) bool {
	m := v.moved[id]
	if m == nil || len(m.times) < FreezeMoves-1 {
		return false
	}
	last := m.times[len(m.times)-1]
	return last.Sub(m.times[len(m.times)-(FreezeMoves-1)]) < moveWindow && now.Sub(last) < FreezeTime
}
