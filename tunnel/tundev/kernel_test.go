package tundev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// udpPacket is an IPv4 packet from 10.9.0.2:9 to 10.9.0.1:9 behind a header of zeros, without UDP
// checksum.
func udpPacket(payload int) []byte {
	p := make([]byte, HeaderSize+28+payload)
	ip := p[HeaderSize:]
	length := 28 + payload
	copy(ip, []byte{0x45, 0, byte(length >> 8), byte(length), 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1})
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum = ^(sum + sum>>16)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	copy(ip[20:], []byte{0, 9, 0, 9, byte((length - 20) >> 8), byte(length - 20), 0, 0})
	return p
}

// asleep waits until the thread is inside the system call.
func asleep(t testing.TB, tid int, number int) {
	t.Helper()
	path := fmt.Sprintf("/proc/self/task/%d/syscall", tid)
	testnet.Await(t, "asleep", 5*time.Second, func() bool {
		b, _ := os.ReadFile(path)
		return strings.HasPrefix(string(b), fmt.Sprint(number, " "))
	})
}

// sleepingRead starts a Read and returns when it waits in the kernel.
func sleepingRead(t testing.TB, q Queue) <-chan error {
	t.Helper()
	tid := make(chan int, 1)
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // or the call may be made on another thread than the one looked at
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		_, err := q.Read(make([]byte, MaxRead), true)
		result <- err
	}()
	asleep(t, <-tid, unix.SYS_PPOLL)
	return result
}

func TestQueue_closeWakesAReaderThatSleeps(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		before := len(descriptors(t))
		d := openIn(t, ns, Options{Name: "tundtest0", Offload: offload, Queues: 2})
		result := sleepingRead(t, d.Queues()[1])
		if err := errors.Join(d.Close(), d.Close()); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v, want net.ErrClosed", err)
		}
		if err := d.Queues()[1].Write(udpPacket(1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v, want net.ErrClosed", err)
		}
		if after := len(descriptors(t)); after != before {
			t.Errorf("descriptors: %d before, %d after", before, after)
		}
		if out, err := ns.Try("ip", "link", "show", "dev", "tundtest0"); err == nil {
			t.Errorf("the device is still there:\n%s", out)
		}
	})
}

func TestQueue_linkThatIsDown(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		d := openIn(t, ns, Options{Name: "tundtest0", Offload: offload})
		q := d.Queues()[0]
		if err := q.Write(udpPacket(1)); !errors.Is(err, ErrDown) {
			t.Errorf("write: %v, want ErrDown", err)
		}
		result := sleepingRead(t, q)
		up(t, ns, "tundtest0", "10.9.0.1/24")
		ns.Run(t, "ip", "link", "set", "tundtest0", "down")
		ns.Run(t, "ip", "link", "set", "tundtest0", "up")
		if err := q.Write(udpPacket(1)); err != nil {
			t.Errorf("write once up: %v", err)
		}
		provoke(t, ns)
		if err := <-result; err != nil {
			t.Errorf("read once up: %v", err)
		}
	})
}

// provoke makes the host send a packet into the tunnel.
func provoke(t testing.TB, ns *testnet.NS) {
	t.Helper()
	var conn net.Conn
	var err error
	ns.Do(func() { conn, err = net.Dial("udp", "10.9.0.2:9") })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
}

func TestDevice_movedAndRenamedKeepsWorking(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		here, there := testnet.New(t), testnet.New(t)
		d := openIn(t, here, Options{Name: "tundtest0", Offload: offload})
		q := d.Queues()[0]
		var mtu int
		var err error
		here.Do(func() { mtu, err = d.MTU() })
		if mtu != 1500 || err != nil {
			t.Errorf("mtu %d, %v; want 1500", mtu, err)
		}
		if d.Index() == 0 {
			t.Error("no index")
		}
		result := sleepingRead(t, q)
		here.Run(t, "ip", "link", "set", "tundtest0", "netns", there.Name())
		there.Run(t, "ip", "link", "set", "tundtest0", "name", "other0")
		if got := d.Name(); got != "other0" {
			t.Errorf("name %q, want other0", got)
		}
		up(t, there, "other0", "10.9.0.1/24")
		provoke(t, there)
		if err := <-result; err != nil {
			t.Errorf("read: %v", err)
		}
		if err := q.Write(udpPacket(1)); err != nil {
			t.Errorf("write: %v", err)
		}
	})
}

func TestQueue_superpacketsOfTCP(t *testing.T) {
	for _, kind := range []Kind{TUN, TAP} {
		t.Run(kind.String(), func(t *testing.T) { superpackets(t, kind) })
	}
}

// superpackets joins two devices by their queues and sends through them.
func superpackets(t *testing.T, kind Kind) {
	ns, far := testnet.New(t), testnet.New(t)
	a := openIn(t, ns, Options{Name: "tundtest0", Kind: kind, Offload: true})
	b := openIn(t, far, Options{Name: "tundtest0", Kind: kind, Offload: true})
	up(t, ns, "tundtest0", "10.9.0.1/24")
	up(t, far, "tundtest0", "10.9.0.2/24")
	largest := make(chan int, 2)
	carry := func(from, to Queue) {
		buf, most := make([]byte, MaxRead), 0
		for {
			n, err := from.Read(buf, true)
			if err != nil {
				largest <- most
				return
			}
			most = max(most, n)
			if err := to.Write(buf[:n]); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("write of %d bytes, header %x: %v", n, buf[:HeaderSize], err)
			}
		}
	}
	go carry(a.Queues()[0], b.Queues()[0])
	go carry(b.Queues()[0], a.Queues()[0])
	var listener net.Listener
	var conn net.Conn
	var err error
	far.Do(func() { listener, err = net.Listen("tcp", "10.9.0.2:9000") })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ns.Do(func() { conn, err = net.DialTimeout("tcp", "10.9.0.2:9000", 5*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	go func() {
		_, _ = conn.Write(make([]byte, size))
		_ = conn.Close()
	}()
	n, err := io.Copy(io.Discard, peer)
	if n != size || err != nil {
		t.Errorf("received %d bytes, %v; want %d", n, err, size)
	}
	_ = peer.Close()
	_, _ = a.Close(), b.Close()
	if most := max(<-largest, <-largest); most < 20000 {
		t.Errorf("the largest packet had %d bytes: no superpackets", most)
	}
}

func TestQueue_refusals(t *testing.T) {
	ns := testnet.New(t)
	d := openIn(t, ns, Options{Name: "tundtest0", Offload: true})
	plain := openIn(t, ns, Options{Name: "tundtest1"})
	tap := openIn(t, ns, Options{Name: "tundtest2", Kind: TAP, Offload: true})
	up(t, ns, "tundtest0", "10.9.0.1/24")
	up(t, ns, "tundtest1", "10.9.1.1/24")
	up(t, ns, "tundtest2", "10.9.2.1/24")
	gso := udpPacket(1000)
	gso[0], gso[1], gso[6], gso[8] = 1, 1, 20, 16 // TCPV4, and segments of no bytes
	unknown := udpPacket(1000)
	unknown[1] = 0x7e
	partial := udpPacket(10)
	partial[0] = 1
	for _, c := range []struct {
		what  string
		q     Queue
		frame []byte
		want  error
	}{
		{"a packet", d.Queues()[0], udpPacket(10), nil},
		{"a superpacket of empty segments", d.Queues()[0], gso, ErrRefused},
		{"an unknown kind of superpacket", d.Queues()[0], unknown, ErrRefused},
		{"neither IPv4 nor IPv6", d.Queues()[0], append(make([]byte, HeaderSize), 0, 1, 2), ErrRefused},
		{"nothing", d.Queues()[0], make([]byte, HeaderSize), ErrRefused},
		{"half a header", d.Queues()[0], make([]byte, 4), ErrRefused},
		{"plain: a packet", plain.Queues()[0], udpPacket(10), nil},
		{"plain: a superpacket", plain.Queues()[0], gso, ErrRefused},
		{"plain: a partial checksum", plain.Queues()[0], partial, ErrRefused},
		{"tap: half an Ethernet header", tap.Queues()[0], make([]byte, HeaderSize+10), ErrRefused},
		{"tap: a frame", tap.Queues()[0], make([]byte, HeaderSize+60), nil},
	} {
		if got := c.q.Write(c.frame); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}

func TestQueue_allocatesNothing(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		d := openIn(t, ns, Options{Name: "tundtest0", Offload: offload})
		up(t, ns, "tundtest0", "10.9.0.1/24")
		q := d.Queues()[0]
		buf, packet := make([]byte, MaxRead), udpPacket(100)
		bad := udpPacket(100)
		bad[1] = 0x7e
		// Nobody listens on the port: the kernel answers with ICMP, which is there to be read; it
		// soon stops.
		if n := testing.AllocsPerRun(100, func() {
			if err := q.Write(packet); err != nil {
				t.Fatal(err)
			}
			if err := q.Write(bad); err != ErrRefused {
				t.Fatal(err)
			}
			if _, err := q.Read(buf, false); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkQueue_writeUDP(b *testing.B) {
	for _, offload := range []bool{true, false} {
		b.Run(fmt.Sprintf("offload=%v", offload), func(b *testing.B) {
			ns := testnet.New(b)
			d := openIn(b, ns, Options{Name: "tundtest0", Offload: offload})
			up(b, ns, "tundtest0", "10.9.0.1/24")
			q, packet := d.Queues()[0], udpPacket(1200)
			b.SetBytes(int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				if err := q.Write(packet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQueue_readEmpty(b *testing.B) {
	ns := testnet.New(b)
	q := openIn(b, ns, Options{Name: "tundtest0", Offload: true}).Queues()[0]
	buf := make([]byte, MaxRead)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Read(buf, false); err != nil {
			b.Fatal(err)
		}
	}
}
