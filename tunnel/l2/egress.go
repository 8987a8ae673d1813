package l2

import "tund/internal/drop"

// sendTo adds the port to the receivers of the frame, or returns the reason why it may not have it.
func (f *frameInfo) sendTo(id PortID, v *Verdict) drop.Reason {
	p := f.view.port(id)
	if p == nil || !p.ready {
		return drop.NoEthernetPeer
	}
	tagged, ok := p.vlans.egress(f.vid)
	switch {
	case p.cfg.Isolated && f.in.cfg.Isolated:
		return drop.Isolated
	case !ok:
		return drop.VLANRefused
	case p.blocked != nil && p.blocked.has(f.vid):
		return drop.LoopBlocked
	case f.p.longest()-headerLen-tagLen*f.h.Tags > p.mtu:
		return drop.OversizeFrame
	}
	if until := p.state.bpduUntil.Load(); until != 0 && int64(f.now) < until {
		return drop.BPDU
	}
	r := rewrite(&f.h, f.vid, tagged)
	if r.Op == TagStrip && f.h.nested() {
		return drop.DoubleTag // an inner tag must never become the outer one
	}
	if id == LocalPort {
		v.ToDevice, v.DeviceRewrite = true, r
		return drop.None
	}
	v.Out = append(v.Out, Out{id, r})
	return drop.None
}

// flood sends the frame to every peer that may have it, except the one it came from. A peer that
// may not have it does not affect the others. If nobody gets it, flood returns the reason of the
// last one.
func (s *Switch) flood(f *frameInfo, v *Verdict, kind messageKind) drop.Reason {
	reason := drop.NoEthernetPeer
	if f.class == ClassMulticast && kind != messageQuery && kind != messageReport && !f.unpruned() {
		s.groups.mu.RLock()
		defer s.groups.mu.RUnlock()
		pl := s.groups.plan(f.now, f.vid, f.h.Dst)
		for _, p := range f.view.peers {
			switch {
			case p.id == f.in.id:
			case p.cfg.NoBUM:
				reason = drop.NotFlooded
			case !pl.wants(p.id):
				reason = drop.SnoopedMulticast
			default:
				reason = f.sendOr(p.id, v, reason)
			}
		}
	} else {
		for _, p := range f.view.peers {
			switch {
			case p.id == f.in.id:
			case p.cfg.NoBUM:
				reason = drop.NotFlooded
			default:
				reason = f.sendOr(p.id, v, reason)
			}
		}
	}
	if len(v.Out) > 0 {
		return drop.None
	}
	return reason
}

// sendOr is sendTo, but returns old if the port was added.
func (f *frameInfo) sendOr(id PortID, v *Verdict, old drop.Reason) drop.Reason {
	if r := f.sendTo(id, v); r != drop.None {
		return r
	}
	return old
}
