package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tund/crypto/wire"
	"tund/internal/testnet"
)

// TestReplay_afterAKill: an initiation that somebody recorded is refused by an instance that was
// killed and started again, and so is one that it cannot tell from a fresh one of use to nobody.
func TestReplay_afterAKill(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		t.Run(map[bool]string{false: "remembered", true: "file damaged"}[damaged], func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			enemy := testnet.New(t)
			testnet.Veth(t, p.a.NS, enemy, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
			seen := startCapture(t, p.b.NS, "eth0")
			p.start()
			ping(t, p.b.NS, p.endA().v4, 1)
			recorded := seen.first(t, wire.TypeInitiation)
			file := filepath.Join(p.a.Dir, "state", p.a.Name, "timestamps")
			testnet.Await(t, "the timestamp is saved", startLimit, func() bool {
				text, _ := os.ReadFile(file)
				return bytes.Contains(text, []byte(p.b.Key.Public().String()))
			})
			_ = p.a.Process.Stop(syscall.SIGKILL, startLimit)
			p.b.Stop()
			if damaged {
				if err := os.Truncate(file, 40); err != nil {
					t.Fatal(err)
				}
			}
			p.a.start()
			conn := packetConn(t, enemy, "0.0.0.0:0")
			to := net.UDPAddrFromAddrPort(listenAt("198.51.100.1"))
			if _, err := conn.WriteTo(recorded, to); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			n, err := conn.Read(make([]byte, 2000))
			refused := p.a.Status().Drops["handshake-failed"]
			if answered := err == nil; answered != damaged || !damaged && refused != 1 {
				t.Errorf("%d bytes of an answer, %d refused", n, refused)
			}
			if got := p.a.Peer("berlin").Endpoint; got != p.a.peers[0].endpoint {
				t.Errorf("the peer is at %s, want %s", got, p.a.peers[0].endpoint)
			}
			p.b.start()
			ping(t, p.a.NS, p.endB().v4, 1)
			p.a.Stop()
			p.b.Stop()
		})
	}
}
