package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/ethernet"
	"tund/tunnel/extension"
	"tund/tunnel/handshake"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// The parts of a Status that the parts of a tunnel know.
type (
	// State is the verdict on one peer.
	State = peer.State
	// PeerStatus is one peer at one moment.
	PeerStatus = peer.Status
	// SessionStatus is the current session of a peer.
	SessionStatus = peer.SessionStatus
	// HandshakeCounts counts the handshake messages of one peer; those received are authenticated
	// ones.
	HandshakeCounts = peer.HandshakeCounts
	// Stranger is a host that asked for a session and is no peer.
	Stranger = handshake.Stranger
	// WrongKey tells of initiations made for another public key than ours.
	WrongKey = handshake.WrongKey
	// PeerGlance is what changes often about one peer.
	PeerGlance = peer.Glance
	// EthernetNews is what happened at the switch.
	EthernetNews = ethernet.News
	// EthernetEvent is something that the switch reports to the operator.
	EthernetEvent = ethernet.Event
	// EthernetNeighbor is a change of which host has an IP address.
	EthernetNeighbor = ethernet.Neighbor
	// EthernetStatus is the switch at one moment.
	EthernetStatus = ethernet.Status
	// EthernetLoad is how much the switch has to remember, and what it saves.
	EthernetLoad = ethernet.Load
	// Condition is a state of the switch that an operator should know of.
	Condition = ethernet.Condition
	// Echo is what became of a ping.
	Echo = extension.Echo
)

// The states of a peer.
const (
	StateUp         = peer.StateUp
	StateConnecting = peer.StateConnecting
	StateIdle       = peer.StateIdle
	StateDown       = peer.StateDown
)

// Status is what a tunnel looks like at one moment. It holds no secret but PrivateKey and
// PeerStatus.PresharedKey, which only the WireGuard configuration socket hands out.
type Status struct {
	PrivateKey  keys.PrivateKey
	PublicKey   keys.PublicKey
	PreviousKey keys.PublicKey // ours from before, which still counts; zero: there is none
	ListenPort  uint16
	UnderLoad   bool
	CookiesSent uint64
	Sockets     []udp.Features // one for each lane
	Devices     []DeviceStatus
	Drops       map[string]uint64
	Strangers   []Stranger      // who asked for a session lately and is no peer, the latest last
	WrongKey    *WrongKey       // nil: nobody has asked for another key lately
	Peers       []PeerStatus    // in order of configuration
	Ethernet    *EthernetStatus // nil without a TAP device
}

// DeviceStatus is one device at one moment.
type DeviceStatus struct {
	Name     string // as configured, whatever the device is called now
	Kind     tundev.Kind
	Queues   int
	MTU      int // bytes of an IP packet
	Features tundev.Features
	lane.DeviceCounts
}

// Status reads the state of the tunnel. Packets flow meanwhile; the counters of one peer are read
// one after another.
func (t *Tunnel) Status() Status {
	s := t.Overview()
	s.Ethernet = t.lan.Status()
	now, wall := t.env.Clock.Now(), t.env.Clock.Wall()
	standby := t.standby()
	owned := make(map[*peer.Peer][]netip.Prefix)
	for prefix, p := range t.routes.All {
		owned[p] = append(owned[p], prefix)
	}
	order := t.peers.All()
	s.Peers = make([]PeerStatus, 0, len(order))
	for _, p := range order {
		ps := p.Status(now, wall)
		ps.AllowedIPs, ps.Ethernet, ps.Active = owned[p], t.lan.Carries(p), !standby[p]
		s.Peers = append(s.Peers, ps)
	}
	return s
}

// Overview is Status without the peers and without the switch: it costs the same however many there
// are.
func (t *Tunnel) Overview() Status {
	now := t.env.Clock.Now()
	s := Status{
		PrivateKey: t.handshakes.PrivateKey(), PublicKey: t.handshakes.PublicKey(), PreviousKey: t.handshakes.PreviousKey(),
		ListenPort: t.lanes[0].Conn().Port(), UnderLoad: t.handshakes.Load.Under(now),
		Strangers: t.handshakes.Strangers(), WrongKey: t.wrongKey(),
		CookiesSent: t.handshakes.CookiesSent(), Drops: t.Drops(),
	}
	for _, l := range t.lanes {
		s.Sockets = append(s.Sockets, l.Conn().Features())
	}
	for _, d := range t.devices {
		s.Devices = append(s.Devices, DeviceStatus{
			Name: d.Name, Kind: kindOf(d), Queues: len(d.Queues), MTU: d.MTU(), Features: d.Features, DeviceCounts: d.Counts(),
		})
	}
	return s
}

// kindOf says which kind of device carries a link.
func kindOf(d *lane.Device) tundev.Kind {
	if d.Link == offload.Ethernet {
		return tundev.TAP
	}
	return tundev.TUN
}

// EthernetStatus describes the switch alone; nil without a TAP device.
func (t *Tunnel) EthernetStatus() *EthernetStatus { return t.lan.Status() }

// EthernetLoad is how much the switch has to remember, and what it saves; nil without a TAP device.
func (t *Tunnel) EthernetLoad() *EthernetLoad { return t.lan.Load() }

// PeerState judges one peer; a peer that is not configured is down.
func (t *Tunnel) PeerState(key keys.PublicKey) State { return t.States()(key) }

// States returns a function that is PeerState at this moment, for very many peers: it reads the
// clock once, which takes longer than the judgement of a peer.
func (t *Tunnel) States() func(keys.PublicKey) State {
	now := t.env.Clock.Now()
	return func(key keys.PublicKey) State {
		if p := t.peers.Get(key); p != nil {
			return p.State(now)
		}
		return StateDown
	}
}

// Alive reports whether a peer is worth sending to: see peer.Peer.Alive, which a holder of the peer
// calls itself. A peer that is not configured is not alive.
func (t *Tunnel) Alive(key keys.PublicKey) bool { return t.PeerState(key) == StateUp }

// wrongKey is Handshakes.WrongKey, unless it was ourselves: the endpoint of a peer was our own
// address and port.
func (t *Tunnel) wrongKey() *WrongKey {
	k := t.handshakes.WrongKey()
	if k == nil || k.From.Port() != t.lanes[0].Conn().Port() {
		return k
	}
	for _, p := range t.peers.All() {
		if ep := p.Endpoint(); ep != nil && ep.Source == k.From.Addr() { // where the peer finds us
			return nil
		}
	}
	return k
}

// Ping sends one echo request to the peer with a name or public key, with a plaintext of size
// bytes, and waits at most the given time for the answer. It returns ErrNoSuchPeer if there is
// none.
func (t *Tunnel) Ping(ctx context.Context, name string, size int, wait time.Duration) (Echo, error) {
	if p := t.peerCalled(name); p != nil {
		return t.extensions.Ping(ctx, p, size, wait), nil
	}
	return Echo{}, ErrNoSuchPeer
}

// peerCalled returns the peer with a name or a public key, or nil.
func (t *Tunnel) peerCalled(name string) *peer.Peer {
	for _, p := range t.peers.All() {
		if p.DisplayName() == name || p.PublicKey().String() == name {
			return p
		}
	}
	return nil
}

// NoEcho reports whether a ping failed because the peer answers no echo requests at all.
func NoEcho(err error) bool { return extension.NoEcho(err) }

// ErrNoSuchPeer is returned for a name or key that belongs to no peer.
var ErrNoSuchPeer = errors.New("no such peer")

// Glances describes what changes often about the peers, in order of configuration. It costs far
// less than Status, and may be asked for every second.
func (t *Tunnel) Glances(yield func(PeerGlance) bool) {
	now := t.env.Clock.Now()
	for _, p := range t.peers.All() {
		if !yield(p.Glance(now)) {
			return
		}
	}
}

// Drops counts the packets dropped so far, by the names of internal/drop. The map belongs to the
// caller.
func (t *Tunnel) Drops() map[string]uint64 {
	drops := t.drops.Snapshot()
	for _, l := range t.lanes {
		if n := l.Conn().Overflows(); n != 0 {
			drops[drop.QueueOverflow.String()] += n
		}
	}
	return drops
}

// HasPeer reports whether there is a peer with this key.
func (t *Tunnel) HasPeer(key keys.PublicKey) bool { return t.peers.Get(key) != nil }

// Quiet returns for how long nothing authenticated has come from any peer; since the clock began,
// if nothing ever has.
func (t *Tunnel) Quiet() time.Duration {
	var newest boottime.Time
	for _, p := range t.peers.All() {
		newest = max(newest, p.LastReceived())
	}
	return t.env.Clock.Now().Sub(newest)
}

// PeerCount is the number of peers.
func (t *Tunnel) PeerCount() int { return len(t.peers.All()) }

// PeerEndpoint is where a peer is, and who would carry a packet there.
type PeerEndpoint struct {
	Name string
	Addr netip.AddrPort
	Via  string // name of the peer with the longest allowed IP that covers Addr; "": none does
	// PathMTU is the size of the largest IP packet that the path has been found to carry, in bytes;
	// 0: that is not known.
	PathMTU int
}

// Endpoint returns where a peer is, or the zero AddrPort if that is not known.
func (t *Tunnel) Endpoint(key keys.PublicKey) netip.AddrPort {
	if p := t.peers.Get(key); p != nil && p.Endpoint() != nil {
		return p.Endpoint().Addr
	}
	return netip.AddrPort{}
}

// Endpoints describes the endpoints that are known, in order of configuration.
func (t *Tunnel) Endpoints(yield func(PeerEndpoint) bool) {
	for _, p := range t.peers.All() {
		ep := p.Endpoint()
		if ep == nil {
			continue
		}
		e := PeerEndpoint{Name: p.DisplayName(), Addr: ep.Addr, PathMTU: p.Extension.PathMTU()}
		if owner, ok := t.routes.Lookup(ep.Addr.Addr().WithZone("")); ok {
			e.Via = owner.DisplayName()
		}
		if !yield(e) {
			return
		}
	}
}

// SetDSCP changes which differentiated services code point our datagrams carry: 0 to 63, or
// lane.CopyDSCP for that of the packet inside.
func (t *Tunnel) SetDSCP(value int) { t.env.DSCP.Set(value) }

// TakeOutward returns the source and destination of an IPv4 packet that a peer has sent through the
// TUN device from a private address to a public one since the last call; ok is false if there was
// none.
func (t *Tunnel) TakeOutward() (src, dst netip.Addr, ok bool) {
	for _, d := range t.devices {
		if kindOf(d) == tundev.TUN {
			return d.TakeOutward()
		}
	}
	return src, dst, false
}

// SetEthernet changes how frames are switched and cut, while they pass. The forwarding database
// keeps the size it was made with: EthernetRoom says how many entries it can be given.
func (t *Tunnel) SetEthernet(o EthernetOptions) error {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	return t.lan.SetOptions(o)
}

// Bridge is the connection between the switch and the Linux bridge of the TAP; nil without a TAP
// device.
func (t *Tunnel) Bridge() *ethernet.Bridge { return t.lan.Bridge() }

// EthernetRoom is the greatest EthernetOptions.Switch.MaxEntries that SetEthernet takes; 0 without
// a TAP device.
func (t *Tunnel) EthernetRoom() int { return t.lan.Room() }

// FlushFDB removes entries from the forwarding database and returns their number. port selects
// those behind a peer, or behind the device, by name; empty: all.
func (t *Tunnel) FlushFDB(f l2.Filter, port string) (int, error) { return t.lan.Flush(f, port) }

// PinFDB makes a static entry behind the peer, or the device, with the name.
func (t *Tunnel) PinFDB(vlan uint16, mac l2.MAC, port string) error {
	return t.lan.Pin(vlan, mac, port)
}
