package handshake

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/udp"
)

// Bounds on what is remembered about hosts that ask for a session and get none.
const (
	// maxStrangers is the number of public keys remembered, because anybody can make new ones. When
	// it is reached, the key not heard for longest is replaced.
	maxStrangers = 8
	// strangerMemory is how long a stranger is remembered: a host with traffic to send asks again
	// every five seconds.
	strangerMemory = time.Minute
	// proofsPerSecond limits how often the proof of an unknown key is verified: each costs a scalar
	// multiplication in addition to the one that any initiation costs.
	proofsPerSecond = 4
)

var proofRate = limit.PerSecond(proofsPerSecond, 2*proofsPerSecond)

// Stranger is a host that asked for a session and proved that it holds the private key of its
// public key, but is no peer. Its address is not proven: a copy of its message can be sent from any
// address.
type Stranger struct {
	PublicKey   keys.PublicKey
	Endpoint    netip.AddrPort // of the newest message
	First, Last time.Time
	Times       uint64 // number of messages, not counting copies
}

// stranger is the internal form of Stranger.
type stranger struct {
	Stranger
	stamp  noise.Timestamp // the newest
	lastAt boottime.Time
}

// strangers remembers the latest strangers. It is safe for concurrent use; no lane calls it.
type strangers struct {
	proofs limit.Bucket

	mu   sync.Mutex
	list []stranger // the one not heard for longest first
}

// met remembers a stranger, and reports whether it was unknown before.
func (s *strangers) met(key keys.PublicKey, stamp noise.Timestamp, from netip.AddrPort, now boottime.Time, wall time.Time) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := stranger{Stranger: Stranger{PublicKey: key, First: wall}}
	i := slices.IndexFunc(s.list, func(x stranger) bool { return x.PublicKey == key })
	switch {
	case i >= 0:
		one = s.list[i]
		if !stamp.After(one.stamp) {
			return false // a copy
		}
		s.list = slices.Delete(s.list, i, i+1)
	case len(s.list) == maxStrangers:
		s.list = slices.Delete(s.list, 0, 1)
	}
	fresh = i < 0 || now.Sub(one.lastAt) >= strangerMemory
	if fresh {
		one.First, one.Times = wall, 0
	}
	one.stamp, one.lastAt, one.Last, one.Endpoint = stamp, now, wall, from
	one.Times++
	s.list = append(s.list, one)
	return fresh
}

// recent returns the strangers heard lately, the latest last.
func (s *strangers) recent(now boottime.Time) []Stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Stranger
	for i := range s.list {
		if now.Sub(s.list[i].lastAt) < strangerMemory {
			list = append(list, s.list[i].Stranger)
		}
	}
	return list
}

// unknown handles an initiation whose static key belongs to no peer. The key is believed only once
// its owner has proven it, because anybody can write a key into an initiation.
func (w *Worker) unknown(id *noise.Identity, in *noise.Incoming, from *udp.Endpoint, now boottime.Time) {
	if !w.strangers.proofs.Take(now, 1, proofRate) {
		return
	}
	stamp, err := in.Authenticate(noise.NewRemote(id, in.Public()))
	if err != nil {
		return
	}
	if w.strangers.met(in.Public(), stamp, from.Addr, now, w.env.Clock.Wall()) {
		w.env.Log.UnknownPeer(now, in.Public(), from.Addr)
	}
}

// Strangers returns the hosts that asked for a session within the last minute and are no peers, the
// latest last.
func (h *Handshakes) Strangers() []Stranger {
	list := h.strangers.recent(h.env.Clock.Now())
	return slices.DeleteFunc(list, func(s Stranger) bool { return h.peers.Get(s.PublicKey) != nil })
}

// WrongKey tells of initiations that are made for another public key than ours. Nobody has proven
// anything with them: their sender may have our key wrong, or be no WireGuard at all.
type WrongKey struct {
	From  netip.AddrPort
	Since time.Time // of the first since there was none for a minute
}

// wrongKeys remembers the latest. Lanes write it without a lock.
type wrongKeys struct {
	since, last atomic.Int64 // boottime
	from        atomic.Pointer[netip.AddrPort]
}

// wrongKeyPause is the least time between two that are remembered: there may be a flood.
const wrongKeyPause = time.Second

// met remembers where such an initiation came from.
func (k *wrongKeys) met(from netip.AddrPort, now boottime.Time) {
	last := k.last.Load()
	if last != 0 && now.Sub(boottime.Time(last)) < wrongKeyPause || !k.last.CompareAndSwap(last, int64(now)) {
		return
	}
	if last == 0 || now.Sub(boottime.Time(last)) >= strangerMemory {
		k.since.Store(int64(now))
	}
	k.from.Store(&from)
}

// WrongKey returns what is known of initiations of the last minute that were made for another key;
// nil if there were none, or only one, which may be chance or a network scan.
func (h *Handshakes) WrongKey() *WrongKey {
	now, k := h.env.Clock.Now(), &h.wrongKeys
	since, last, from := boottime.Time(k.since.Load()), boottime.Time(k.last.Load()), k.from.Load()
	if from == nil || last == since || now.Sub(last) >= strangerMemory {
		return nil
	}
	return &WrongKey{From: *from, Since: h.env.Clock.Wall().Add(-now.Sub(since))}
}
