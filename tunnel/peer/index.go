package peer

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"

	"tund/internal/boottime"
	"tund/tunnel/timers"
)

// indexBuckets is the number of buckets of the index table: 30,000 entries (10,000 peers with three
// sessions each) make chains of two. Unused parts of the array are never touched, so they take no
// memory.
const indexBuckets = 1 << 14

// Index finds the owner of a local index, the 32-bit number by which a datagram names its session
// or handshake. Indices are random, so that they do not reveal how many peers we have.
//
// Get takes no lock. Changes are serialized by mu and publish immutable chain nodes.
type Index struct {
	mu      sync.Mutex // guards changes; not taken by Get
	buckets [indexBuckets]atomic.Pointer[indexNode]
}

type indexNode struct {
	index uint32
	owner Owner
	next  *indexNode
}

// Owner is what an index refers to: a session of a peer or, if Keypair is nil, the handshake under
// way with the peer.
type Owner struct {
	Peer    *Peer
	Keypair *Keypair
}

func (t *Index) bucket(index uint32) *atomic.Pointer[indexNode] {
	return &t.buckets[index%indexBuckets]
}

// Get returns the owner of index; ok is false if it has none.
func (t *Index) Get(index uint32) (owner Owner, ok bool) {
	for n := t.bucket(index).Load(); n != nil; n = n.next {
		if n.index == index {
			return n.owner, true
		}
	}
	return Owner{}, false
}

// Reserve picks a free random index for a handshake of peer.
func (t *Index) Reserve(peer *Peer) uint32 { return t.reserve(peer, 0, 1) }

// reserve picks a free random index for a handshake, or for a data session, of peer. Its low byte,
// the first on the wire, leaves the given remainder when divided by the number of lanes: by that
// the kernel steers messages to lanes (tunnel/udp).
func (t *Index) reserve(peer *Peer, lane, lanes int) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		low := int(b[0]) - int(b[0])%lanes + lane
		if low > math.MaxUint8 {
			continue
		}
		b[0] = byte(low)
		index := binary.LittleEndian.Uint32(b[:])
		if _, taken := t.Get(index); taken {
			continue
		}
		head := t.bucket(index)
		head.Store(&indexNode{index: index, owner: Owner{Peer: peer}, next: head.Load()})
		return index
	}
}

// assign makes a reserved index refer to a session.
func (t *Index) assign(index uint32, kp *Keypair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(index)
	head := t.bucket(index)
	head.Store(&indexNode{index: index, owner: Owner{Peer: kp.Peer, Keypair: kp}, next: head.Load()})
}

// claim makes the local index of a session that another process began refer to it, unless the index
// is taken.
func (t *Index) claim(kp *Keypair) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	index := kp.Session.LocalIndex()
	if _, taken := t.Get(index); taken {
		return false
	}
	head := t.bucket(index)
	head.Store(&indexNode{index: index, owner: Owner{Peer: kp.Peer, Keypair: kp}, next: head.Load()})
	return true
}

// Release frees an index.
func (t *Index) Release(index uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(index)
}

// remove rebuilds the chain without index; concurrent readers finish on the old chain.
func (t *Index) remove(index uint32) {
	head := t.bucket(index)
	var kept *indexNode
	for n := head.Load(); n != nil; n = n.next {
		if n.index != index {
			kept = &indexNode{index: n.index, owner: n.owner, next: kept}
		}
	}
	head.Store(kept)
}

// Len returns the number of indices in use. It walks the whole table.
func (t *Index) Len() (n int) {
	for i := range t.buckets {
		for e := t.buckets[i].Load(); e != nil; e = e.next {
			n++
		}
	}
	return n
}

// MayAnswer reports whether a cookie reply to index can be genuine, that is, whether it can answer
// an initiation that waits for its response, or a response of the last few seconds, whose index is
// by then that of a session.
func (t *Index) MayAnswer(index uint32, now boottime.Time) bool {
	owner, ok := t.Get(index)
	return ok && (owner.Keypair == nil ||
		!owner.Keypair.Session.Initiator() && now.Sub(owner.Keypair.Established) < timers.RekeyTimeout)
}

// Awaited reports whether index belongs to a handshake that waits for its response.
func (t *Index) Awaited(index uint32) bool {
	owner, ok := t.Get(index)
	return ok && owner.Keypair == nil
}
