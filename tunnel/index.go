package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// indexBuckets is the number of buckets of the index table: 30,000 entries (10,000 peers with three sessions
// each) make chains of two. The array is untouched, and so costs no memory, until it is used.
const indexBuckets = 1 << 14

// indexTable finds who owns a local index, the 32-bit name that a datagram carries for its session or handshake.
// Indices are random, so that they tell nobody how many peers we have.
//
// get takes no lock. Changes are serialized by mu and publish immutable chain nodes.
type indexTable struct {
	mu      sync.Mutex // guards changes; not taken by get
	buckets [indexBuckets]atomic.Pointer[indexNode]
}

type indexNode struct {
	index uint32
	owner indexOwner
	next  *indexNode
}

// indexOwner is what an index stands for: a peer's session, or, when slot is nil, the handshake it began.
type indexOwner struct {
	peer *Peer
	slot *slot
}

func (t *indexTable) bucket(index uint32) *atomic.Pointer[indexNode] {
	return &t.buckets[index%indexBuckets]
}

// get returns the owner of index; ok is false when it has none.
func (t *indexTable) get(index uint32) (owner indexOwner, ok bool) {
	for n := t.bucket(index).Load(); n != nil; n = n.next {
		if n.index == index {
			return n.owner, true
		}
	}
	return indexOwner{}, false
}

// reserve picks a free random index for a handshake of peer.
func (t *indexTable) reserve(peer *Peer) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		index := binary.LittleEndian.Uint32(b[:])
		if _, taken := t.get(index); taken {
			continue
		}
		head := t.bucket(index)
		head.Store(&indexNode{index: index, owner: indexOwner{peer: peer}, next: head.Load()})
		return index
	}
}

// assign makes a reserved index stand for a session.
func (t *indexTable) assign(index uint32, s *slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(index)
	head := t.bucket(index)
	head.Store(&indexNode{index: index, owner: indexOwner{peer: s.peer, slot: s}, next: head.Load()})
}

// release frees an index.
func (t *indexTable) release(index uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(index)
}

// remove rebuilds the chain without index; readers keep the old one until they are through.
func (t *indexTable) remove(index uint32) {
	head := t.bucket(index)
	var kept *indexNode
	for n := head.Load(); n != nil; n = n.next {
		if n.index != index {
			kept = &indexNode{index: n.index, owner: n.owner, next: kept}
		}
	}
	head.Store(kept)
}
