package lane

import (
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// sessionRun is the part of a train that belongs to one session: consecutive datagrams with one
// receiver index. Its consequences for the peer are noted once, at the end.
type sessionRun struct {
	keypair *peer.Keypair
	index   uint32
	from    *udp.Endpoint
	locked  bool

	refuse         bool // packets are not accepted in this session, only control messages
	opened, data   bool // something has been authenticated; some of it was not a keepalive
	carried        bool // some of it was a packet or frame
	newest         bool // contains the newest message of the session so far
	packets, bytes uint64
}

// enter begins a run for the session of a local index.
func (in *ReceiveLoop) enter(index uint32, from *udp.Endpoint) bool {
	owner, ok := in.env.Index.Get(index)
	if !ok || owner.Keypair == nil {
		return false
	}
	in.run = sessionRun{
		keypair: owner.Keypair, index: index, from: from, locked: true,
		refuse: owner.Peer.Strict() && !owner.Keypair.IsPostQuantum(),
	}
	for _, w := range in.writers {
		if w != nil {
			w.from(index, in.now)
		}
	}
	owner.Keypair.Session.LockReceive()
	return true
}

// leave ends the run and tells the peer what arrived.
func (in *ReceiveLoop) leave() {
	r := &in.run
	if r.keypair == nil {
		return
	}
	if r.locked {
		r.keypair.Session.UnlockReceive()
		r.locked = false
	}
	kp := r.keypair
	r.keypair = nil
	if !r.opened {
		return
	}
	if r.carried {
		kp.Peer.Carried(kp)
	}
	kp.Peer.CountLane(in.lane.ID, r.packets, 0)
	renew := kp.Peer.Received(kp, r.packets, r.bytes, r.data, in.now)
	in.env.Arm(kp.Peer)
	if renew {
		in.env.WantHandshake(kp.Peer, in.now)
	}
}

// authenticated notes the message with the given counter. The first of a run confirms its session,
// and the newest determines the peer's endpoint; both happen before anything of the run is
// delivered.
func (in *ReceiveLoop) authenticated(counter uint64) {
	r := &in.run
	if !r.opened {
		r.opened = true
		in.confirm()
	}
	if !r.newest && counter == r.keypair.Session.Highest() {
		r.newest = true
		in.roam()
	}
}

// roam moves the peer to the source of the present run: the host's answer goes back to where the
// question came from.
func (in *ReceiveLoop) roam() {
	r := &in.run
	if p := r.keypair.Peer; p.Roam(r.keypair, *r.from, in.now) {
		in.env.Log.Moved(p, r.from.Addr, in.now, in.env.Clock.Wall())
	}
}

// confirm makes the session of the present run current if it was the next one, or has packets leave
// in data sessions if it is one of them, and has the waiting packets sent. This happens before
// anything of the run is delivered: the host answers the first packet while the others are being
// decrypted, and an answer without a session would begin another handshake. The peer's lock is
// never held for longer than a few assignments, so the lane waits for no handshake here.
func (in *ReceiveLoop) confirm() {
	kp := in.run.keypair
	if kp.InUse() {
		return
	}
	kp.Session.UnlockReceive() // lock order: the peer's lock comes before it
	in.run.locked = false
	if kp.Peer.Confirm(in.env.Index, kp, in.now, in.env.Clock.Wall()) {
		in.env.SessionUp(kp.Peer, in.now)
	}
	kp.Session.LockReceive()
	in.run.locked = true
}
