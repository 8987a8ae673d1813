package tunnel

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/timers"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp/udptest"
)

// A mistake that other implementations made: a receive loop that ends for good after an error, or
// after ten.
func TestLoops_receiveLoopSurvivesEveryError(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		failures := []error{
			syscall.ECONNREFUSED, syscall.ENETDOWN, syscall.ENOMEM, syscall.ENOBUFS, syscall.EIO, syscall.EINVAL,
			syscall.EBADF, syscall.EINTR, syscall.EPERM, syscall.ENOTCONN, errors.New("something else"),
		}
		for _, err := range failures {
			for range 30 {
				b.conn.FailReceive(err)
			}
		}
		passes(10 * time.Second)
		a.sends(b, 10)
		b.expect(1, "after the errors")
		if n := b.dropped(drop.ReceiveError); n != uint64(30*len(failures)) {
			t.Errorf("%d errors counted, want %d", n, 30*len(failures))
		}
	})
}

func TestLoops_deviceThatRefusesWritesLosesOnlyThose(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		for i, err := range []error{tundev.ErrDown, syscall.ENOBUFS, syscall.ENOMEM, tundev.ErrRefused} {
			b.queue.Refuse(func([]byte) error { return err })
			a.sends(b, 10)
			b.expect(0, "refused")
			if n := b.dropped(drop.DeviceWrite); n != uint64(i+1) {
				t.Errorf("%v: %d refused writes counted, want %d", err, n, i+1)
			}
			b.queue.Refuse(nil)
			a.sends(b, 10)
			b.expect(1, "afterwards")
		}
	})
}

// brokenQueue fails every read, as a device in a state we do not know would, until it is told
// otherwise.
type brokenQueue struct {
	*tundevtest.Queue
	broken atomic.Bool
	reads  atomic.Int64
}

func (q *brokenQueue) Read(buf []byte, wait bool) (int, error) {
	if q.broken.Load() {
		q.reads.Add(1)
		return 0, syscall.EIO
	}
	return q.Queue.Read(buf, wait)
}

func TestLoops_deviceThatFailsEveryReadDoesNotBurnACore(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.tun.Close()
		broken := &brokenQueue{}
		broken.broken.Store(true)
		w.startWith(a, w.clock, func(o *Options) {
			broken.Queue = a.queue
			o.Devices[0].Queues = []tundev.Queue{broken}
		})
		a.knows(b, true)
		passes(10 * time.Second)
		if n := broken.reads.Load(); n > 2000 {
			t.Errorf("%d reads in 10 s", n)
		}
		broken.broken.Store(false)
		a.queue.Inject(packet(a.inner, b.inner, 10))
		passes(6 * time.Second)
		b.expect(1, "when it works again")
	})
}

// A mistake that other implementations made: the device is deleted under us.
func TestLoops_deviceThatIsGoneEndsTheTunnel(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		ended := make(chan error, 1)
		go func() { ended <- a.tun.Wait() }()
		synctest.Wait()
		a.queue.Delete()
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, tundev.ErrGone) {
				t.Errorf("Wait returned %v", err)
			}
		default:
			t.Error("Wait does not return")
		}
		if err := a.tun.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		b.sends(a, 10) // the other side goes on
	})
}

// A panic in any loop is a bug: it is counted, and costs what was in hand.
func TestLoops_panicsAreSurvivedAndCounted(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		once := func() func() {
			done := false
			return func() {
				if !done {
					done = true
					panic("a bug, made for this test")
				}
			}
		}
		crash := once() // in the receive loop, the session's lock held or not
		b.queue.Refuse(func([]byte) error { crash(); return nil })
		a.sends(b, 10)
		b.got()
		a.sends(b, 10)
		b.expect(1, "after a panic while writing to the device")
		if n := b.dropped(drop.Internal); n != 1 {
			t.Errorf("%d counted, want 1", n)
		}

		crash = once() // in the send loop
		w.net.Filter(func(udptest.Datagram) error { crash(); return nil })
		a.sends(b, 10)
		b.got()
		a.sends(b, 10)
		b.expect(1, "after a panic while sending")
		if n := a.dropped(drop.Internal); n != 1 {
			t.Errorf("%d counted, want 1", n)
		}

		passes(200 * time.Second)
		crash = once() // in the timer loop, and then in a worker
		w.net.Filter(func(d udptest.Datagram) error {
			if k, _ := wire.Kind(d.Payload); k == wire.TypeInitiation {
				crash()
			}
			return nil
		})
		a.sends(b, 10)
		passes(6 * time.Second)
		b.expect(1, "after a panic in the timer loop")
		if n := a.dropped(drop.Internal); n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
		passes(200 * time.Second)
		crash = once()
		w.net.Filter(func(d udptest.Datagram) error {
			if k, _ := wire.Kind(d.Payload); k == wire.TypeResponse {
				crash()
			}
			return nil
		})
		a.sends(b, 10)
		passes(6 * time.Second)
		b.expect(1, "after a panic in a worker")
		if n := b.dropped(drop.Internal); n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
	})
}

// A mistake that other implementations made: one peer keeps the others waiting. Here one never
// answers, one cannot be sent to, and the third gets everything at once and in order.
func TestLoops_badPeersDoNotSlowTheOthers(t *testing.T) {
	inBubble(t, func(w *world) {
		a, good := w.connected()
		silent, barred := w.end(), w.end()
		a.knows(silent, true)
		a.knows(barred, true)
		barred.knows(a, true)
		a.sends(barred, 10)
		barred.expect(1, "at first")
		silent.conn.Move()
		errs := []error{syscall.EPERM, syscall.ENOBUFS, syscall.ENETUNREACH, syscall.EAGAIN, syscall.EIO}
		n := 0
		w.net.Filter(func(d udptest.Datagram) error {
			if d.To == barred.addr {
				n++
				return errs[n%len(errs)]
			}
			return nil
		})
		start := time.Now()
		var got []int
		for i := range 1000 {
			a.queue.Inject(packet(a.inner, silent.inner, 100))
			a.queue.Inject(packet(a.inner, barred.inner, 100))
			a.queue.Inject(a.numbered(good, i))
			if i%50 == 49 {
				synctest.Wait()
				got = append(got, good.numbers()...)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("a lane waited for %v", d)
		}
		if !slices.Equal(got, upTo(0, 1000)) {
			t.Errorf("%d of 1000 packets to the good peer, in order: %v", len(got), slices.IsSorted(got))
		}
		if s, _ := find(a.tun.Status(), barred); s.LastError == "" {
			t.Error("status does not say why the peer cannot be sent to")
		}
	})
}

func find(s Status, e *end) (PeerStatus, bool) {
	for _, p := range s.Peers {
		if p.PublicKey == e.key.Public() {
			return p, true
		}
	}
	return PeerStatus{}, false
}

// What the kernel refuses of a run is counted, and nothing else.
func TestLoops_refusedDatagramsAreCountedExactly(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(30 * time.Second)
		before := a.tun.Status().Peers[0]
		n := 0
		w.net.Filter(func(udptest.Datagram) error {
			if n++; n == 3 || n == 7 || n == 10 {
				return syscall.EPERM
			}
			return nil
		})
		a.queue.InjectFrame(udpSuper(a.inner, b.inner, 10, 100))
		synctest.Wait()
		b.expect(7, "of ten")
		if got := a.dropped(drop.SendError); got != 3 {
			t.Errorf("%d counted as refused, want 3", got)
		}
		if got := a.tun.Status().Peers[0].TxPackets - before.TxPackets; got != 7 {
			t.Errorf("%d counted as sent, want 7", got)
		}
		if got, want := a.tun.Status().Peers[0].TxBytes-before.TxBytes, uint64(7*(128+32)); got != want {
			t.Errorf("%d bytes counted as sent, want %d", got, want)
		}
	})
}

// A full queue on the way out is counted, and is no fault of the peer's.
func TestLoops_fullQueueIsNotThePeersFault(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		w.net.Filter(func(udptest.Datagram) error { return syscall.ENOBUFS })
		a.sends(b, 10)
		if s := a.tun.Status().Peers[0]; s.LastError != "" || a.dropped(drop.SendError) != 1 {
			t.Errorf("last error %q, %d counted", s.LastError, a.dropped(drop.SendError))
		}
	})
}

// A datagram that is larger than the path is counted as such, and the operator is told.
func TestLoops_tooLargeIsCountedAndNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		w.net.Filter(func(d udptest.Datagram) error {
			if len(d.Payload) > 1000 {
				return syscall.EMSGSIZE
			}
			return nil
		})
		a.sends(b, 1200)
		if n := a.dropped(drop.TooBig); n != 1 {
			t.Errorf("%d counted as too big, want 1", n)
		}
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError == "" {
			t.Errorf("state %s, last error %q", s.State, s.LastError)
		}
		a.sends(b, 500)
		b.expect(1, "smaller ones pass")
		passes(timers.UnansweredAfter)
	})
}

// A mistake that other implementations made: a kernel that refuses superpackets it took before.
// Each is written again as single packets. Another such mistake: those, and single packets between
// superpackets, have a virtio header of zeros.
func TestLoops_refusedSuperpacketsAreWrittenAsSingles(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			all := tundev.Features{Checksum: true, TSO: true, USO: true}
			b.tun.Close()
			w.startWith(b, w.clock, func(o *Options) {
				b.queue = tundevtest.New(4096, all)
				o.Devices[0].Queues, o.Devices[0].Features = []tundev.Queue{b.queue}, all
			})
			b.knows(a, true)
			if refuses {
				b.queue.Refuse(func(f []byte) error {
					if f[1] != 0 || f[0] != 0 {
						return tundev.ErrRefused
					}
					return nil
				})
			}
			b.sends(a, 10)
			b.got()
			a.queue.InjectFrame(udpSuper(a.inner, b.inner, 10, 1000))
			a.queue.Inject(packet(a.inner, b.inner, 33))
			a.queue.InjectFrame(udpSuper(a.inner, b.inner, 10, 1000))
			synctest.Wait()
			singles, supers, payload := 0, 0, 0
			for len(b.queue.Written()) > 0 {
				f := <-b.queue.Written()
				switch {
				case f[1] == 5:
					supers++
					payload += len(f) - 10 - 28
				case f[10+9] == 17:
					singles++
					payload += len(f) - 10 - 28
					if refuses && binary.LittleEndian.Uint64(f) != 0 {
						t.Errorf("single packet with virtio header %x", f[:10])
					}
				default:
					if binary.LittleEndian.Uint64(f) != 0 || f[8] != 0 || f[9] != 0 {
						t.Errorf("packet that is not UDP with virtio header %x", f[:10])
					}
				}
			}
			if payload != 20*1000 || refuses && (supers != 0 || singles != 20) || !refuses && supers == 0 {
				t.Errorf("refuses %v: %d superpackets, %d single packets, %d bytes", refuses, supers, singles, payload)
			}
		})
	}
}
