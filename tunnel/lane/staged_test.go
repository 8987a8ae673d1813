package lane

import (
	"bytes"
	"testing"

	"tund/crypto/aead"
	"tund/internal/watchdog"
	"tund/tunnel/datasession"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
)

// meanwhile is a socket during whose first send something else happens.
type meanwhile struct {
	*hole
	happens func()
}

func (m *meanwhile) NewSender() udp.Sender { return m }

func (m *meanwhile) Send(runs []udp.Run) {
	if f := m.happens; f != nil {
		m.happens = nil
		f()
	}
	m.hole.Send(runs)
}

// Whoever gives a peer data sessions while another goroutine sends the control messages among what
// waits for it finds nothing to send, because the other has taken it all. The other then sends the
// rest: nothing would, until the next packet.
func TestBatch_whatWasTakenWhileDataSessionsCameIsSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, tundev.Features{})
	now := still{}.Now()
	b.peer.SetPostQuantum(datasession.Require)
	b.postQuantum = true
	b.peer.Staged.Put(bytes.Repeat([]byte{0x20}, 16), b.env.Waiting) // a control message
	b.peer.Staged.Put(tundevtest.Packet(b.inner, b.inner, 12), b.env.Waiting)
	conn := &meanwhile{hole: newHole()}
	conn.happens = func() {
		b.dataSessions(t, aead.AES256GCM, 1)
		NewBatch(b.env, b.lane, MaxDatagram).SendStaged(b.peer, now)
	}
	b.lane.Rebind(conn, new(watchdog.Progress))
	all := NewBatch(b.env, b.lane, MaxDatagram).SendStaged(b.peer, now)
	if n := b.peer.Staged.Len(); !all || n != 0 {
		t.Errorf("%d packets still wait although there are data sessions; all sent: %t", n, all)
	}
	if n := b.peer.TxPackets(); n != 2 {
		t.Errorf("%d packets were sent, want 2", n)
	}
	if n := b.env.Waiting.Bytes(); n != 0 {
		t.Errorf("%d bytes are still accounted for as waiting", n)
	}
}
