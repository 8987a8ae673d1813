package e2e

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"tund/crypto/wire"
	"tund/internal/testnet"
)

// tcpdump records what leaves and arrives at a link of a gateway, in a file that readBack reads.
func tcpdump(t *testing.T, g *gateway, link string) (file string, stop func()) {
	t.Helper()
	file = g.Dir + "/wire.pcap"
	p := g.NS.Start(t, "tcpdump", "-U", "-n", "-i", link, "-s", "64", "-w", file, "udp", "port", "51820")
	testnet.Await(t, "tcpdump listens", startLimit, func() bool { return strings.Contains(p.Output(), "listening on") })
	return file, func() { _ = p.Stop(syscall.SIGINT, startLimit) } // SIGINT: it writes what it has
}

// recorded is a UDP datagram that tcpdump has seen: its first bytes, and how long it was. What
// leaves as one superpacket is one datagram here.
type recorded struct {
	head   []byte
	length int
}

// readBack reads a file of tcpdump.
func readBack(t *testing.T, file string) (list []recorded) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	const headers = 14 + 20 + 8 // Ethernet, IPv4, UDP
	for {
		b, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < headers {
			t.Fatalf("%d bytes are no UDP datagram", len(b))
		}
		list = append(list, recorded{b[headers:], info.Length - headers})
	}
}

// With "require" at both ends, a recorder of the wire finds handshakes, control messages and data
// sessions, and no packet in a WireGuard session: the only messages with an index that a handshake
// has named are as long as control messages are, and their number is small.
func TestDataSessions_whatARequirePairSends(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	for _, g := range []*gateway{p.a, p.b} {
		g.peers[0].more = []string{`post_quantum = "require"`}
	}
	file, stop := tcpdump(t, p.a, "eth0")
	p.start()
	exercise(t, p.endA(), p.endB(), smallBytes)
	stop()

	named := map[uint32]bool{} // receiver indices of WireGuard sessions, by their handshakes
	control, data, handshakes := 0, 0, 0
	var lengths []int
	for _, d := range readBack(t, file) {
		switch d.head[0] {
		case wire.TypeInitiation, wire.TypeResponse:
			handshakes++
			named[wire.Sender(d.head)] = true
		case wire.TypeTransport:
			if !named[wire.TransportReceiver(d.head)] {
				data++
				continue
			}
			control++
			lengths = append(lengths, d.length)
		default:
			t.Errorf("a datagram of %d bytes that begins with %x", d.length, d.head)
		}
	}
	slices.Sort(lengths)
	t.Logf("%d handshake messages, %d in data sessions, %d in WireGuard sessions (%v bytes)", handshakes, data, control, lengths)
	// Keepalives, hellos, offers and answers, whose two parts leave together, and probes of the
	// path MTU, which are as long as a datagram may be. The packets of the exercise, of which there
	// are thousands, would show as superpackets.
	const longest = 1500 - 20 - 8
	if data < 500 || control < 5 || control > 40 || lengths[len(lengths)-1] > longest {
		t.Errorf("%d messages in data sessions, %d in WireGuard sessions (%v bytes)", data, control, lengths)
	}
	for _, g := range []*gateway{p.a, p.b} {
		s := g.Status().Peers[0]
		if s.State != "up" || !s.PostQuantum || s.DataSessionsError != "" || s.Drops["not-post-quantum"] != 0 {
			t.Errorf("%s: %s, %s, post-quantum %t, %q, drops %v", g.Name, s.State, s.Suite, s.PostQuantum, s.DataSessionsError, s.Drops)
		}
	}
	p.a.Stop()
	p.b.Stop()
}
