package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// narrow is a network that loses, without a word, what is larger than an IP packet may be.
type narrow struct{ mtu atomic.Int64 }

func (w *world) narrow(mtu int) *narrow {
	n := new(narrow)
	n.mtu.Store(int64(mtu))
	w.net.Filter(func(d udptest.Datagram) error {
		if len(d.Payload)+28 > int(n.mtu.Load()) {
			return udptest.Lost
		}
		return nil
	})
	return n
}

// whole is a packet that may not be fragmented.
func (e *end) whole(other *end, size int) []byte {
	p := packet(e.inner, other.inner, size-20)
	p[6] |= 0x40
	binary.BigEndian.PutUint16(p[10:], 0)
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
	return p
}

func checksum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// written returns the packets that e's host got, without their virtio headers.
func (e *end) written() (all [][]byte) {
	for {
		select {
		case f := <-e.queue.Written():
			all = append(all, f[10:])
		default:
			return all
		}
	}
}

func TestPathMTU_senderIsToldWhatFits(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.narrow(1400)
		a.sends(b, 100)
		passes(5 * time.Second)
		b.expect(1, "small packet")
		if got := a.tun.Status().Peers[0].PathMTU; got != 1400 {
			t.Fatalf("path MTU %d, want 1400", got)
		}
		const fits = 1400 - 20 - 8 - wire.TransportOverhead
		a.queue.Inject(a.whole(b, fits))
		synctest.Wait()
		b.expect(1, "what fits")
		a.queue.Inject(a.whole(b, fits+1))
		synctest.Wait()
		b.expect(0, "what does not")
		told := a.written()
		if len(told) != 1 {
			t.Fatalf("%d ICMP messages", len(told))
		}
		m := told[0]
		if m[9] != 1 || m[20] != 3 || m[21] != 4 || binary.BigEndian.Uint16(m[26:]) != fits ||
			netip.AddrFrom4([4]byte(m[12:16])) != b.inner || netip.AddrFrom4([4]byte(m[16:20])) != a.inner ||
			checksum(m[:20]) != 0 || checksum(m[20:]) != 0 || len(m) != 576 {
			t.Errorf("told % x", m)
		}
		if n := a.dropped(drop.TooBig); n != 0 {
			t.Errorf("%d packets dropped, although routers fragment IPv4", n)
		}
	})
}

// An IPv4 packet without DF is fragmented, as by any router.
func TestPathMTU_packetThatMayBeFragmentedIs(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.narrow(1300)
		a.sends(b, 100)
		passes(5 * time.Second)
		b.written()
		sent := packet(a.inner, b.inner, 1400)
		a.queue.Inject(sent)
		synctest.Wait()
		parts := b.written()
		if len(parts) != 2 {
			t.Fatalf("%d packets", len(parts))
		}
		var joined []byte
		for i, f := range parts {
			field := binary.BigEndian.Uint16(f[6:])
			if len(f) > 1240 || int(binary.BigEndian.Uint16(f[2:])) != len(f) || checksum(f[:20]) != 0 ||
				int(field&0x1fff)*8 != len(joined) || field&0x2000 != 0 != (i == 0) {
				t.Errorf("fragment %d of %d bytes: % x", i, len(f), f[:20])
			}
			joined = append(joined, f[20:]...)
		}
		if string(joined) != string(sent[20:]) {
			t.Error("the parts are not the packet")
		}
	})
}

func TestPathMTU_pathThatShrinksInAFlowIsFoundInFiveSeconds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
		n := w.narrow(1500)
		flow := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				a.queue.Inject(a.whole(b, 1400))
			}
			synctest.Wait()
		}
		flow(10 * time.Second)
		if got := a.peerOf(b).Extension.PathMTU(); got != 1500 {
			t.Fatalf("path MTU %d, want 1500", got)
		}
		b.written()
		n.mtu.Store(1380)
		flow(2 * time.Second)
		if got := a.peerOf(b).Extension.PathMTU(); got > 1380 {
			t.Errorf("after 2 s: %d", got)
		}
		if len(a.written()) == 0 {
			t.Error("after 2 s, the sender has not been told")
		}
		flow(3 * time.Second)
		if got := a.peerOf(b).Extension.PathMTU(); got != 1380 {
			t.Errorf("after 5 s: %d, want 1380", got)
		}
		// What the other side sends is another path, and its own to find.
		if got := b.peerOf(a).Extension.PathMTU(); got != 1500 && got != 1380 {
			t.Errorf("the other direction: %d", got)
		}
	})
}

// What one peer proves, or fails to prove, counts for that peer alone.
func TestPathMTU_concernsOnePeerAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		c := w.end()
		a.knows(c, true, extensions(peer.ExtensionsAuto))
		c.knows(a, false, extensions(peer.ExtensionsAuto))
		w.net.Filter(func(d udptest.Datagram) error {
			if d.To == b.addr && len(d.Payload) > 200 {
				return udptest.Lost
			}
			return nil
		})
		a.sends(b, 100)
		a.sends(c, 100)
		passes(20 * time.Second)
		if got := a.peerOf(b).Extension.PathMTU(); got != 1280 {
			t.Errorf("path to b: %d, want 1280 and not less", got)
		}
		if got := a.peerOf(c).Extension.PathMTU(); got != 1500 {
			t.Errorf("path to c: %d, want 1500", got)
		}
		c.written()
		a.queue.Inject(a.whole(c, 1420))
		synctest.Wait()
		c.expect(1, "a full packet to c")
	})
}

func TestPathMTU_idlePeersAreNotProbed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.queue.Inject(a.whole(b, 1400))
		b.queue.Inject(b.whole(a, 1400))
		passes(time.Minute)
		w.ears.take()
		passes(time.Hour)
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("idle peers sent %d %d %d %d %d", i, r, c, data, empty)
		}
	})
}

func TestPathMTU_plainWireGuardPeerHasNoLimit(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
		a.sends(b, 100)
		passes(10 * time.Second)
		if got := a.peerOf(b).Extension.Limit(); got != 0 {
			t.Errorf("limit %d", got)
		}
	})
}

// The limit on messages to senders is per peer; packets beyond it are dropped in silence.
func TestPathMTU_sendersAreToldAtALimitedRate(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		w.narrow(1300)
		a.sends(b, 100)
		passes(5 * time.Second)
		a.written()
		for range 500 {
			a.queue.Inject(a.whole(b, 1400))
		}
		synctest.Wait()
		if n := len(a.written()); n < 100 || n > 102 {
			t.Errorf("%d messages for 500 packets, want 100", n)
		}
	})
}

// A peer at another address is on another path.
func TestPathMTU_anotherEndpointIsSearchedAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		n := w.narrow(1300)
		a.sends(b, 100)
		passes(5 * time.Second)
		n.mtu.Store(1500)
		b.conn.Move(netip.MustParseAddrPort("198.51.100.9:1234"))
		for range 10 {
			b.queue.Inject(b.whole(a, 1200))
			a.queue.Inject(a.whole(b, 1200))
			passes(200 * time.Millisecond)
		}
		passes(3 * time.Second)
		if got := a.peerOf(b).Extension.PathMTU(); got != 1500 {
			t.Errorf("path MTU %d, want 1500", got)
		}
	})
}

// An interface narrower than what every path is taken to carry, or wider than what is tried, is no
// reason to search again and again.
func TestPathMTU_oddInterfacesAreSearchedOnce(t *testing.T) {
	for _, mtu := range []int{576, 1280, 65536} {
		inBubble(t, func(w *world) {
			a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
			b.knows(a, false, extensions(peer.ExtensionsAuto))
			a.tun.SetInterfaceMTUs(map[netip.Addr]int{b.addr.Addr(): mtu})
			a.sends(b, 10)
			passes(30 * time.Second)
			a.sends(b, 10)
			w.ears.take()
			for range 20 {
				a.queue.Inject(packet(a.inner, b.inner, 100))
				b.queue.Inject(packet(b.inner, a.inner, 100))
				passes(time.Second)
			}
			if _, _, _, data, _ := w.ears.take(); data > 42 {
				t.Errorf("interface MTU %d: %d messages for 40 small packets", mtu, data)
			}
		})
	}
}
