package tunnel

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"tund/tunnel/offload"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp/udptest"
)

// A superpacket of many segments goes out in parts, between which others have their turn. What
// arrives is the same.
func TestTunnel_superpacketOfManySegmentsLetsOthersPass(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		// Until then the network takes nothing, and the send loop waits.
		inject := make(chan struct{})
		w.net.Filter(func(udptest.Datagram) error { <-inject; return nil })
		a.queue.Inject(packet(a.inner, b.inner, 10)) // for this one, while the others come
		synctest.Wait()
		super := tundevtest.TCPSuper(a.inner, b.inner, 450, 88)
		other := tundevtest.UDPSuper(a.inner, b.inner, 20, 1200)
		for _, frame := range [][]byte{super, super, other} {
			if !a.queue.InjectFrame(frame) {
				t.Fatal("device queue full")
			}
		}
		close(inject)
		synctest.Wait()
		var segments, datagrams, before int
		next := binary.BigEndian.Uint32(super[offload.VirtioHeaderLen+24:])
		first := next
		for done := false; !done; {
			select {
			case f := <-b.queue.Written():
				p := f[offload.VirtioHeaderLen:]
				if p[9] != 6 {
					datagrams, before = datagrams+1, segments
					continue
				}
				if seq := binary.BigEndian.Uint32(p[24:]); seq != next || len(p) != 40+88 {
					t.Fatalf("segment %d: %d bytes, sequence number %d, want %d", segments, len(p), seq, next)
				}
				if next, segments = next+88, segments+1; segments == 450 {
					next = first
				}
			default:
				done = true
			}
		}
		if segments != 900 || datagrams != 1+20 || before > 3*offload.PartSegments {
			t.Errorf("%d segments and %d datagrams, the last after %d segments", segments, datagrams, before)
		}
		if drops := a.tun.Status().Drops; len(drops) != 0 {
			t.Errorf("drops %v", drops)
		}
	})
}

func TestTunnel_superpacketOfTinySegmentsIsDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		for _, gso := range []int{1, 8} {
			a.queue.InjectFrame(tundevtest.TCPSuper(a.inner, b.inner, 60000/gso, gso))
		}
		synctest.Wait()
		b.expect(0, "tiny segments")
		if n := a.tun.Status().Drops["tiny-segments"]; n != 2 {
			t.Errorf("tiny-segments = %d, want 2", n)
		}
	})
}
