package ethernet

import (
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
)

// Bounds on the control messages that wait for the switch.
const (
	maxMessages     = 256  // waiting
	maxMessageBytes = 2048 // of one
)

// message is a control message of a peer.
type message struct {
	from    *peer.Peer
	payload []byte
}

// Control returns the handler of inner payloads from peers that are neither packets nor frames
// (lane.Env.Control). In a tunnel without a TAP device, the handler reports those that concern
// frames.
func (e *LAN) Control(env *lane.Env) func(*peer.Peer, []byte, boottime.Time) drop.Reason {
	if e != nil {
		return e.take
	}
	return func(p *peer.Peer, payload []byte, now boottime.Time) drop.Reason {
		if l2.PayloadKind(payload) != l2.KindControl {
			return drop.BadInnerPacket
		}
		p.NoteWantsFrames(now)
		env.Log.NoSwitch(p, now)
		return drop.NoDevice
	}
}

// take queues a control message of p for the switch. What a peer sends beyond its rate is dropped
// here, before it takes the place of another peer's message.
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

// control passes a message and those that wait behind it to the switch, so that one tick handles
// them all.
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
