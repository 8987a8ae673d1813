package tunnel

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/tunnel/l2"
)

// State is the verdict on one peer.
type State string

// The states of a peer (design §5).
const (
	StateUp         State = "up"         // a session is usable now
	StateConnecting State = "connecting" // a handshake is under way
	StateIdle       State = "idle"       // no traffic has wanted it yet
	StateDown       State = "down"       // tried and failed
)

// Status is what a tunnel looks like at one moment. It holds no secret but PrivateKey and PeerStatus.PresharedKey,
// which only the WireGuard configuration socket hands out.
type Status struct {
	PrivateKey keys.PrivateKey
	PublicKey  keys.PublicKey
	ListenPort uint16
	UnderLoad  bool
	Devices    []DeviceStatus
	Drops      map[string]uint64
	Peers      []PeerStatus    // in order of configuration
	Ethernet   *EthernetStatus // nil without a TAP device
}

// EthernetStatus is the switch at one moment.
type EthernetStatus struct {
	Entries []l2.Entry
	Ports   []l2.PortStatus
	Events  []Event // reported lately, oldest first
	Limit   int     // greatest number of entries
	Names   map[l2.PortID]string
}

// DeviceStatus counts as `ip -s link` does: received is what peers sent to this host.
type DeviceStatus struct {
	Name                                   string
	MTU                                    int
	Offload                                bool
	RxPackets, RxBytes, TxPackets, TxBytes uint64

	Drops map[string]uint64 // of what was read from it or written to it; the caller's
}

// PeerStatus is one peer at one moment.
type PeerStatus struct {
	Name          string
	PublicKey     keys.PublicKey
	PresharedKey  keys.PresharedKey
	State         State
	Endpoint      netip.AddrPort // zero: not known
	LastHandshake time.Time      // zero: never
	RxBytes       uint64         // of datagrams, as wg(8) counts
	TxBytes       uint64
	AllowedIPs    []netip.Prefix
	Ethernet      bool
	Keepalive     time.Duration
	Attempts      int // initiations in a row without a response
	LastError     string

	Since        time.Time // when the peer came up, or began to fail; zero: neither
	Roamed       time.Time // when an authenticated datagram last moved the endpoint; zero: never
	LastReceived time.Time // newest authenticated datagram; zero: never
	RxPackets    uint64
	TxPackets    uint64
	Staged       int // packets that wait for a session
	Session      *SessionStatus
	Handshakes   HandshakeCounts
}

// SessionStatus is the current session of a peer.
type SessionStatus struct {
	Age       time.Duration
	Initiator bool
	Sent      uint64 // messages
	Highest   uint64 // greatest counter received
}

// HandshakeCounts counts the handshake messages of one peer; those received are authenticated ones.
type HandshakeCounts struct {
	InitiationsSent, InitiationsReceived uint64
	ResponsesSent, ResponsesReceived     uint64
	CookiesReceived                      uint64
	Completed                            uint64 // sessions confirmed
	Failed                               uint64 // initiations without a response
}

// Status reads the state of the tunnel. Packets flow meanwhile; the counters of one peer are read one after another.
func (t *Tunnel) Status() Status {
	now := t.clock.Now()
	id := t.identity.Load()
	s := Status{
		PrivateKey: *t.private.Load(), PublicKey: id.Public(),
		ListenPort: t.lanes[0].binding.Load().conn.Port(),
		UnderLoad:  t.handshakes.underLoad(now),
		Drops:      t.drops.Snapshot(),
	}
	for _, l := range t.lanes {
		if n := l.binding.Load().conn.Overflows(); n != 0 {
			s.Drops["queue-overflow"] += n
		}
	}
	for _, d := range t.devices {
		s.Devices = append(s.Devices, DeviceStatus{
			Name: d.name, MTU: int(d.mtu.Load()), Offload: d.features.Checksum,
			RxPackets: d.rxPackets.Load(), RxBytes: d.rxBytes.Load(),
			TxPackets: d.txPackets.Load(), TxBytes: d.txBytes.Load(),
			Drops: d.drops.Snapshot(),
		})
	}
	owned := make(map[*Peer][]netip.Prefix)
	for prefix, p := range t.routes.All {
		owned[p] = append(owned[p], prefix)
	}
	t.peersMu.RLock()
	order := t.order
	t.peersMu.RUnlock()
	s.Peers = make([]PeerStatus, 0, len(order))
	for _, p := range order {
		ps := p.status(t, now)
		ps.AllowedIPs = owned[p]
		s.Peers = append(s.Peers, ps)
	}
	if e := t.ethernet; e != nil {
		s.Ethernet = e.status(now)
	}
	return s
}

// PeerState judges one peer; a peer that is not configured is down.
func (t *Tunnel) PeerState(key keys.PublicKey) State {
	p := t.peer(key)
	if p == nil {
		return StateDown
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state(t.clock.Now())
}

func (p *Peer) status(t *Tunnel, now boottime.Time) PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStatus{
		Name: p.name, PublicKey: p.key, PresharedKey: p.psk, State: p.state(now),
		LastHandshake: p.handshakeWall, RxBytes: p.rxBytes.Load(), TxBytes: p.txBytes.Load(),
		Ethernet: p.ethernet.Load(), Keepalive: p.timers.Persistent(),
		Attempts: int(p.unanswered.Load()), LastError: p.lastError,
		Roamed: p.roamedAt, RxPackets: p.rxPackets.Load(), TxPackets: p.txPackets.Load(),
		Staged: int(p.staged.count.Load()), Handshakes: p.count,
	}
	if last := boottime.Time(p.lastReceived.Load()); last != 0 {
		s.LastReceived = t.clock.Wall().Add(-now.Sub(last))
	}
	if cur := p.current.Load(); cur != nil && cur.usable(now) {
		cur.session.LockReceive()
		highest := cur.session.Highest()
		cur.session.UnlockReceive()
		s.Session = &SessionStatus{
			Age: now.Sub(cur.established), Initiator: cur.session.Initiator(), Sent: cur.session.Sent(), Highest: highest,
		}
	}
	switch s.State {
	case StateUp:
		s.Since = p.upSince
	case StateDown:
		s.Since = p.failingSince
	}
	if ep := p.endpoint.Load(); ep != nil {
		s.Endpoint = ep.Addr
	}
	if s.State == StateUp {
		s.LastError = ""
		if f := p.sendFailure.Load(); f != nil && now.Sub(f.at) < 2*explainEveryHost {
			s.LastError = "cannot send: " + f.err.Error()
		}
		if ep := p.endpoint.Load(); ep != nil && now.Sub(p.note.at) < hintWords && s.LastError == "" {
			since := boottime.Time(p.lastReceived.Load())
			if p.note.errno == unix.EMSGSIZE {
				since = 0 // smaller ones pass
			}
			if words := p.said(since); words != "" {
				s.LastError = "to " + ep.Addr.String() + ": " + words
			}
		}
		if ep := p.endpoint.Load(); ep != nil && p.looped(now) {
			s.LastError = loopText(ep.Addr)
		}
	}
	return s
}

// state judges the peer. Callers hold mu.
func (p *Peer) state(now boottime.Time) State {
	if s := p.current.Load(); s != nil && s.usable(now) {
		return StateUp
	}
	switch {
	case p.timers.GaveUp(), p.timers.Handshaking() && p.unanswered.Load() > 0 && p.lastError != "":
		return StateDown
	case p.timers.Handshaking(), p.wantHandshake.Load(), p.next != nil && p.next.usable(now):
		return StateConnecting
	case p.lastError != "":
		return StateDown
	}
	return StateIdle
}
