package ethernet

import (
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
)

// Bounds of the control messages that wait for the switch.
const (
	maxMessages     = 256  // waiting
	maxMessageBytes = 2048 // of one
)

// message is a control message of a peer.
type message struct {
	from    *peer.Peer
	payload []byte
}

// Control returns what takes inner payloads of peers that are neither packets nor frames
// (lane.Env.Control). A tunnel without a TAP device says so of those that are about frames.
func (e *LAN) Control(env *lane.Env) func(*peer.Peer, []byte, boottime.Time) drop.Reason {
	if e != nil {
		return e.take
	}
	return func(p *peer.Peer, payload []byte, now boottime.Time) drop.Reason {
		if l2.PayloadKind(payload) != l2.KindControl {
			return drop.BadInnerPacket
		}
		env.Log.NoSwitch(p, now)
		return drop.NoDevice
	}
}

// take queues a control message of p for the switch. What a peer sends beyond its rate ends here,
// before it takes the place of a message of another.
func (e *LAN) take(p *peer.Peer, payload []byte, now boottime.Time) drop.Reason {
	if l2.PayloadKind(payload) != l2.KindControl || len(payload) > maxMessageBytes {
		return drop.BadInnerPacket
	}
	if reason := e.sw.AdmitControl(now, l2.PortID(p.Port.Load())); reason != drop.None {
		return reason
	}
	select {
	case e.messages <- message{p, append([]byte(nil), payload...)}:
		return drop.None
	default:
		return drop.ControlQueue
	}
}

// control hands the switch a message and those that wait behind it, so that one tick serves them
// all.
func (e *LAN) control(m message) {
	now := e.env.Clock.Now()
	for waiting := len(e.messages); ; waiting-- {
		e.env.Drops.Add(e.sw.Control(now, l2.PortID(m.from.Port.Load()), m.payload), 1)
		if waiting == 0 {
			return
		}
		m = <-e.messages
	}
}
