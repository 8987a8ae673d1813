package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

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
	// Connections begin in the lanes in turn, so eight of them are enough.
	const flows = 8
	for _, way := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
		from, to := way[0], way[1]
		ends := map[*gateway]end{p.a: p.endA(), p.b: p.endB()}
		sent, received := from.Status().Peers[0].LanesDetail, to.Status().Peers[0].LanesDetail
		var all sync.WaitGroup
		for i := range flows {
			all.Go(func() { carryBytes(t, from.NS, to.NS, ends[to].v4, 7000+i, 4<<20) })
		}
		all.Wait()
		tx, rx := from.Status().Peers[0].LanesDetail, to.Status().Peers[0].LanesDetail
		var sum uint64
		for i := range rx {
			tx[i].TxPackets -= sent[i].TxPackets
			rx[i].RxPackets -= received[i].RxPackets
			sum += rx[i].RxPackets
		}
		t.Logf("%s to %s: sent %+v, received %+v", from.Name, to.Name, tx, rx)
		for i := range rx {
			for _, n := range []uint64{tx[i].TxPackets, rx[i].RxPackets} {
				if n*10 < sum || n*10 > 4*sum {
					t.Errorf("%s to %s: lane %d carried %d of %d packets, want 10 to 40 %%", from.Name, to.Name, i, n, sum)
				}
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
