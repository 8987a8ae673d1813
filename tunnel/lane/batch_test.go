package lane

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"tund/internal/watchdog"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
)

// scripted is a device that has some frames, and is closed when the loop would wait for more.
type scripted struct {
	*tundevtest.Queue
	frames [][]byte // an empty one is an error of the device
}

func (q *scripted) Read(buf []byte, wait bool) (int, error) {
	switch {
	case len(q.frames) > 0:
		n := copy(buf, q.frames[0])
		q.frames = q.frames[1:]
		if n == 0 {
			return 0, syscall.EIO
		}
		return n, nil
	case wait:
		return 0, net.ErrClosed
	}
	return 0, nil
}

// ledger is a socket that notes how many datagrams each run of each batch had, and what was in the
// backlog meanwhile.
type ledger struct {
	*hole
	batches [][]int
	behind  []int
	backlog *backlog
}

func (l *ledger) NewSender() udp.Sender { return l }

func (l *ledger) Send(runs []udp.Run) {
	l.hole.Send(runs)
	var batch []int
	for i := range runs {
		batch = append(batch, runs[i].Sent)
	}
	l.batches = append(l.batches, batch)
	l.behind = append(l.behind, l.backlog.count)
}

// A superpacket is a little more than a run. While more of them wait, runs go on from one to the
// next; what nothing waits behind goes out at once.
func TestLoops_runsGoOnAcrossSuperpackets(t *testing.T) {
	t.Parallel()
	here := netip.MustParseAddr("10.9.0.1")
	for _, test := range []struct {
		name  string
		count int
		want  [][]int
	}{
		{"one", 1, [][]int{{45, 1}}},
		{"three", 3, [][]int{{45, 45, 45, 3}}},
		{"five", 5, [][]int{{45, 45, 45, 45, 4}, {45, 1}}},
	} {
		b := newBench(t, tundev.Features{Checksum: true, TSO: true})
		conn := b.runs(t, slices.Repeat([][]byte{tundevtest.TCPSuper(here, b.inner, 46, 1380)}, test.count))
		if !slices.EqualFunc(conn.batches, test.want, slices.Equal[[]int]) {
			t.Errorf("%s: batches of runs %v, want %v", test.name, conn.batches, test.want)
		}
	}
}

// What nobody is to get does not keep waiting what was gathered before.
func TestLoops_whatNobodyGetsKeepsNothingWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t, tundev.Features{Checksum: true, TSO: true})
	here, nobody := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.77.0.1")
	useless := slices.Repeat([][]byte{tundevtest.TCPSuper(here, nobody, 46, 1380)}, 10)
	small := append(make([]byte, tundev.HeaderSize), tundevtest.Packet(here, b.inner, 20)...)
	conn := b.runs(t, slices.Concat(useless, [][]byte{small}, useless))
	if len(conn.behind) != 1 || conn.behind[0] < 15 {
		t.Errorf("a small packet among 20 that nobody gets: batches %v, sent while %v waited, want 1 at once", conn.batches, conn.behind)
	}
}

// A device that errs is paused for after what was gathered has gone.
func TestLoops_failingDeviceKeepsNothingWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t, tundev.Features{Checksum: true, TSO: true})
	here := netip.MustParseAddr("10.9.0.1")
	small := append(make([]byte, tundev.HeaderSize), tundevtest.Packet(here, b.inner, 20)...)
	conn := b.runs(t, [][]byte{tundevtest.TCPSuper(here, netip.MustParseAddr("10.77.0.1"), 46, 1380), small, {}})
	if len(conn.behind) != 1 || conn.behind[0] != 1 {
		t.Errorf("batches %v, sent while %v waited, want one before the pause", conn.batches, conn.behind)
	}
}

// runs lets the send loop read these frames, as many as it likes at once, and returns what it sent.
func (b *bench) runs(t *testing.T, frames [][]byte) *ledger {
	t.Helper()
	conn := &ledger{hole: newHole(), backlog: &b.out.waiting}
	b.lane.Rebind(conn, new(watchdog.Progress))
	b.out.queue = &scripted{Queue: tundevtest.New(1, tundev.Features{}), frames: frames}
	if err := b.out.loop(); err != net.ErrClosed {
		t.Errorf("the loop ended with %v", err)
	}
	return conn
}
