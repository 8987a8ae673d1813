package tunnel

import (
	"encoding/binary"
	"testing"
	"time"

	"tund/tunnel/l2"
	"tund/tunnel/tundev"
	"tund/tunnel/udp/udptest"
)

// tap makes an end with a TAP.
func (w *world) tap() *end {
	w.t.Helper()
	e := w.end()
	e.tun.Close()
	w.startWith(e, w.clock, func(o *Options) {
		o.Devices = []Device{{Name: "tap", Kind: tundev.TAP, Queues: []tundev.Queue{e.queue}, MTU: 1500}}
	})
	return e
}

// lan is the change that makes other a peer of e that carries Ethernet, and the only one.
func lan(other *end, macs ...l2.MAC) Change {
	name := "other"
	return Change{ReplacePeers: true, Peers: []PeerChange{{
		PublicKey: other.key.Public(), Name: &name, Endpoint: other.addr,
		Ethernet: &l2.PortConfig{Name: name, Ethernet: true, MACs: macs},
	}}}
}

// etherType is one that no switch looks at (IEEE 802 local experimental 2).
const etherType = 0x88b6

// broadcasts sends a broadcast from src and returns how many of them the host of other got.
func (e *end) broadcasts(src l2.MAC, other *end) (got int) {
	b := make([]byte, 60)
	l2.Broadcast.Put(b)
	src.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], etherType)
	if !e.queue.Inject(b) {
		e.t.Fatal("device queue full")
	}
	passes(100 * time.Millisecond)
	for {
		select {
		case f := <-other.queue.Written():
			if binary.BigEndian.Uint16(f[10+12:]) == etherType {
				got++
			}
		default:
			return got
		}
	}
}

func TestEthernet_lostHandshakesDoNotCloseAPortThatSpeaks(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tap(), w.tap()
		a.configure(lan(b))
		b.configure(lan(a))
		passes(5 * time.Second)
		w.net.Filter(func(d udptest.Datagram) error {
			if isHandshake(d) {
				return udptest.Lost
			}
			return nil
		})
		for range 170 { // the session lives 180 seconds, and is to be renewed after 120
			if b.broadcasts(2, a) != 1 || a.broadcasts(1, b) != 1 {
				t.Fatalf("frames are lost: %v %v", a.tun.drops.Snapshot(), b.tun.drops.Snapshot())
			}
			passes(800 * time.Millisecond)
		}
	})
}
