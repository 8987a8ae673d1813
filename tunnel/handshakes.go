package tunnel

import (
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/protocol"
	"tund/tunnel/udp"
)

// Bounds of the slow plane.
const (
	// handshakeQueue is the number of handshake messages that wait for a worker.
	handshakeQueue = 1024
	// underLoadDepth is the queue length at which proof of address is demanded, and keepUnderLoad how long after it.
	underLoadDepth = handshakeQueue / 8
	keepUnderLoad  = time.Second
)

// handshakes is the queue between the lanes and the workers, with the defence against floods.
type handshakes struct {
	queue  chan handshakeMessage
	recent *recentInitiations
	source sourceLimiter

	loadedUntil atomic.Int64 // boottime until which we are under load
	cookies     cookieBudget
}

// handshakeMessage is a copy of a message whose mac1 has been checked.
type handshakeMessage struct {
	kind byte
	data [wire.InitiationSize]byte
	size int
	from udp.Endpoint
}

func newHandshakes() *handshakes {
	return &handshakes{queue: make(chan handshakeMessage, handshakeQueue), recent: newRecentInitiations(), cookies: cookieBudget{seed: maphash.MakeSeed()}}
}

// put queues a message; it never waits.
func (h *handshakes) put(kind byte, d []byte, from udp.Endpoint, now boottime.Time) drop.Reason {
	if kind == wire.TypeInitiation && h.recent.add(wire.MAC1(d), now) {
		return drop.DuplicateInit
	}
	m := handshakeMessage{kind: kind, size: len(d), from: from}
	copy(m.data[:], d)
	if len(h.queue) >= underLoadDepth {
		h.loadedUntil.Store(int64(now.Add(keepUnderLoad)))
	}
	select {
	case h.queue <- m:
		return drop.None
	default:
		return drop.HandshakeQueue
	}
}

func (h *handshakes) underLoad(now boottime.Time) bool { return int64(now) < h.loadedUntil.Load() }

// work handles queued handshake messages, and hints, until the tunnel is closed.
func (t *Tunnel) work(p *pulse) {
	for {
		p.rest()
		select {
		case <-t.stop:
			return
		case m := <-t.handshakes.queue:
			p.wake()
			t.guard("handshake worker", func() { t.handshake(&m) })
		case h := <-t.hints.queue:
			p.wake()
			t.guard("hints", func() { t.hinted(h) })
		}
	}
}

func (t *Tunnel) handshake(m *handshakeMessage) {
	now := t.clock.Now()
	msg := m.data[:m.size]
	if m.kind == wire.TypeCookieReply {
		t.drops.Add(t.consumeCookie(msg, now), 1)
		return
	}
	if reason := t.provesAddress(m, msg, now); reason != drop.None {
		t.drops.Add(reason, 1)
		return
	}
	if m.kind == wire.TypeInitiation {
		t.drops.Add(t.consumeInitiation(msg, &m.from, now), 1)
	} else {
		t.drops.Add(t.consumeResponse(msg, &m.from, now), 1)
	}
}

// provesAddress demands, under load, a mac2 made with our cookie, and otherwise answers with one (whitepaper §5.3,
// §5.4.7). It is the only answer that an unauthenticated datagram ever gets, and it is smaller than its cause.
func (t *Tunnel) provesAddress(m *handshakeMessage, msg []byte, now boottime.Time) drop.Reason {
	if !t.handshakes.underLoad(now) {
		return drop.None
	}
	t.explain.underLoad(now)
	cookies := t.cookies.Load()
	if cookies.ValidMAC2(msg, m.from.Addr, now) {
		if !t.handshakes.source.allow(m.from.Addr.Addr(), now) {
			return drop.RateLimited
		}
		return drop.None
	}
	if m.kind == wire.TypeInitiation {
		t.handshakes.recent.forget(wire.MAC1(msg))
	}
	if !t.handshakes.cookies.allow(m.from.Addr.Addr(), now) {
		return drop.CookieBudget
	}
	var reply [wire.CookieReplySize]byte
	if err := cookies.Reply(&reply, msg, m.from.Addr, now); err != nil {
		return drop.Internal
	}
	t.sendMessage(reply[:], &m.from)
	return drop.UnderLoad
}

// consumeInitiation answers a genuine initiation (whitepaper §5.4.2, §5.4.3).
func (t *Tunnel) consumeInitiation(msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	id := t.identity.Load()
	in, err := id.OpenInitiation(msg)
	if err != nil {
		return drop.HandshakeFailed
	}
	p := t.peer(in.Public())
	if p == nil {
		t.explain.unknownPeer(now, in.Public(), from.Addr)
		return drop.HandshakeFailed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed.Load() || t.identity.Load() != id { // the message was for who we were a moment ago
		return drop.HandshakeFailed
	}
	if t.down.Load() {
		return drop.DeviceDown
	}
	stamp, err := in.Authenticate(p.remoteOf(id))
	if err != nil {
		return drop.HandshakeFailed
	}
	if !stamp.After(p.lastTimestamp) {
		t.explain.replayed(p, now, from.Addr)
		return drop.HandshakeFailed
	}
	if p.lastInitiation != 0 && now.Sub(p.lastInitiation) < protocol.InitiationInterval {
		return drop.RateLimited
	}
	p.lastTimestamp, p.lastInitiation = stamp, now
	p.count.InitiationsReceived++
	return t.respond(p, in, msg, from, now)
}

// respond sends the response to an authenticated initiation and installs the session. Callers hold p.mu.
func (t *Tunnel) respond(p *Peer, in *noise.Incoming, msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	p.rxBytes.Add(uint64(len(msg)))
	p.timers.AuthenticatedReceived(now)
	if p.setEndpoint(*from) {
		p.roamedAt = t.clock.Wall()
	}
	local := t.index.reserve(p)
	var response [wire.ResponseSize]byte
	k, err := in.Respond(&response, p.remote, p.psk, local)
	if err != nil {
		t.index.release(local)
		return drop.HandshakeFailed
	}
	p.macs.Add(response[:], now)
	p.begin(t, newSlot(p, &k, now))
	k.Zero()
	p.timers.SessionDerived(now, t.jitter())
	p.unconfirmed++
	p.count.ResponsesSent++
	t.explain.unconfirmed(p, now)
	t.sendToPeer(p, response[:], now)
	return drop.None
}

// consumeResponse turns our initiation into a session (whitepaper §5.4.3).
func (t *Tunnel) consumeResponse(msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	owner, ok := t.index.get(wire.ResponseReceiver(msg))
	if !ok || owner.slot != nil {
		return drop.UnknownIndex
	}
	p := owner.peer
	if reason := t.finish(p, msg, from, now); reason != drop.None {
		return reason
	}
	t.sessionUp(p)
	return drop.None
}

func (t *Tunnel) finish(p *Peer, msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending == nil || p.pendingIndex != wire.ResponseReceiver(msg) {
		return drop.UnknownIndex
	}
	id := t.identity.Load()
	k, err := id.Finish(p.pending, p.remoteOf(id), p.psk, msg)
	if err != nil {
		if errors.Is(err, noise.ErrResponse) {
			t.explain.pskMismatch(p, now, from.Addr)
		}
		return drop.HandshakeFailed
	}
	p.pending.Zero()
	p.pending = nil
	p.count.ResponsesReceived++
	p.rxBytes.Add(uint64(len(msg)))
	if p.setEndpoint(*from) {
		p.roamedAt = t.clock.Wall()
	}
	p.timers.AuthenticatedReceived(now)
	p.begin(t, newSlot(p, &k, now))
	k.Zero()
	p.timers.SessionDerived(now, t.jitter())
	p.completed(t)
	return drop.None
}

// consumeCookie keeps the cookie of a server under load for the next initiation. It never moves the endpoint and
// never makes us answer.
func (t *Tunnel) consumeCookie(msg []byte, now boottime.Time) drop.Reason {
	owner, ok := t.index.get(wire.CookieReplyReceiver(msg))
	if !ok {
		return drop.UnknownIndex
	}
	p := owner.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.macs == nil || p.macs.ConsumeReply(msg, now) != nil {
		return drop.HandshakeFailed
	}
	p.count.CookiesReceived++
	t.explain.peerUnderLoad(p, now)
	return drop.None
}

// remoteOf returns the precomputed values for handshakes with p, making them on first use. Callers hold p.mu.
func (p *Peer) remoteOf(id *noise.Identity) *noise.Remote {
	if p.remote == nil || p.remoteFor != id {
		p.remote, p.remoteFor = noise.NewRemote(id, p.key), id
		p.macs = noise.NewMacs(p.remote)
	}
	return p.remote
}

func newSlot(p *Peer, k *noise.Keys, now boottime.Time) *slot {
	return &slot{session: session.New(k), peer: p, established: now, renewAfter: protocol.RekeyAfterTime}
}

// initiate sends an initiation to p; when one went out within RekeyTimeout it does so after that (whitepaper §6.4).
func (t *Tunnel) initiate(p *Peer, now boottime.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed.Load() || t.down.Load() || t.identity.Load().Public() == (keys.PublicKey{}) {
		return
	}
	if sent := p.handshakeSent.Load(); sent != 0 && now.Sub(boottime.Time(sent)) < protocol.RekeyTimeout {
		t.wantHandshake(p, now)
		return
	}
	t.nextCandidate(p)
	if p.endpoint.Load() == nil {
		return
	}
	id := t.identity.Load()
	remote := p.remoteOf(id)
	p.dropPending(t)
	local := t.index.reserve(p)
	var msg [wire.InitiationSize]byte
	pending, err := id.Initiate(&msg, remote, local, noise.NewTimestamp(t.clock.Wall()))
	if err != nil {
		t.index.release(local)
		p.fail(t, now, "handshake cannot be made: "+err.Error())
		p.handshakeSent.Store(int64(now))
		p.staged.purge(&t.budget, &t.drops, drop.StagedTimeout) // it waits for what will never be
		return
	}
	p.pending, p.pendingIndex = pending, local
	p.macs.Add(msg[:], now)
	p.handshakeSent.Store(int64(now))
	p.count.InitiationsSent++
	p.timers.HandshakeInitiated(now, t.jitter())
	t.sendToPeer(p, msg[:], now)
}

// nextCandidate moves to the next configured endpoint when the last attempt at this one failed, and nothing has come
// from there since. Callers hold p.mu.
func (t *Tunnel) nextCandidate(p *Peer) {
	failed := p.unanswered.Load() > 0 && p.lastReceived.Load() < p.handshakeSent.Load()
	if failed {
		p.renewZone()
	}
	if len(p.candidates) == 0 || (p.endpoint.Load() != nil && (!failed || len(p.candidates) == 1)) {
		return
	}
	if p.endpoint.Load() != nil {
		p.candidate = (p.candidate + 1) % len(p.candidates)
	}
	p.setEndpoint(udp.Endpoint{Addr: p.candidates[p.candidate%len(p.candidates)]})
}
