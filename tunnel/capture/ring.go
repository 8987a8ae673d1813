package capture

import (
	"runtime"
	"sync"
	"sync/atomic"

	"tund/internal/capture/filter"
	"tund/internal/capture/stream"
	"tund/tunnel/peer"
)

const (
	// ringSize is the memory of one ring, in bytes. At 5 Gbit/s whole packets fill it in 1.6 ms,
	// and their first 128 bytes in 15 ms; the reader comes every drainEvery. Larger ones would push
	// the packet path's own memory out of the caches.
	ringSize = 1 << 20
	// drainPiece is how much of a ring the reader takes at a time, in bytes. A reader whose socket
	// is full waits for as long as one piece takes, and the room of the others is free meanwhile.
	drainPiece = 128 << 10
	// nameSlots is how many peers a ring remembers the names of. With more peers, names are sent
	// again now and then.
	nameSlots = 128
)

// ring holds records from one writer, or from several that take turns, until the reader takes them.
// It is lossy: what does not fit is counted and gone.
type ring struct {
	number  uint8
	secrets bool // keys may lie in it: they are overwritten when they have been read
	buf     []byte

	writing sync.Mutex // guards what follows; held for one copy
	view    filter.View
	unread  bool // the reader has ended: see forget
	names   [nameSlots]named
	scratch [ipv6Header + udpHeader]byte

	head  atomic.Uint64 // bytes ever written; the writer's
	tail  atomic.Uint64 // bytes ever read; the reader's
	taken [maxInterfaces]atomic.Uint64
	lost  [maxInterfaces]atomic.Uint64
}

// named is the peer that a slot stands for, as the reader knows it.
type named struct {
	used bool
	key  [32]byte
	name string
}

// newRing returns an empty ring whose memory is in place.
func newRing(number int) *ring {
	r := &ring{number: uint8(number), buf: make([]byte, ringSize)}
	for i := 0; i < len(r.buf); i += 4096 {
		r.buf[i] = 1 // have the kernel provide the page now, rather than while packets wait
	}
	return r
}

// lock begins a write. A lane does not wait: it gets false if another goroutine is writing.
func (r *ring) lock(wait bool) bool {
	for !r.writing.TryLock() {
		if !wait {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// reserve returns n contiguous bytes at the head, and where the head will be when they are written;
// nil if there is no room.
func (r *ring) reserve(n int) (room []byte, next uint64) {
	head := r.head.Load()
	free := uint64(len(r.buf)) - (head - r.tail.Load())
	at := int(head % uint64(len(r.buf)))
	if left := len(r.buf) - at; left < n {
		if free < uint64(left+n) {
			return nil, 0
		}
		// Records do not wrap around. What is left has room for a header (stream.Align).
		pad := stream.Header{Kind: stream.KindPad, Payload: uint32(left - stream.HeaderSize)}
		pad.Put(r.buf[at:])
		head, at = head+uint64(left), 0
	} else if free < uint64(n) {
		return nil, 0
	}
	return r.buf[at : at+n], head + uint64(n)
}

// put writes a record, or reports that there is no room.
func (r *ring) put(h *stream.Header, first, second []byte) bool {
	h.Ring, h.Payload = r.number, uint32(len(first)+len(second))
	room, next := r.reserve(stream.Size(len(first) + len(second)))
	if room == nil {
		return false
	}
	h.Put(room)
	n := stream.HeaderSize + copy(room[stream.HeaderSize:], first)
	n += copy(room[n:], second)
	clear(room[n:])
	r.head.Store(next)
	return true
}

// slot returns the number by which the reader knows a peer, and tells it the name first if it does
// not know it. ok is false if there is no room for that.
func (r *ring) slot(p *peer.Peer) (number uint16, ok bool) {
	if p == nil {
		return 0, true
	}
	key, name := [32]byte(p.PublicKey()), p.Name()
	i := int(key[0]) % nameSlots // public keys are as good as random
	number = uint16(i + 1)
	if s := &r.names[i]; s.used && s.key == key && s.name == name {
		return number, true
	}
	if !r.put(&stream.Header{Kind: stream.KindPeer, Peer: number}, key[:], []byte(name)) {
		return 0, false
	}
	r.names[i] = named{true, key, name}
	return number, true
}

// drain hands what lies in the ring to take, piece by piece, and frees it. It reports whether there
// was anything.
func (r *ring) drain(take func([]byte) error) (any bool, err error) {
	end := r.head.Load()
	for tail := r.tail.Load(); tail != end; {
		at := int(tail % uint64(len(r.buf)))
		n := min(uint64(len(r.buf)-at), end-tail, drainPiece)
		if err := take(r.buf[at : at+int(n)]); err != nil {
			return true, err
		}
		if r.secrets {
			clear(r.buf[at : at+int(n)])
		}
		tail += n
		r.tail.Store(tail)
		any = true
	}
	return any, nil
}

// forget overwrites the ring if keys may lie in it, and keeps further ones out. The reader calls
// it when it ends.
func (r *ring) forget() {
	if !r.secrets {
		return
	}
	r.lock(true)
	defer r.writing.Unlock()
	r.unread = true
	clear(r.buf)
}
