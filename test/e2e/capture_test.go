package e2e

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/crypto/wire"
	"tund/internal/testnet"
)

// capture records the UDP payloads that cross one link, in both directions.
type capture struct {
	mu       sync.Mutex // guards payloads
	payloads [][]byte
}

// maxCaptured bounds a capture. The first packets are the interesting ones: handshakes.
const maxCaptured = 2000

// startCapture records IPv4 datagrams of a link until the test ends. What a firewall of the
// namespace drops later is seen as well.
func startCapture(t testing.TB, ns *testnet.NS, link string) *capture {
	t.Helper()
	const allIPv4 = unix.ETH_P_ALL // ETH_P_IP would not see what the host itself sends
	fd := -1
	ns.Do(func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(swap16(allIPv4))); err != nil {
			t.Fatal(err)
		}
		var ifr *unix.Ifreq
		if ifr, err = unix.NewIfreq(link); err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(allIPv4), Ifindex: int(ifr.Uint32())})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	limit := unix.NsecToTimeval(int64(100 * time.Millisecond))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	c, stop, done := &capture{}, make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _, err := unix.Recvfrom(fd, buf, 0); err == nil {
				c.record(buf[:n])
			}
		}
	}()
	return c
}

func swap16(n uint16) uint16 { return n<<8 | n>>8 }

// record keeps the payload of a whole IPv4 UDP datagram.
func (c *capture) record(packet []byte) {
	if len(packet) < 28 || packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_UDP {
		return
	}
	header := int(packet[0]&15) * 4
	length := int(binary.BigEndian.Uint16(packet[2:]))
	if length < header+8 || length > len(packet) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.payloads) < maxCaptured {
		c.payloads = append(c.payloads, append([]byte(nil), packet[header+8:length]...))
	}
}

// all returns the payloads so far.
func (c *capture) all() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([][]byte(nil), c.payloads...)
}

// first waits for a message of a type and returns the first one.
func (c *capture) first(t testing.TB, kind byte) []byte {
	t.Helper()
	var found []byte
	testnet.Await(t, "a message on the wire", startLimit, func() bool {
		for _, p := range c.all() {
			if k, ok := wire.Kind(p); ok && k == kind {
				found = p
				return true
			}
		}
		return false
	})
	return found
}
