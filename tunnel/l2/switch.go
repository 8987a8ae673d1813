package l2

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// PortID identifies a port of the switch. Ids should be small and dense: the port table is as long
// as the largest id in use.
type PortID uint32

// LocalPort is the TAP device. It always exists and is always up.
const LocalPort PortID = 0

// MaxPortID is the largest id that SetPorts accepts.
const MaxPortID PortID = 65535

// Defaults of Config.
const (
	DefaultAgeing     = 300 * time.Second // IEEE 802.1Q table 8-6
	DefaultMaxEntries = 16384
	DefaultMaxPerPort = 256 // the default of --max-routes-per-client in OpenVPN
	DefaultMTU        = 1500
)

// Config holds the settings of a switch. The zero Config is a safe default.
type Config struct {
	Name       string        // of the TAP, in events and conditions; "" means "local"
	AgeingTime time.Duration // of learned entries; 0 means DefaultAgeing
	MaxEntries int           // entries in the forwarding database; 0 means DefaultMaxEntries
	// Entries learned behind one peer; 0 means DefaultMaxPerPort. The TAP may have three quarters
	// of MaxEntries.
	MaxPerPort int

	// Storm limits in frames per second for each ingress port; 0 means the default, a negative
	// value means no limit.
	BroadcastLimit, MulticastLimit, UnknownLimit int

	Hub  bool       // forward frames from peer to peer
	BPDU BPDUPolicy // what to do with spanning tree frames
	// Answer ARP requests and neighbour solicitations from what was snooped.
	NeighborSuppression bool
	// VLANs (0: untagged) in which NeighborSuppression has no effect.
	UnsuppressedVLANs []uint16
	QinQ              bool          // accept frames with two VLAN tags
	Transparent       LinkProtocols // link-local protocols that are forwarded
	// Only pinned MACs are known; frames to all others are flooded.
	NoLearning bool
	// Ask the hosts of all sites for their multicast groups, as long as nobody else does.
	Querier bool
	// Flood multicast to all ports, whether or not they have joined the group.
	NoSnooping bool
	// MTU of the TAP: the payload bytes of a frame without Ethernet header and tags; 0 means
	// DefaultMTU.
	MTU int
	// Our node name in hellos and loop probes, the same at each start; 0 means a random one. It is
	// read only by New.
	Node uint64
}

// PortConfig is the configuration of the port of one peer.
type PortConfig struct {
	Name string
	// Frames are exchanged with the peer; if false, the port only tells the peer that they are not.
	Ethernet bool
	MACs     []MAC // if not empty, only these source MACs may come in here, and at no other port
	// Sources beyond this number are refused (drop.MACLimit); 0 means Config.MaxPerPort, beyond
	// which they are merely not learned.
	MaxMACs int

	// VLANs carried tagged (0: untagged frames). See membership in vlan.go for how VLANs and PVID
	// combine.
	VLANs []uint16
	PVID  uint16 // VLAN of the peer's untagged frames; 0 means none

	// The peer's public key, by which all sites make the same choice between two gateways of a LAN.
	// The zero key means unknown.
	PublicKey [32]byte
	// The node name that follows from that key: the peer that says so has the MAC of its switch,
	// whoever else says the same. 0 means unknown.
	Node uint64

	// Storm limits in frames per second for what the peer sends; 0 means those of Config, a
	// negative value means no limit.
	BroadcastLimit, MulticastLimit, UnknownLimit int

	// On a hub, the port exchanges frames only with the TAP and with ports that are not isolated.
	Isolated bool
	// Broadcasts, multicast and frames to unknown destinations are not sent to the peer.
	NoBUM bool
	// Nothing is answered on behalf of hosts of the peer.
	NoSuppression bool

	TrustDHCP, TrustRA bool // the peer may send what only a DHCP server, or a router, sends
}

// Switch is the learning switch. It is safe for concurrent use; see the package documentation.
type Switch struct {
	// Immutable after New.
	fdb    *fdb
	groups *groups
	// Hosts that a registry knows.
	assigned *assigned
	hosts    *neighbors
	node     uint64   // identifies us in hellos and loop probes
	mac      MAC      // source address of frames that the switch itself originates
	secret   [16]byte // authenticates our loop probes on the LAN; shared with our peers
	// Authenticates our probes to other hubs and is the root from which other secrets are derived;
	// never disclosed.
	own   [16]byte
	lan   [16]byte // key of our own tag in our loop probes on the LAN; never disclosed
	local *portState
	heard func(PortID) boottime.Time // nil: unknown; see SetHeard

	testSeed [2]uint64 // seeds of the check value that identifies our join tests

	announceRate, tellRate, controlRate limit.Rate

	suppression suppressionCounts

	suspected atomic.Int64 // boottime of the last suspicion of a loop; see proberate.go

	tell   limit.Bucket // limits gratuitous frames to the LAN
	view   atomic.Pointer[view]
	maxMTU atomic.Int64 // Config.MTU, until SetMTU changes it

	mu      sync.Mutex // guards everything below; no other lock is acquired while it is held
	cfg     Config
	ports   map[PortID]*slowPort
	blocks  []block
	pairs   map[pairKey]*pair
	tests   map[MAC]pairKey // outstanding join tests
	stale   []stale         // entries to be flushed by the next Tick
	renews  bool            // peers are to be sent hellos and announcements; see renewPeers
	renewed limit.Until     // limits that
	doubts  []doubt         // to be taken over by the next Tick; see takeover.go
	easing  int             // steps left until probes are sent every ProbeInterval again
	derived uint64          // number of secrets derived so far

	held      map[uint64]held // frames that have started a claim, by the key of the MAC
	released  []held          // frames whose claim has succeeded
	requeries []requery
	withdrawn []uint64 // hosts of our LAN that are gone, by the key of the MAC; see withdraw.go
	departed  map[uint64]departed

	masters map[uint64]advert // of shared addresses, by key: see vrrp.go

	helloSeq uint64 // number of node names received so far
	queue    Actions
	querier  querier
	storms   *[classes]stormRate // limits of ports without their own; nil: not computed yet
	watchAt  boottime.Time       // next review of the conditions

	conditions []Condition // as of the last review
	began      map[conditionKey]boottime.Time
	frozen     []uint64                 // MACs that were frozen lately
	lanLoops   map[uint16]boottime.Time // by VLAN: when our own probe last came back from our LAN
	lanProbes  map[uint16]boottime.Time // the same: when another switch last sent a probe there
	localPort  slowPort                 // the TAP: without a session, and without settings
	localWatch *watch
	warned     map[warning]boottime.Time
	probeAt    boottime.Time // next loop probe
	tickedAt   boottime.Time // last call of Tick
	lateAt     boottime.Time // when Tick was last called too late
	ageAt      boottime.Time // next ageing of multicast groups and neighbours

	probeVID uint16 // VLAN at which the next probes start
	probes   int    // sent in the last interval
	// What follows is explained in proberate.go.
	watchUntil boottime.Time // there is no rest before
	resting    bool          // as of the last Tick
	roundAt    boottime.Time // when the next round through the VLANs begins, at rest
	unprobed   int           // VLANs that are left in this round
	soon       limit.Until   // limits probes before their time
}

// portState is the part of a port that survives when the view is replaced.
type portState struct {
	meters    [classes]limit.Bucket
	shares    shares // of the budgets in meters, as used by individual senders
	drops     drop.Counters
	bpduUntil atomic.Int64 // boottime until which BPDU guard keeps the port blocked
	announce  limit.Bucket // limits announced MACs
	tells     limit.Bucket // limits frames to our LAN because of announced MACs
	control   limit.Bucket // limits control messages
	renames   limit.Bucket // limits changes of the peer's node name
	relay     limit.Bucket // limits how many of the peer's probes are relayed to other peers
	joinTests limit.Bucket // limits join tests that the peer requests
	flushes   limit.Bucket // limits how often the bridge forgets its hosts because of the peer

	// The last frame refused for each kind of refusal, and the last that was too long, as keys of
	// the forwarding database; 0: none.
	samples [refusalKinds]atomic.Uint64
	longest atomic.Uint64

	relayed map[uint16]relayed // by VLAN; guarded by Switch.mu
}

// New returns a switch without peers. Its MAC address follows from its node name. Hash seeds, probe
// secrets and, if cfg.Node is 0, the node name are read from random, which must be unpredictable
// (crypto/rand.Reader; tests use a fixed stream). New returns an error only if reading from random
// fails. random is not retained.
func New(cfg Config, random io.Reader) (*Switch, error) {
	cfg.fill()
	var seed [56]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, fmt.Errorf("read random bytes for the switch: %w", err)
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(seed[8*i:]) }
	s := &Switch{
		cfg: cfg, groups: newGroups(), hosts: newNeighbors(), assigned: newAssigned(), local: &portState{shares: newShares(localSlots)},
		fdb:    newFDB(cfg.MaxEntries, uint32(cfg.AgeingTime/time.Second), word(0), word(1)),
		node:   word(2) | 1, // 0 means unknown
		secret: [16]byte(seed[24:]), own: [16]byte(seed[40:]),
		ports: make(map[PortID]*slowPort), warned: make(map[warning]boottime.Time),
		announceRate: newRate(announceLimit, 0), tellRate: newRate(tellLimit, 0),
		controlRate: newRate(controlLimit, 0),
	}
	if cfg.Node != 0 {
		s.node = cfg.Node
	}
	s.pairs, s.tests = make(map[pairKey]*pair), make(map[MAC]pairKey)
	s.lanLoops, s.lanProbes = make(map[uint16]boottime.Time), make(map[uint16]boottime.Time)
	s.held, s.masters, s.departed = make(map[uint64]held), make(map[uint64]advert), make(map[uint64]departed)
	s.lan = s.derive("tag of our own")
	check := s.derive("join test")
	s.testSeed = [2]uint64{binary.LittleEndian.Uint64(check[:]), binary.LittleEndian.Uint64(check[8:]) | 1}
	s.mac = switchMAC(s.node)
	s.maxMTU.Store(int64(cfg.MTU))
	s.fdb.setLimit(LocalPort, cfg.localLimit(), false)
	s.rebuild()
	return s, nil
}

// derive returns a secret that no other call returns. mu is held (or s is not shared yet).
func (s *Switch) derive(purpose string) [16]byte {
	s.derived++
	return authenticate(&s.own, binary.BigEndian.AppendUint64([]byte(purpose), s.derived))
}

// fill replaces unset values by their defaults.
func (c *Config) fill() {
	setDefault(&c.AgeingTime, DefaultAgeing)
	setDefault(&c.MaxEntries, DefaultMaxEntries)
	setDefault(&c.MaxPerPort, DefaultMaxPerPort)
	setDefault(&c.MTU, DefaultMTU)
}

// localLimit leaves room for the peers, however many hosts the LAN has.
func (c *Config) localLimit() int { return c.MaxEntries - c.MaxEntries/4 }

// stormLimits returns the limits of a port for broadcasts, multicast and frames to unknown
// destinations, in frames per second; negative means none.
func (c *Config) stormLimits(p *PortConfig) [3]int {
	return [3]int{
		cmp.Or(p.BroadcastLimit, c.BroadcastLimit, DefaultBroadcastLimit),
		cmp.Or(p.MulticastLimit, c.MulticastLimit, DefaultMulticastLimit),
		cmp.Or(p.UnknownLimit, c.UnknownLimit, DefaultUnknownLimit),
	}
}

// stormsOf returns the limits of a port. Ports without limits of their own share one copy. mu is
// held (or s is not shared yet).
func (s *Switch) stormsOf(p *PortConfig) *[classes]stormRate {
	if p.BroadcastLimit != 0 || p.MulticastLimit != 0 || p.UnknownLimit != 0 {
		return s.cfg.storms(p)
	}
	if s.storms == nil {
		s.storms = s.cfg.storms(p)
	}
	return s.storms
}

func (c *Config) storms(p *PortConfig) *[classes]stormRate {
	limits := c.stormLimits(p)
	return &[classes]stormRate{
		ClassBroadcast: newStormRate(limits[0], 0), ClassMulticast: newStormRate(limits[1], 0),
		ClassUnknown: newStormRate(limits[2], 0), ClassProbe: newStormRate(probeLimit, 0),
	}
}

// ErrTableSize reports that SetConfig was asked for more entries than the table allocated by New
// can hold. All other changes have been applied.
var ErrTableSize = errors.New("the forwarding database cannot grow so far while it is in use")

// SetConfig changes the configuration while frames are being forwarded. Learned entries are kept as
// far as they fit within the new limits. Config.MTU is ignored: use SetMTU. SetConfig returns
// ErrTableSize if it had to reduce MaxEntries to what New allocated.
func (s *Switch) SetConfig(cfg Config) error {
	cfg.fill()
	room := s.fdb.setMaximum(cfg.MaxEntries, uint32(cfg.AgeingTime/time.Second))
	var err error
	if room < cfg.MaxEntries {
		cfg.MaxEntries, err = room, ErrTableSize
	}
	s.mu.Lock()
	s.cfg, s.storms = cfg, nil
	s.watchAt = dueNow
	s.rebuild()
	limits := map[PortID]int{}
	for id, p := range s.ports {
		if p.cfg.MaxMACs == 0 {
			limits[id] = cfg.MaxPerPort
		}
		if p.up {
			p.helloAt, p.tries = dueNow, 0 // peers need to know whether we are a hub
		}
	}
	s.mu.Unlock()
	if cfg.NoSnooping {
		// Reports missed while snooping is off would be missing when it is turned on again.
		s.groups.forget()
	}
	if cfg.NoLearning {
		s.Flush(Filter{})
	}
	s.fdb.setLimit(LocalPort, cfg.localLimit(), false)
	for id, limit := range limits {
		s.fdb.setLimit(id, limit, false)
	}
	return err
}

// Room returns the largest Config.MaxEntries that SetConfig accepts without ErrTableSize.
func (s *Switch) Room() int { return len(s.fdb.cold) / 2 }

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// MAC returns the source address of the frames that the switch itself originates. No interface may
// use it.
func (s *Switch) MAC() MAC { return s.mac }

// SetMTU sets the longest payload, in bytes, of a frame that may pass; call it when the MTU of the
// TAP has changed. Peers are informed. It does nothing if mtu is not positive.
func (s *Switch) SetMTU(mtu int) {
	if mtu <= 0 || s.maxMTU.Swap(int64(mtu)) == int64(mtu) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchAt = dueNow
	for _, p := range s.ports {
		if p.up {
			p.helloAt, p.tries = dueNow, 0
		}
	}
}
