package ethernet

import (
	"testing"

	"go.uber.org/zap"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/peerlog"
)

// newLAN makes a LAN that does not run.
func newLAN(t *testing.T) *LAN {
	t.Helper()
	env := &lane.Env{Clock: boottime.System(), Drops: new(drop.Counters), Log: peerlog.New(zap.NewNop())}
	dev := &lane.Device{Name: "tap"}
	dev.SetMTU(1500)
	e, err := New(env, dev, Options{}, new(watchdog.Progress))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// manyPeers gives e n peers that carry frames.
func manyPeers(t *testing.T, e *LAN, n int) (all []*peer.Peer) {
	t.Helper()
	set := make(map[*peer.Peer]l2.PortConfig)
	for i := range n {
		p := peer.New([32]byte{byte(i), byte(i >> 8), 1})
		set[p] = l2.PortConfig{Ethernet: true}
		all = append(all, p)
	}
	if err := e.SetPorts(set, nil); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestControl_aFullQueueHasAReasonOfItsOwn(t *testing.T) {
	t.Parallel()
	e := newLAN(t)
	peers := manyPeers(t, e, maxMessages+1)
	payload := []byte{2 << 4, 0, 0, 0}
	for i, p := range peers {
		want := drop.None
		if i == maxMessages {
			want = drop.ControlQueue
		}
		if got := e.take(p, payload, 0); got != want {
			t.Fatalf("message %d: %v, want %v", i, got, want)
		}
	}
	if got := e.take(peers[0], make([]byte, maxMessageBytes+1), 0); got != drop.BadInnerPacket {
		t.Errorf("a message that is too long: %v", got)
	}
	if got := e.take(peer.New([32]byte{9}), payload, 0); got != drop.NotEthernetPeer {
		t.Errorf("a peer without a port: %v", got)
	}
}

// One peer sends as many control messages as its session carries. What it sends beyond its rate
// takes no place in the queue, so the hello of another peer is taken, however long the switch
// needs.
func TestControl_aFloodOfOnePeerKeepsNoOtherOut(t *testing.T) {
	t.Parallel()
	e := newLAN(t)
	peers := manyPeers(t, e, 2)
	payload := []byte{2 << 4, 0, 0, 0}
	for range 100 * maxMessages {
		e.take(peers[0], payload, 1)
	}
	if got := e.take(peers[1], payload, 1); got != drop.None {
		t.Errorf("a message of another peer: %v", got)
	}
	if n := len(e.messages); n > maxMessages/2 {
		t.Errorf("%d messages of one peer wait, of %d", n, maxMessages)
	}
}

func TestSetPorts_peersGetPortsAndGiveThemBack(t *testing.T) {
	t.Parallel()
	e := newLAN(t)
	a, b, c := peer.New([32]byte{1}), peer.New([32]byte{2}), peer.New([32]byte{3})
	on := l2.PortConfig{Ethernet: true}
	if err := e.SetPorts(map[*peer.Peer]l2.PortConfig{a: on, b: {}}, nil); err != nil {
		t.Fatal(err)
	}
	if a.Port.Load() != 1 || b.Port.Load() != 2 || !e.Carries(a) || e.Carries(b) {
		t.Errorf("ports %d and %d; those that carry frames come first", a.Port.Load(), b.Port.Load())
	}
	if err := e.SetPorts(map[*peer.Peer]l2.PortConfig{c: on}, map[*peer.Peer]bool{a: true}); err != nil {
		t.Fatal(err)
	}
	if a.Port.Load() != 0 || c.Port.Load() != 3 || e.peer(1) != nil || e.Carries(a) {
		t.Errorf("ports %d and %d after one left and one came", a.Port.Load(), c.Port.Load())
	}
	if err := e.SetPorts(map[*peer.Peer]l2.PortConfig{a: on}, nil); err != nil || a.Port.Load() != 1 {
		t.Errorf("port %d, %v; want the one that is free", a.Port.Load(), err)
	}
	if _, ok := e.sw.Port(3); !ok {
		t.Error("the switch does not know a port")
	}
}

func TestNilLAN_isATunnelWithoutEthernet(t *testing.T) {
	t.Parallel()
	var e *LAN
	e.SetPath(1500)
	e.SessionChanged(peer.New([32]byte{1}))
	e.Goodbye(nil)
	if err := e.SetPorts(map[*peer.Peer]l2.PortConfig{peer.New([32]byte{1}): {}}, nil); err != nil {
		t.Error(err)
	}
	if _, err := e.Flush(l2.Filter{}, ""); err != ErrNoEthernet {
		t.Errorf("Flush: %v", err)
	}
	if e.Status() != nil || e.Room() != 0 || e.Switch() != nil {
		t.Error("there is a switch")
	}
}
