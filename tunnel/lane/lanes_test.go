package lane

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"tund/crypto/aead"
	"tund/crypto/session"
	"tund/internal/watchdog"
	"tund/tunnel/datasession"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
)

// dataSessions gives the peer a data session for each of n lanes, and returns their far ends.
func (b *bench) dataSessions(t testing.TB, suite aead.Suite, n int) (far []*session.Session) {
	t.Helper()
	a := &datasession.Agreement{Suite: suite, PostQuantum: b.postQuantum, Lanes: make([]datasession.Lane, n)}
	for i, index := range b.peer.ReserveData(b.env.Index, b.main, n, n) {
		l := &a.Lanes[i]
		*l = datasession.Lane{Send: [32]byte{3, byte(i)}, Receive: [32]byte{4, byte(i)}, Local: index, Remote: uint32(100 + i)}
		far = append(far, session.NewData(suite, &l.Receive, &l.Send, l.Remote, l.Local, false))
	}
	if !b.peer.InstallData(b.env.Index, b.main, a, n, true) {
		t.Fatal("the data sessions were refused")
	}
	return far
}

// Four lanes carry packets of one peer in both directions at once, and the mutex profile has no
// wait of any of their loops: they share no lock.
func TestLoops_lanesOfOnePeerShareNoLock(t *testing.T) {
	const lanes, rounds = 4, 300
	f := tundev.Features{Checksum: true, TSO: true, USO: true}
	b := newBench(t, f)
	far := b.dataSessions(t, aead.AES256GCM, lanes)
	here := netip.MustParseAddr("10.9.0.1")
	var segments [][]byte
	for i := range 40 {
		segments = append(segments, tundevtest.TCPSegment(b.inner, here, i*1380, 1380))
	}
	super := tundevtest.TCPSuper(here, b.inner, 46, 1380)

	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := waits()
	var wg sync.WaitGroup
	for i := range lanes {
		l := New(i, newHole(), new(watchdog.Progress))
		one := *b // the peer, the device and the rest are shared; loops and memory are not
		one.lane, one.far = l, far[i]
		one.out, one.in = NewSendLoop(b.env, l, b.dev, 0), NewReceiveLoop(b.env, l, []*Device{b.dev})
		one.mem = make([]byte, len(b.mem), cap(b.mem))
		one.train.Buf = make([]byte, 65536)
		wg.Go(func() {
			for range rounds {
				one.send(super)
				one.receive(segments)
			}
		})
	}
	wg.Wait()
	for stack := range waits() {
		if before[stack] == 0 {
			t.Errorf("a loop has waited for a lock at\n%s", stack)
		}
	}
	if got, want := b.dev.Counts().RxPackets, uint64(lanes*rounds*len(segments)); got != want {
		t.Errorf("%d packets were delivered, want %d: %v", got, want, b.env.Drops.Snapshot())
	}
	if got, want := b.peer.TxPackets(), uint64(lanes*rounds*46); got != want {
		t.Errorf("%d packets were sent, want %d: %v", got, want, b.env.Drops.Snapshot())
	}
}

// waits returns the places in the mutex profile that a loop of a lane has called. Those where the
// runtime waits for a lock of its own, to allocate, to collect garbage or to schedule, are left
// out: whether it has to follows from what else the machine does.
func waits() map[string]int64 {
	records := make([]runtime.BlockProfileRecord, 1000)
	n, _ := runtime.MutexProfile(records)
	out := map[string]int64{}
	for _, r := range records[:n] {
		var stack strings.Builder
		for frames, more := runtime.CallersFrames(r.Stack()), true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			stack.WriteString(frame.Function + "\n")
		}
		s := stack.String()
		own := strings.HasPrefix(s, "runtime.") && !strings.Contains(s, "runtime.chan") && !strings.Contains(s, "runtime.select")
		if !own && (strings.Contains(s, "lane.(*SendLoop)") || strings.Contains(s, "lane.(*ReceiveLoop)")) {
			out[s] += r.Count
		}
	}
	return out
}
