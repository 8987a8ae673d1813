package tunnel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/tunnel/l2"
	"tund/tunnel/tundev"
	"tund/tunnel/udp/udptest"
)

// A lane may look whether the device is up just before SetUp(false), and stage a packet just after
// it.
func TestSetUp_wishFromBetweenIsGrantedOnceUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.tun.SetUp(false)
		a.tun.env.Stage(a.peerOf(b), packet(a.inner, b.inner, 12), w.clock.Now())
		passes(time.Second)
		a.tun.SetUp(true)
		passes(time.Second)
		a.sends(b, 10)
		if b.got() == 0 {
			t.Error("no handshake begins after the device came up")
		}
	})
}

func TestConfigure_newKeyDoesNotWaitForTheOldHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true)
		next := newKey(t)
		b.configure(Change{Peers: []PeerChange{{PublicKey: next.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(a.inner, 32)}}}})
		a.sends(b, 10) // b does not know this key: no response
		passes(time.Second)
		a.configure(Change{PrivateKey: &next})
		passes(10 * time.Millisecond)
		b.expect(1, "staged before the key was changed")
	})
}

// stuckLog is a log whose writer never returns before the test ends.
type stuckLog struct {
	zapcore.Core
	end <-chan struct{}
}

func (stuckLog) Enabled(zapcore.Level) bool { return true }

func (l stuckLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, l)
}

func (l stuckLog) Write(zapcore.Entry, []zapcore.Field) error {
	<-l.end
	return nil
}

func TestExplain_stuckLogKeepsNobodyFromHandshakes(t *testing.T) {
	inBubble(t, func(w *world) {
		end := make(chan struct{})
		defer close(end)
		a, dead, late := w.end(), w.end(), w.end()
		a.tun.Close()
		w.startWith(a, w.clock, func(o *Options) { o.Log = zap.New(stuckLog{zapcore.NewNopCore(), end}) })
		a.knows(dead, true) // dead does not know a, so it does not answer
		a.sends(dead, 10)
		passes(12 * time.Second) // that was said by now
		a.knows(late, true)
		late.knows(a, false)
		a.sends(late, 10)
		passes(time.Second)
		late.expect(1, "while the log is stuck")
		dead.knows(a, true)
		dead.sends(a, 10)
		passes(6 * time.Second)
		a.expect(1, "of the peer that was complained of")
	})
}

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
