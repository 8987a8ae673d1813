package peer

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/sizes"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Status describes one peer at one moment.
type Status struct {
	Name          string
	PublicKey     keys.PublicKey
	PresharedKey  keys.PresharedKey
	State         State
	Endpoint      netip.AddrPort // zero: not known
	LastHandshake time.Time      // zero: never
	RxBytes       uint64         // of datagrams, as wg(8) counts
	TxBytes       uint64
	AllowedIPs    []netip.Prefix
	Ethernet      bool // configured to carry frames
	WantsFrames   bool // it asks to exchange frames, and there is no TAP device
	Priority      int  // among the peers with the same allowed IPs; the highest carries
	Active        bool // false: others carry all the allowed IPs that it shares with them
	Keepalive     time.Duration
	Attempts      int // initiations in a row without a response
	LastError     string
	// How far the peer's clock is ahead of ours, by its last initiation; 0: not known.
	ClockAhead time.Duration

	Since        time.Time // when the peer came up, or began to fail; zero: neither
	Roamed       time.Time // when an authenticated datagram last moved the endpoint; zero: never
	LastReceived time.Time // newest authenticated datagram; zero: never
	RxPackets    uint64
	TxPackets    uint64
	Staged       int // packets that wait for a session
	Session      *SessionStatus
	Features     uint32       // of its hello (extension.Features); 0: it is not known as tund
	Path         *PathReport  // nil: nothing is known
	Lanes        []LaneCounts // by lane of ours; nil: the peer has one
	PathMTU      int          // found by probes, in bytes; 0: not known
	Handshakes   HandshakeCounts
	// Packets that the lanes dropped from it or for it; the switch counts its own drops.
	Drops map[string]uint64
}

// SessionStatus is the current session of a peer, with the data sessions in which packets leave.
type SessionStatus struct {
	Own         keys.PublicKey // ours, with which it was made
	Suite       string         // name of the AEAD that seals packets
	Lanes       int            // over which packets are spread
	PostQuantum bool           // packets leave under keys with a post-quantum secret
	Age         time.Duration
	Initiator   bool
	Sent        uint64 // messages
	Highest     uint64 // greatest counter received, that of each data session added
	DataTrouble string // why there are no data sessions; "": there are, or nothing is known against
}

// wantsFramesFor is how long a peer is taken to want to exchange frames after it has said so. It
// repeats that every minute.
const wantsFramesFor = 75 * time.Second

// NoteWantsFrames records that the peer has asked to exchange frames, where there is no TAP device.
func (p *Peer) NoteWantsFrames(now boottime.Time) { p.incident().wantsFrames.Store(int64(now)) }

// Status describes the peer at now, whose wall-clock time is wall. The callers fill in AllowedIPs,
// Ethernet and Active. Packets continue to flow meanwhile, and the counters are read one after
// another.
func (p *Peer) Status(now boottime.Time, wall time.Time) Status {
	s := Status{
		Name: p.Name(), PublicKey: p.key, RxBytes: p.rxBytes.Load(), TxBytes: p.txBytes.Load(),
		Keepalive: p.Timers.Persistent(), Attempts: p.Unanswered(), RxPackets: p.rxPackets.Load(),
		TxPackets: p.txPackets.Load(), Staged: p.Staged.Len(), Drops: p.Drops(), Priority: p.Priority(),
		Features: p.Extension.Features(), Path: p.Extension.Report(),
		PathMTU: p.Extension.PathMTU(),
	}
	if i := p.incidents.Load(); i != nil {
		last := boottime.Time(i.wantsFrames.Load())
		s.WantsFrames = last != 0 && now.Sub(last) < wantsFramesFor
		if m := i.moves.Load(); m != nil {
			s.Roamed = time.Unix(0, m.at.Load())
		}
	}
	p.Handshake.Lock()
	s.PresharedKey, s.ClockAhead = p.Handshake.PresharedKey(), p.Handshake.clockAhead(now, wall)
	p.Handshake.Unlock()
	if last := p.LastReceived(); last != 0 {
		s.LastReceived = wall.Add(-now.Sub(last))
	}
	s.Lanes = p.laneStatus()
	ep := p.endpoint.Load()
	if ep != nil {
		s.Endpoint = ep.Addr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.State, s.Session = p.state(now), p.sessionStatus(now)
	past := p.known()
	s.LastHandshake, s.Handshakes = past.handshakeWall.Time(), past.count
	switch s.State {
	case StateUp:
		s.Since = past.upSince.Time()
	case StateDown:
		s.Since = p.downSince(now, wall)
	}
	s.LastError = p.why(s.State, ep, now)
	return s
}

// why explains in words what is wrong with the peer, or returns "" if nothing is known. Callers
// hold mu.
func (p *Peer) why(state State, ep *udp.Endpoint, now boottime.Time) string {
	faults := p.blamed()
	text := faults.lastError
	switch {
	case state == StateDown && p.dead():
		text = faults.deadWhy
		if words := p.said(faults.deadSince); words != "" && ep != nil {
			text = saidText(ep.Addr, words)
		}
	case state == StateDown && p.isMute(now) && p.usable(now) != nil && p.Sending(0, now) != nil:
		text = muteText
	case state != StateUp && p.Strict() && p.dataTrouble != nil && p.usable(now) != nil:
		text = "post_quantum = \"require\": " + p.dataTrouble.why
	case state == StateDown && p.dataTrouble != nil && p.dataTrouble.demanded && p.usable(now) != nil:
		text = "no packets pass: " + p.dataTrouble.why
	case state == StateUp:
		text = ""
		if ep != nil {
			text = p.trouble(ep.Addr, now)
		}
	}
	if words := p.sharedKey(now); words != "" {
		text = words
	} else if text == "" && now.Sub(faults.doubtAt) < doubtShown {
		text = faults.doubt
	}
	if state != StateUp && ep != nil && p.refusedSince.Load() != 0 {
		if f := p.sendFailure(); f != nil {
			text = udp.Refusal(ep.Addr, f.Err)
		}
	}
	return text
}

// Glance is what changes often about a peer, at one moment.
type Glance struct {
	Name          string // to be shown
	PublicKey     keys.PublicKey
	State         State
	LastError     string // why, in words; "": nothing is known to be wrong
	Endpoint      netip.AddrPort
	LastHandshake time.Time // zero: never
	Handshakes    HandshakeCounts
	RxBytes       uint64 // of datagrams, as wg(8) counts
	TxBytes       uint64
	RxPackets     uint64
	TxPackets     uint64
	Path          *PathReport // nil: nothing is known; belongs to the peer
}

// Glance describes the peer at now in a tenth of the time that Status takes.
func (p *Peer) Glance(now boottime.Time) Glance {
	g := Glance{
		Name: p.DisplayName(), PublicKey: p.key, RxBytes: p.rxBytes.Load(), TxBytes: p.txBytes.Load(),
		RxPackets: p.rxPackets.Load(), TxPackets: p.txPackets.Load(), Path: p.Extension.Report(),
	}
	ep := p.endpoint.Load()
	if ep != nil {
		g.Endpoint = ep.Addr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	past := p.known()
	g.State, g.LastHandshake, g.Handshakes = p.state(now), past.handshakeWall.Time(), past.count
	g.LastError = p.why(g.State, ep, now)
	return g
}

// sessionStatus describes the current session, or returns nil if there is none. Callers hold mu.
func (p *Peer) sessionStatus(now boottime.Time) *SessionStatus {
	cur := p.usable(now)
	if cur == nil {
		return nil
	}
	s := &SessionStatus{
		Own: cur.own, Suite: cur.Session.Suite().String(), Lanes: 1, Age: now.Sub(cur.Established), Initiator: cur.Session.Initiator(),
	}
	if p.dataTrouble != nil {
		s.DataTrouble = p.dataTrouble.why
	}
	s.count(cur)
	if d := p.data.Load(); d != nil && int64(now) < d.until.Load() {
		s.Suite, s.Lanes, s.PostQuantum = d.Suite.String(), d.Count, d.PostQuantum
		for _, kp := range d.all {
			s.count(kp)
		}
	}
	return s
}

func (s *SessionStatus) count(kp *Keypair) {
	kp.Session.LockReceive()
	s.Highest += kp.Session.Highest()
	kp.Session.UnlockReceive()
	s.Sent += kp.Session.Sent()
}

// silence is how long a peer may be silent that is sent data. Every peer answers within
// timers.KeepaliveTimeout, if only by a keepalive.
const silence = timers.KeepaliveTimeout + 2*time.Second

// narrowWords says that the path does not carry datagrams of the usual sizes, or returns "".
func (p *Peer) narrowWords(ep netip.AddrPort) string {
	if !p.Extension.Narrow() {
		return ""
	}
	return fmt.Sprintf("IP packets of %d bytes do not arrive at %v, although small ones do: something on the path drops large ones",
		sizes.MinIPv6MTU, ep)
}

// lossWords says that the path loses datagrams all the time, or returns "".
func (p *Peer) lossWords(ep netip.AddrPort) string {
	r := p.Extension.Report()
	if r == nil || r.Lossy == 0 {
		return ""
	}
	return fmt.Sprintf("about %.0f %% of the datagrams to %v or of its answers are lost on the path: a link is overloaded or faulty",
		10*math.Round(10*r.Lossy), ep)
}

// trouble describes what is wrong with the path to a peer that is up, or returns "" if nothing is
// known. Callers hold mu.
func (p *Peer) trouble(ep netip.AddrPort, now boottime.Time) string {
	if p.Looped(now) {
		return LoopText(ep)
	}
	if f := p.sendFailure(); f != nil && now.Sub(f.At) < RefusedFor {
		return udp.Refusal(ep, f.Err)
	}
	if note := p.icmp(); note != nil && note.at != 0 && now.Sub(note.at) < ICMPShown {
		if words := p.said(p.LastReceived()); words != "" {
			return saidText(ep, words)
		}
	}
	const cause = "peer down, or datagrams blocked"
	if since := p.Timers.UnansweredSince(); since != 0 && now.Sub(since) >= silence {
		return fmt.Sprintf("no answer from %v to what was sent for %d s: %s", ep, int(now.Sub(since).Seconds()), cause)
	}
	asked := p.Timers.Handshaking() && now.Sub(p.Timers.InitiatedAt()) >= time.Second
	answered := p.unconfirmed > 0 && now.Sub(p.blamed().unheardSince) >= time.Second // in vain
	if (asked || answered) && now.Sub(p.LastReceived()) >= silence {
		return fmt.Sprintf("no answer from %v to a handshake either: %s", ep, cause)
	}
	return cmp.Or(p.foreignWords(now), p.refusalWords(now), p.narrowWords(ep), p.lossWords(ep))
}
