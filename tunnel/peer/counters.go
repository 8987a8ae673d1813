package peer

import (
	"tund/internal/boottime"
	"tund/internal/drop"
)

// HandshakeCounts counts the handshake messages of one peer. Received ones are counted only if they
// were authenticated.
type HandshakeCounts struct {
	InitiationsSent, InitiationsReceived uint64
	ResponsesSent, ResponsesReceived     uint64
	CookiesReceived                      uint64
	Completed                            uint64 // sessions confirmed
	Failed                               uint64 // initiations without a response
}

// Received notes what a train delivered under a session: the number of authenticated datagrams,
// their total size in bytes, and whether any of them carried data rather than being a keepalive. It
// reports whether this is a reason to ask for the next session.
func (p *Peer) Received(kp *Keypair, packets, bytes uint64, data bool, now boottime.Time) (renew bool) {
	p.rxBytes.Add(bytes)
	p.rxPackets.Add(packets)
	p.lastReceived.Store(int64(now))
	main := kp.Main()
	main.heardAt.Store(int64(now))
	p.Timers.AuthenticatedReceived(now)
	if data {
		p.Timers.DataReceived(now)
	}
	return p.current.Load() == main && p.Timers.RenewOnReceive(main.Session.Initiator(), now.Sub(kp.Established))
}

// Sent notes datagrams that the kernel accepted: their size in bytes, and the number of transport
// messages. The timers have been informed before.
func (p *Peer) Sent(packets, bytes uint64) {
	p.txBytes.Add(bytes)
	p.txPackets.Add(packets)
	p.accepted()
}

// MessageSent notes a handshake message that the kernel accepted.
func (p *Peer) MessageSent(bytes int) {
	p.txBytes.Add(uint64(bytes))
	if i := p.incidents.Load(); i != nil {
		i.sendFailure.Store(nil)
	}
	p.accepted()
}

// LastReceived returns when the newest authenticated datagram came; 0: never.
func (p *Peer) LastReceived() boottime.Time { return boottime.Time(p.lastReceived.Load()) }

// TxPackets returns how many transport messages the kernel accepted.
func (p *Peer) TxPackets() uint64 { return p.txPackets.Load() }

// Unanswered returns how many initiations in a row had no response.
func (p *Peer) Unanswered() int { return int(p.unanswered.Load()) }

// CountDrop counts n dropped packets of the peer or for it. The code that drops a packet counts it.
// Unauthenticated packets are not the peer's and are not counted here.
func (p *Peer) CountDrop(r drop.Reason, n uint64) {
	if r == drop.None || n == 0 {
		return
	}
	c := p.drops.Load()
	for c == nil { // the first drop: most peers never need the table
		p.drops.CompareAndSwap(nil, new(drop.Counters))
		c = p.drops.Load()
	}
	c.Add(r, n)
}

// Drops returns the counts of CountDrop by name. The map belongs to the caller.
func (p *Peer) Drops() map[string]uint64 {
	if c := p.drops.Load(); c != nil {
		return c.Snapshot()
	}
	return map[string]uint64{}
}
