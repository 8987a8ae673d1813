package ethernet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// Children of the bridge: macvlan devices in containers of their own.
func TestChildren_macvlanOnTheBridge(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	b := paris.host(2)
	var children []*host
	for i := range 2 {
		h := &host{t: t, ns: testnet.New(t), site: berlin, v4: fmt.Sprintf("10.7.0.%d", 11+i), dev: "mv0"}
		berlin.NS.Run(t, "ip", "link", "add", "link", "br0", "name", "mv0", "netns", h.ns.Name(), "type", "macvlan", "mode", "bridge")
		h.ns.Run(t, "ip", "address", "add", h.v4+"/24", "dev", "mv0")
		h.ns.Run(t, "ip", "address", "add", h.v6()+"/64", "dev", "mv0", "nodad")
		h.ns.Run(t, "ip", "link", "set", "mv0", "up")
		h.mac = macOf(t, h.ns, "mv0")
		children = append(children, h)
	}
	start(t, berlin, paris)
	for _, h := range children {
		h.pings(b.v4, 3)
		b.pings(h.v4, 3)
		b.pings(h.v6(), 3)
		h.pings(b.v4, 3, "-s", "1472", "-M", "do")
		transfer(t, h, b, b.v4, 8<<20)
		transfer(t, b, h, h.v4, 8<<20)
		if at := paris.where(h.mac, 0); at != "berlin" {
			t.Errorf("paris knows the child behind %q", at)
		}
	}
	children[0].pings(children[1].v4, 3)
}

// vm is what qemu is to a TAP or macvtap device: a file from which it reads the frames for its
// guest and to which it writes the guest's, each behind a virtio_net_hdr.
type vm struct {
	t   testing.TB
	fd  int
	mac l2.MAC
}

const vnetHeader = 10

// newVM opens a TAP in the namespace of a site as qemu does, with all its offloads, and plugs it
// into the bridge.
func newVM(t *testing.T, s *site) *vm {
	t.Helper()
	v := &vm{t: t, mac: 0x525400123456}
	s.NS.Do(func() {
		var err error
		if v.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		request, _ := unix.NewIfreq("vmtap0") // the name fits
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(v.fd, unix.TUNSETIFF, request); err != nil {
			t.Fatal(err)
		}
		const checksum, tso4, tso6, ecn = 1, 2, 4, 8
		if err := unix.IoctlSetInt(v.fd, unix.TUNSETOFFLOAD, checksum|tso4|tso6|ecn); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = unix.Close(v.fd) })
	s.NS.Run(t, "ip", "link", "set", "vmtap0", "master", "br0")
	s.NS.Run(t, "ip", "link", "set", "vmtap0", "up")
	return v
}

// write sends a frame of the guest.
func (v *vm) write(frame []byte) {
	v.t.Helper()
	if _, err := unix.Write(v.fd, append(make([]byte, vnetHeader), frame...)); err != nil {
		v.t.Fatalf("guest sends %d bytes: %v", len(frame), err)
	}
}

// read returns the next frame for the guest for which want holds, nil when none comes within limit.
func (v *vm) read(limit time.Duration, want func([]byte) bool) []byte {
	v.t.Helper()
	buf := make([]byte, 70000)
	for deadline := time.Now().Add(limit); ; {
		fds := []unix.PollFd{{Fd: int32(v.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(time.Until(deadline), 0)/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			return nil
		}
		n, err = unix.Read(v.fd, buf)
		if err != nil {
			v.t.Fatal(err)
		}
		if n > vnetHeader+14 && want(buf[vnetHeader:n]) {
			return bytes.Clone(buf[vnetHeader:n])
		}
	}
}

// answersARP lets the guest answer who asks for its address.
func (v *vm) resolves(ip string, other *host) {
	v.t.Helper()
	v.write(gratuitous(v.t, v.mac, ip))
	go other.ns.Try("ping", "-n", "-c", "1", "-W", "2", ip) // makes the other side ask
	ask := v.read(3*time.Second, func(f []byte) bool {
		return binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 1 && bytes.Equal(f[38:42], netIP(ip))
	})
	if ask == nil {
		return // it has learned from the announcement
	}
	v.write(arp(v.t, l2.MACFromBytes(ask[6:]), v.mac, 2, ip, l2.MACFromBytes(ask[6:]), other.v4))
}

func netIP(text string) []byte {
	var b [4]byte
	for i, part := range strings.Split(text, ".") {
		n, _ := strconv.Atoi(part)
		b[i] = byte(n)
	}
	return b[:]
}

// A VM at its TAP on the same bridge, as qemu opens it: virtio headers and superpackets of 64 KB
// from the guest cross the tunnel, and arrive at the other site as they were sent.
func TestChildren_VMAtItsTAPOnTheBridge(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	b := paris.host(2)
	guest := newVM(t, berlin)
	const ip = "10.7.0.50"
	start(t, berlin, paris)
	guest.resolves(ip, b)
	testnet.Await(t, "guest behind berlin", 5*time.Second, func() bool { return paris.where(guest.mac, 0) == "berlin" })

	// A ping from b, answered by hand.
	go b.ns.Try("ping", "-n", "-c", "1", "-W", "3", ip)
	echo := guest.read(3*time.Second, func(f []byte) bool { return binary.BigEndian.Uint16(f[12:]) == 0x0800 && f[23] == 1 })
	if echo == nil {
		t.Fatal("the guest got no echo request")
	}
	// A UDP datagram from the guest to a socket of b.
	sink := b.datagrams("udp4", 9000, "")
	guest.write(udp4(t, b.mac, guest.mac, ip, b.v4, 9001, 9000, []byte("from the guest")))
	if got := sink.receive(2 * time.Second); got != "from the guest" {
		t.Errorf("b received %q from the guest", got)
	}
	// A superpacket, as a guest with TSO makes them: one Ethernet header, 40 segments, a checksum
	// to be completed.
	guest.superpacket(t, b)
}

// superpacket sends a TCP superpacket that belongs to no connection. b refuses each segment with a
// reset, whose acknowledgement number says how far it has read: all of it.
func (v *vm) superpacket(t *testing.T, b *host) {
	t.Helper()
	const segment, count = 1400, 40
	size := segment * count
	ip := make([]byte, 20+20+size)
	ip[0], ip[8], ip[9], ip[6] = 0x45, 64, 6, 0x40
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], netIP("10.7.0.50"))
	copy(ip[16:], netIP(b.v4))
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip[:20], 0))
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 40001)
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	tcp[12], tcp[13] = 5<<4, 0x08 // PSH and no ACK: the reset acknowledges what came
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	pseudo := append(append([]byte{}, ip[12:20]...), 0, 6, 0, 0)
	binary.BigEndian.PutUint16(pseudo[10:], uint16(20+size))
	binary.BigEndian.PutUint16(tcp[16:], sum(pseudo, 0))
	frame := append(header(b.mac, v.mac, 0x0800), ip...)
	h := make([]byte, vnetHeader)
	h[0], h[1] = 1, 1 // NEEDS_CSUM, TCPV4
	binary.LittleEndian.PutUint16(h[2:], 14+40)
	binary.LittleEndian.PutUint16(h[4:], segment)
	binary.LittleEndian.PutUint16(h[6:], 14+20)
	binary.LittleEndian.PutUint16(h[8:], 16)
	if _, err := unix.Write(v.fd, append(h, frame...)); err != nil {
		t.Fatalf("guest sends a superpacket: %v", err)
	}
	seen := uint32(0)
	for seen != uint32(1000+size) {
		reset := v.read(3*time.Second, func(f []byte) bool {
			return binary.BigEndian.Uint16(f[12:]) == 0x0800 && f[23] == 6 && f[14+20+13]&4 != 0
		})
		if reset == nil {
			t.Fatalf("b has acknowledged %d, want %d", seen, 1000+size)
		}
		seen = max(seen, binary.BigEndian.Uint32(reset[14+20+8:]))
	}
}

// sum is the internet checksum without the final complement.
func sum(b []byte, start uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		start += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for start > 0xffff {
		start = start>>16 + start&0xffff
	}
	return uint16(start)
}

// A VM at a macvtap child of the bridge.
func TestChildren_macvtapOnTheBridge(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	b := paris.host(2)
	berlin.NS.Run(t, "ip", "link", "add", "link", "br0", "name", "mvt0", "type", "macvtap", "mode", "bridge")
	berlin.NS.Run(t, "ip", "link", "set", "mvt0", "up")
	guest := &vm{t: t, mac: macOf(t, berlin.NS, "mvt0")}
	// The name of its device file holds its index, which is unique in its namespace only: make one
	// of our own.
	numbers := strings.TrimSpace(berlin.NS.Run(t, "sh", "-c", "cat /sys/class/net/mvt0/macvtap/*/dev"))
	var major, minor uint32
	if _, err := fmt.Sscanf(numbers, "%d:%d", &major, &minor); err != nil {
		t.Fatalf("device of macvtap %q: %v", numbers, err)
	}
	path := filepath.Join(testnet.Scratch(t), "macvtap")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	berlin.NS.Do(func() {
		var err error
		if guest.fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = unix.Close(guest.fd) })
	start(t, berlin, paris)
	const ip = "10.7.0.51"
	guest.resolves(ip, b)
	testnet.Await(t, "guest behind berlin", 5*time.Second, func() bool { return paris.where(guest.mac, 0) == "berlin" })
	sink := b.datagrams("udp4", 9000, "")
	guest.write(udp4(t, b.mac, guest.mac, ip, b.v4, 9001, 9000, []byte("from the guest")))
	if got := sink.receive(2 * time.Second); got != "from the guest" {
		t.Errorf("b received %q from the guest", got)
	}
	sink.send(ip, 9001, "to the guest")
	if guest.read(2*time.Second, holds("to the guest")) == nil {
		t.Error("the guest received nothing")
	}
}
