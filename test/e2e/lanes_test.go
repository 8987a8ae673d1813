package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/testnet"
)

// Many TCP flows to one peer, over four lanes at both ends: each lane carries its share, in both
// directions, and what the kernel hands to one lane has come in the data session of that lane.
func TestLanes_onePeerUsesThemAll(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.tunnel, p.b.tunnel = []string{"lanes = 4"}, []string{"lanes = 4"}
	p.start()
	pingAll(t, p.endA(), p.endB())
	for _, g := range []*gateway{p.a, p.b} {
		testnet.Await(t, g.Name+" uses four lanes", startLimit, func() bool { return g.Status().Peers[0].Lanes == 4 })
	}
	saturate(t)
	// The kernel places flows on queues by a hash. With this many, no queue gets less than a tenth
	// or more than four tenths of them by chance, which with 64 flows happens once in ten runs.
	const flows = 192
	both := func() { // half of them in each direction
		var all sync.WaitGroup
		for i := range flows {
			from, to := p.endA(), p.endB()
			if i%2 == 1 {
				from, to = to, from
			}
			all.Go(func() { carryBytes(t, from.ns, to.ns, to.v4, 7000+i, 640<<10) })
		}
		all.Wait()
	}
	before := [2][]control.Lane{p.a.Status().Peers[0].LanesDetail, p.b.Status().Peers[0].LanesDetail}
	both()
	for i, g := range []*gateway{p.a, p.b} {
		s := g.Status().Peers[0]
		var rx, tx uint64
		for j := range s.LanesDetail {
			s.LanesDetail[j].RxPackets -= before[i][j].RxPackets
			s.LanesDetail[j].TxPackets -= before[i][j].TxPackets
			rx, tx = rx+s.LanesDetail[j].RxPackets, tx+s.LanesDetail[j].TxPackets
		}
		t.Logf("%s: %s, lanes %+v", g.Name, s.Suite, s.LanesDetail)
		for j, l := range s.LanesDetail {
			if l.RxPackets*10 < rx || l.RxPackets*10 > 4*rx || l.TxPackets*10 < tx || l.TxPackets*10 > 4*tx {
				t.Errorf("%s, lane %d: %d of %d packets received, %d of %d sent; want 10 to 40 %%", g.Name, j, l.RxPackets, rx, l.TxPackets, tx)
			}
		}
	}
	p.a.Stop()
	p.b.Stop()
}

// carryBytes sends n bytes over one TCP connection.
func carryBytes(t *testing.T, from, to *testnet.NS, addr string, port int, n int64) {
	var l net.Listener
	var err error
	where := net.JoinHostPort(addr, fmt.Sprint(port))
	to.Do(func() { l, err = net.Listen("tcp", where) })
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		m, _ := io.Copy(io.Discard, c)
		got <- m
	}()
	ctx, cancel := context.WithTimeout(context.Background(), transferLimit)
	defer cancel()
	var c net.Conn
	from.Do(func() { c, err = new(net.Dialer).DialContext(ctx, "tcp", where) })
	if err != nil {
		t.Error(err)
		return
	}
	if _, err = io.Copy(c, io.LimitReader(zeros{}, n)); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	select {
	case m := <-got:
		if m != n {
			t.Errorf("%d of %d bytes arrived", m, n)
		}
	case <-time.After(transferLimit):
		t.Error("a flow stalls")
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
