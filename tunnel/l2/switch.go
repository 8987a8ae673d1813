package l2

import (
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

// PortID names a port of the switch. Ids are small and dense: the table of ports is as long as the greatest.
type PortID uint32

// LocalPort is the TAP. It always exists and is always up.
const LocalPort PortID = 0

// MaxPortID is the greatest id SetPort takes.
const MaxPortID PortID = 65535

// Defaults of Config.
const (
	DefaultAgeing     = 300 * time.Second // IEEE 802.1Q table 8-6
	DefaultMaxEntries = 16384
	DefaultMaxPerPort = 256 // as OpenVPN's --max-routes-per-client
	DefaultMTU        = 1500
)

// Config is what the switch is told at its start. The zero Config is a safe default.
type Config struct {
	AgeingTime time.Duration // of learned entries; 0: DefaultAgeing
	MaxEntries int           // in the forwarding database; 0: DefaultMaxEntries
	MaxPerPort int           // learned behind one peer; 0: DefaultMaxPerPort. The TAP may have three quarters of MaxEntries

	// Storm limits in frames a second and ingress port; 0: the default, negative: none.
	BroadcastLimit, MulticastLimit, UnknownLimit int

	Hub                 bool          // forward from peer to peer
	BPDU                BPDUPolicy    // spanning tree frames
	NeighborSuppression bool          // answer ARP and neighbour solicitations from what was snooped
	QinQ                bool          // let frames with two tags through
	Transparent         LinkProtocols // link-local protocols that pass
	NoLearning          bool          // only pinned MACs are known, frames to all others are flooded
	NoSnooping          bool          // send multicast to all ports, whoever asked for it
	MTU                 int           // of the TAP: payload bytes of a frame, without Ethernet header and tags; 0: DefaultMTU
}

// PortConfig is a peer as the switch sees it.
type PortConfig struct {
	Name     string
	Ethernet bool  // carries frames; without it the port only tells the peer so
	MACs     []MAC // not empty: only these sources may come from it, and from nowhere else
	MaxMACs  int   // more sources than this are refused (drop.MACLimit); 0: Config.MaxPerPort, beyond which they are just not learned

	VLANs []uint16 // carried tagged (0: untagged); see membership in vlan.go for how VLANs and PVID go together
	PVID  uint16   // VLAN of the peer's untagged frames; 0: none

	PublicKey [32]byte // of the peer: decides, equally at all sites, which of two gateways of a LAN is used; zero: unknown

	Isolated bool // on a hub: exchanges frames with the TAP and with ports that are not isolated, only

	TrustDHCP, TrustRA bool // it may send what only a DHCP server, or a router, sends
}

// Switch is the learning switch. It is safe for concurrent use; see the package documentation.
type Switch struct {
	// Immutable after New.
	fdb    *fdb
	groups *groups
	hosts  *neighbors
	node   uint64   // our name in hellos and probes
	mac    MAC      // source of the frames we make ourselves
	secret [16]byte // authenticates our probes on the LAN; known to our peers
	own    [16]byte // authenticates our probes to other hubs; known to nobody else. Other secrets are derived from it
	lan    [16]byte // our own tag in our probes on the LAN; known to nobody else
	local  *portState

	testSeed [2]uint64 // by which we know our join tests

	announceRate, tellRate, controlRate limit.Rate

	tell   limit.Bucket // gratuitous frames
	view   atomic.Pointer[view]
	maxMTU atomic.Int64 // Config.MTU, or SetMTU since

	mu      sync.Mutex // guards all below; no other lock is taken while it is held
	cfg     Config
	ports   map[PortID]*slowPort
	blocks  []block
	pairs   map[pairKey]*pair
	tests   map[MAC]pairKey // join tests under way
	stale   []stale         // to be flushed by the next Tick
	derived uint64          // secrets derived so far

	helloSeq uint64 // nodes told so far
	queue    Actions
	warned   map[warning]boottime.Time
	probeAt  boottime.Time // next loop probe
	ageAt    boottime.Time // next ageing of groups and neighbours

	probeVID uint16 // VLAN with which the next round of probes begins
}

// portState is what of a port survives a new view.
type portState struct {
	meters    [classes]limit.Bucket
	shares    shares // of meters that senders used
	drops     drop.Counters
	bpduUntil atomic.Int64 // boottime until which BPDU guard blocks the port
	announce  limit.Bucket // MACs announced
	control   limit.Bucket // control messages
	renames   limit.Bucket // changes of the peer's node
	relay     limit.Bucket // its probes, passed on to other peers
	joinTests limit.Bucket // join tests asked of us

	relayed map[uint16]relayed // by VLAN; Switch.mu guards it
}

// New returns a switch with no peers. Its node name, MAC, hash seeds and probe secrets are read from random, which
// must be unpredictable (crypto/rand.Reader; tests use a fixed stream); an error is random's. random is not kept.
func New(cfg Config, random io.Reader) (*Switch, error) {
	cfg.fill()
	var seed [56]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, fmt.Errorf("seed of the switch: %w", err)
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(seed[8*i:]) }
	s := &Switch{
		cfg: cfg, groups: newGroups(), hosts: newNeighbors(), local: &portState{shares: newShares(localSlots)},
		fdb:    newFDB(cfg.MaxEntries, uint32(cfg.AgeingTime/time.Second), word(0), word(1)),
		node:   word(2) | 1, // 0 means unknown
		secret: [16]byte(seed[24:]), own: [16]byte(seed[40:]),
		ports: make(map[PortID]*slowPort), warned: make(map[warning]boottime.Time),
		announceRate: newRate(announceLimit, 0), tellRate: newRate(tellLimit, 0),
		controlRate: newRate(controlLimit, 0),
	}
	s.pairs, s.tests = make(map[pairKey]*pair), make(map[MAC]pairKey)
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

// fill replaces what is not set by its default.
func (c *Config) fill() {
	setDefault(&c.AgeingTime, DefaultAgeing)
	setDefault(&c.MaxEntries, DefaultMaxEntries)
	setDefault(&c.MaxPerPort, DefaultMaxPerPort)
	setDefault(&c.MTU, DefaultMTU)
}

// localLimit leaves room for the peers however large the LAN is.
func (c *Config) localLimit() int { return c.MaxEntries - c.MaxEntries/4 }

func (c *Config) storms() [classes]stormRate {
	return [classes]stormRate{
		ClassBroadcast: newStormRate(c.BroadcastLimit, DefaultBroadcastLimit),
		ClassMulticast: newStormRate(c.MulticastLimit, DefaultMulticastLimit),
		ClassUnknown:   newStormRate(c.UnknownLimit, DefaultUnknownLimit),
		ClassProbe:     newStormRate(probeLimit, probeLimit),
	}
}

// ErrTableSize says that SetConfig asks for more entries than the table made by New has room for. All else has been changed.
var ErrTableSize = errors.New("the forwarding database cannot grow so far while it is in use")

// SetConfig changes the configuration while frames pass. What was learned stays, as far as it fits into the new limits.
// Config.MTU is not looked at: see SetMTU. It returns ErrTableSize when MaxEntries had to be cut to what New made.
func (s *Switch) SetConfig(cfg Config) error {
	cfg.fill()
	room := s.fdb.setMaximum(cfg.MaxEntries, uint32(cfg.AgeingTime/time.Second))
	var err error
	if room < cfg.MaxEntries {
		cfg.MaxEntries, err = room, ErrTableSize
	}
	s.mu.Lock()
	s.cfg = cfg
	s.rebuild()
	limits := map[PortID]int{}
	for id, p := range s.ports {
		if p.cfg.MaxMACs == 0 {
			limits[id] = cfg.MaxPerPort
		}
		if p.up {
			p.helloAt, p.tries = dueNow, 0 // hub or not is for the peers to know
		}
	}
	s.mu.Unlock()
	if cfg.NoSnooping {
		s.groups.forget() // or reports that are missed meanwhile would be missed when it is on again
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

// Room returns the greatest Config.MaxEntries that SetConfig takes without ErrTableSize.
func (s *Switch) Room() int { return len(s.fdb.cold) / 2 }

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// MAC returns the address from which the switch sends its own frames. Nothing is to have it as its own.
func (s *Switch) MAC() MAC { return s.mac }

// SetMTU changes the longest payload of a frame that may pass, when the TAP's MTU was changed. Peers are told.
func (s *Switch) SetMTU(mtu int) {
	if mtu <= 0 || s.maxMTU.Swap(int64(mtu)) == int64(mtu) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		if p.up {
			p.helloAt, p.tries = dueNow, 0
		}
	}
}
