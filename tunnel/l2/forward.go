package l2

import (
	"tund/internal/boottime"
	"tund/internal/drop"
)

// Superpacket is a frame as read from the TAP or built to be written to it: one Ethernet header and
// a payload that either belongs to one frame or will be segmented into several.
type Superpacket struct {
	Frame    []byte // borrowed for the duration of the call, not modified
	Segments int    // number of frames it will become; 0 counts as 1
	Longest  int    // bytes of the longest of these frames, headers included; 0 means len(Frame)
}

func (p *Superpacket) segments() int { return max(p.Segments, 1) }

func (p *Superpacket) longest() int {
	if p.Longest > 0 {
		return p.Longest
	}
	return len(p.Frame)
}

// Out is one peer that receives the superpacket.
type Out struct {
	Port    PortID
	Rewrite Rewrite
}

// Verdict is the decision about a superpacket. Each lane keeps one and passes it to every call,
// which overwrites it; its slices are valid until the next call.
type Verdict struct {
	Out           []Out   // receivers; a failure to send to one must not affect the others
	Hops          uint8   // for the frame header of what is sent to Out
	ToDevice      bool    // write it to the TAP
	DeviceRewrite Rewrite // rewrite to apply before it is written to the TAP
	// Nil, or a frame to write to the TAP: an answer on behalf of a remote host.
	Reply []byte
	Wake  bool // the slow plane should call Tick soon
	// FromPeer: unicast to a MAC known behind the TAP; no storm limit counts it.
	Known bool

	buf   [128]byte         // backs Reply, which has at most 14 + 16 + 40 + 32 bytes
	group membershipMessage // scratch
	neigh neighborMessage   // scratch
}

func (v *Verdict) reset() {
	v.Out, v.Hops, v.ToDevice, v.DeviceRewrite, v.Reply = v.Out[:0], 0, false, Rewrite{}, nil
	v.Wake, v.Known = false, false
}

// frameInfo is the state that the steps of a decision share.
type frameInfo struct {
	now   boottime.Time
	p     *Superpacket
	h     Header
	view  *view
	in    *port
	vid   uint16
	hops  uint8 // from the frame header of a peer
	class Class
	dst   PortID // valid if class is ClassUnicast
	probe bool   // a loop probe of an unknown node, which has passed storm control
	relay PortID // not 0: a genuine probe of the peer there, received at the TAP, to be relayed
	node  bool   // a question of the peer's own switch, which pinned MACs do not restrict
}

// FromDevice decides about a superpacket read from the TAP. With drop.None it is to be sent to the
// peers in v.Out, of which there is at least one. With any other reason it goes to nobody (v.Out is
// empty) and has been counted for the local port; for drop.SuppressedARP, v.Reply may hold the
// answer. v.Wake is valid in either case.
//
// FromDevice does not allocate once v.Out has grown to the number of peers.
func (s *Switch) FromDevice(now boottime.Time, p Superpacket, v *Verdict) drop.Reason {
	v.reset()
	f := frameInfo{now: now, p: &p, view: s.view.Load()}
	f.in = f.view.local
	reason := s.fromDevice(&f, v)
	if reason != drop.None {
		v.Out = v.Out[:0]
		f.countDrop(reason)
	}
	return reason
}

func (s *Switch) fromDevice(f *frameInfo, v *Verdict) drop.Reason {
	if reason := s.admit(f, v); reason != drop.None {
		if f.relay != 0 {
			return s.relayProbe(f, v)
		}
		return reason
	}
	if f.h.Dst == s.mac {
		s.inspect(f, v)
		return drop.SuppressedARP // the answer to a question that we asked
	}
	kind := s.inspect(f, v)
	if kind == messageNeighbor && v.neigh.ask && f.view.suppresses(f.vid) && (s.answerAssigned(f, v) || v.Reply == nil && s.answer(f, v)) {
		if len(v.Out) > 0 {
			return drop.None // to one peer
		}
		return drop.SuppressedARP
	}
	if f.class == ClassUnicast {
		if f.dst == LocalPort {
			return drop.SamePort
		}
		return f.sendTo(f.dst, v)
	}
	return s.flood(f, v, kind)
}

// FromPeer decides about a superpacket received from the peer at port from; hops is taken from its
// frame header. With drop.None it is to be written to the TAP if v.ToDevice is set, and (on a hub)
// to be sent to the peers in v.Out. With any other reason it goes to nobody and has been counted
// for the port, if that exists. v.Wake is valid in either case.
//
// FromPeer does not allocate once v.Out has grown to the number of peers.
func (s *Switch) FromPeer(now boottime.Time, from PortID, hops uint8, p Superpacket, v *Verdict) drop.Reason {
	v.reset()
	f := frameInfo{now: now, p: &p, view: s.view.Load(), hops: hops}
	if f.in = f.view.port(from); from == LocalPort || f.in == nil || !f.in.cfg.Ethernet {
		return drop.NotEthernetPeer
	}
	reason := s.fromPeer(&f, v)
	if reason != drop.None {
		v.Out, v.ToDevice = v.Out[:0], false
		f.countDrop(reason)
	}
	return reason
}

func (s *Switch) fromPeer(f *frameInfo, v *Verdict) drop.Reason {
	if reason := s.admit(f, v); reason != drop.None {
		return reason
	}
	if f.h.Dst == s.mac {
		s.inspect(f, v)
		return drop.SuppressedARP
	}
	kind := s.inspect(f, v)
	v.Hops = f.hops + 1
	mayForward := f.view.cfg.Hub && v.Hops <= MaxHops
	if f.class == ClassUnicast {
		switch {
		case f.dst == LocalPort:
			v.Known = true
			return f.sendTo(LocalPort, v)
		case f.dst == f.in.id:
			return drop.SamePort
		case mayForward:
			return f.sendTo(f.dst, v)
		case f.view.cfg.Hub:
			return drop.HopLimit
		}
		return drop.SplitHorizon
	}
	toLAN := s.wantedOnLAN(f, v, kind)
	if toLAN == drop.None {
		toLAN = f.sendTo(LocalPort, v)
	}
	if !mayForward {
		if toLAN != drop.None && f.view.cfg.Hub {
			return drop.HopLimit
		}
		return toLAN
	}
	if s.flood(f, v, kind) == drop.None {
		return drop.None
	}
	return toLAN
}

// unpruned reports whether a multicast frame goes to all ports, regardless of group membership.
func (f *frameInfo) unpruned() bool { return f.view.cfg.NoSnooping || linkControl(f.p.Frame, &f.h) }

// wantedOnLAN returns drop.None if a replicated frame from a peer is to be written to the TAP, and
// otherwise the reason why not.
func (s *Switch) wantedOnLAN(f *frameInfo, v *Verdict, kind messageKind) drop.Reason {
	switch {
	case f.class != ClassMulticast || kind == messageQuery:
		return drop.None
	case kind == messageReport:
		if s.groups.wantsReports(f.now, f.vid, v.group.v6) {
			return drop.None
		}
		return drop.SnoopedMulticast
	case f.unpruned():
		return drop.None
	}
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	if p := s.groups.plan(f.now, f.vid, f.h.Dst); !p.wants(LocalPort) {
		return drop.SnoopedMulticast
	}
	return drop.None
}

// admit runs the checks that are common to both directions, finds the destination, and finally
// learns the source.
func (s *Switch) admit(f *frameInfo, v *Verdict) drop.Reason {
	var ok bool
	if f.h, ok = Parse(f.p.Frame); !ok {
		return drop.ShortFrame
	}
	h := &f.h
	if f.p.longest()-headerLen-tagLen*h.Tags > int(s.maxMTU.Load()) {
		return drop.OversizeFrame
	}
	if h.Src.Group() || h.Src == 0 {
		return drop.SourceMulticast
	}
	var reason drop.Reason
	if f.vid, reason = f.in.vlans.ingress(h); reason != drop.None {
		if r := f.reserved(); r != drop.None {
			reason = r // the more specific reason: link-local frames are untagged on trunks too
		}
		return reason
	}
	if h.EtherType == typeProbe {
		if mine, reason := s.probeFrame(f, v); mine {
			return reason
		}
	}
	if s.isJoinTest(f) && s.joinTestBack(f, v) {
		return drop.LoopBlocked
	}
	if reason := s.refuse(f, v); reason != drop.None {
		return reason
	}
	if !s.classify(f) {
		s.suspect(f.now)
		return stormReason[f.class]
	}
	return s.learn(f, v)
}

var stormReason = [classes]drop.Reason{
	ClassBroadcast: drop.StormBroadcast, ClassMulticast: drop.StormMulticast, ClassUnknown: drop.StormUnknown,
	ClassProbe: drop.StormBroadcast,
}

// refuse applies the policies to a frame whose VLAN is known.
func (s *Switch) refuse(f *frameInfo, v *Verdict) drop.Reason {
	in, h := f.in, &f.h
	if until := in.state.bpduUntil.Load(); until != 0 && int64(f.now) < until {
		return drop.BPDU
	}
	if in.blocked != nil && in.blocked.has(f.vid) {
		return drop.LoopBlocked
	}
	if reason := f.reserved(); reason == drop.LinkLocalFrame || reason == drop.BPDU && f.view.cfg.BPDU != BPDUForward {
		if reason == drop.BPDU && f.view.cfg.BPDU == BPDUGuard && in.id != LocalPort {
			s.guardBPDU(f, v)
		}
		return reason
	}
	if h.Src == s.mac {
		if in.id == LocalPort {
			s.suspect(f.now)
			return drop.LoopBlocked // a frame that we wrote to the LAN has come back from it
		}
		return drop.SourceForeign
	}
	if in.id != LocalPort && f.view.otherSwitch(h.Src, in.id) {
		s.suspect(f.now)
		return drop.SourceForeign // it would get the answers to what that switch asks
	}
	if in.node != 0 && h.Src == in.node && (f.isChallenge() || f.isQuery()) {
		f.node = true
	} else if f.view.pinned != nil && !f.pinnedHere(h.Src) {
		s.suspect(f.now)
		return drop.SourceForeign
	}
	if len(in.cfg.MACs) > 0 && !f.node && f.speaksOfForeign() {
		return drop.SourceForeign // a pinned host whose message names another MAC
	}
	if in.id != LocalPort && !(in.cfg.TrustDHCP && in.cfg.TrustRA) {
		return guard(f.p.Frame, h, in.cfg.TrustDHCP, in.cfg.TrustRA)
	}
	return drop.None
}

// pinnedHere reports whether the pinned MACs allow the source src at the ingress port.
func (f *frameInfo) pinnedHere(src MAC) bool {
	id, pinned := f.view.pinned[src]
	if pinned {
		return id == f.in.id
	}
	return len(f.in.cfg.MACs) == 0
}

// classify finds the destination and reports whether storm control lets the frame pass.
func (s *Switch) classify(f *frameInfo) bool {
	f.class = ClassUnicast
	switch {
	case f.h.Dst == Broadcast:
		f.class = ClassBroadcast
	case f.h.Dst.Group():
		f.class = ClassMulticast
	default:
		if s.locate(f) {
			return true
		}
		f.class = ClassUnknown
	}
	return f.probe || s.withinStorm(f) || f.class == ClassUnknown && s.lastKnown(f)
}

// lastKnown sends a frame that exceeds the limit of unknown unicast to the port where its
// destination was before it aged out, if that is known.
func (s *Switch) lastKnown(f *frameInfo) bool {
	id, ok := s.fdb.lastPort(entryKey(f.vid, f.h.Dst))
	p := f.view.port(id)
	if !ok || p == nil || !p.ready || f.view.cfg.NoLearning {
		return false
	}
	f.class, f.dst = ClassUnicast, id
	return true
}

// locate finds the port of a unicast destination. Entries of a port that is not up are ignored: a
// frame in flight may have been learned while the entries of the port were being flushed.
func (s *Switch) locate(f *frameInfo) bool {
	e, _, ok := s.fdb.find(entryKey(f.vid, f.h.Dst))
	if a, assigned := s.assigned.find(entryKey(f.vid, f.h.Dst)); assigned {
		if at, counts := f.view.assignedPort(f.vid, a, e, ok); counts {
			f.dst = at
			return true
		}
	}
	if ok && !(e&flagStatic == 0 && e.port() != LocalPort && f.view.otherSwitch(f.h.Dst, e.port())) {
		f.dst = e.port()
		p := f.view.port(f.dst)
		if e&flagStatic != 0 || p != nil && p.ready && !f.view.cfg.NoLearning {
			return true
		}
	}
	id, ok := f.view.pinned[f.h.Dst]
	if !ok {
		id, ok = f.view.nodes[f.h.Dst]
	}
	f.dst = id
	return ok || f.h.Dst == s.mac
}

// learn learns the source address, or refuses the frame.
func (s *Switch) learn(f *frameInfo, v *Verdict) drop.Reason {
	if f.node {
		return drop.None
	}
	if reason, done := s.assignedSource(f); done {
		if reason != drop.None {
			s.suspect(f.now)
		}
		return reason
	}
	if f.view.cfg.NoLearning {
		return s.pinnedElsewhere(f)
	}
	o := s.learnSource(f)
	if o.tick {
		if o.unnamed {
			s.guess(f)
		}
		o.tick, o.unnamed = false, false
		v.Wake = s.witness(f) || v.Wake
	}
	if o == (outcome{}) {
		return drop.None
	}
	if o == (outcome{fresh: true}) {
		s.appeared(f.now, entryKey(f.vid, f.h.Src), f.in.id)
		return drop.None
	}
	if o.reason != drop.MACLimit {
		s.suspect(f.now)
	}
	v.Wake = v.Wake || o.claimed || o.moved
	if o.claimed {
		s.hold(f)
	}
	s.noteOutcome(f.now, entryKey(f.vid, f.h.Src), f.in.id, o)
	if s.electionPasses(f, o.reason) {
		return drop.None
	}
	return o.reason
}

// pinnedElsewhere refuses a source that was pinned to another port with Pin. This is the only check
// on sources when learning is off; MACs pinned by the configuration have been checked before.
func (s *Switch) pinnedElsewhere(f *frameInfo) drop.Reason {
	e, _, ok := s.fdb.find(entryKey(f.vid, f.h.Src))
	if ok && e&flagStatic != 0 && e.port() != f.in.id {
		return drop.SourceForeign
	}
	return drop.None
}
