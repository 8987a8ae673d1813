package ethernet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// transferLimit bounds one transfer.
const transferLimit = time.Minute

// onlyReader and onlyWriter hide the short cuts that would leave the digest out.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// transfer sends size random bytes over TCP to an address of another host and compares the digests
// of both ends. It returns the rate in bytes a second.
func transfer(t testing.TB, from, at *host, to string, size int64) float64 {
	t.Helper()
	var listener net.Listener
	at.ns.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", net.JoinHostPort(to, "0")); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = listener.Close() }()
	received := make(chan [sha256.Size]byte, 1)
	go func() {
		digest := sha256.New()
		if conn, err := listener.Accept(); err == nil {
			_ = conn.SetDeadline(time.Now().Add(transferLimit))
			// An error shows in the digest.
			_, _ = io.CopyBuffer(digest, onlyReader{conn}, make([]byte, 256<<10))
			_ = conn.Close()
		}
		received <- [sha256.Size]byte(digest.Sum(nil))
	}()
	var conn net.Conn
	from.ns.Do(func() {
		var err error
		if conn, err = net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second); err != nil {
			t.Fatalf("connect from %s to %s: %v", from.v4, to, err)
		}
	})
	began := time.Now()
	_ = conn.SetDeadline(began.Add(transferLimit))
	digest := sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), digest)
	if _, err := io.CopyBuffer(onlyWriter{conn}, source, make([]byte, 256<<10)); err != nil {
		t.Errorf("send from %s to %s: %v", from.v4, to, err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, want := <-received, [sha256.Size]byte(digest.Sum(nil)); got != want {
		t.Errorf("%d bytes from %s to %s: sha256 %x, want %x", size, from.v4, to, got, want)
	}
	_ = conn.Close()
	return float64(size) / time.Since(began).Seconds()
}

// datagrams is a UDP socket of a host. Its file keeps reads with a deadline out of the kernel's
// way.
type datagrams struct {
	t    testing.TB
	fd   int
	port int
}

// datagrams opens a UDP socket. With a group (224.0.0.251, ff02::fb) it joins it at the host's
// device, and sends multicast there.
func (h *host) datagrams(network string, port int, group string) *datagrams {
	h.t.Helper()
	d := &datagrams{t: h.t, port: port}
	h.ns.Do(func() {
		index, err := deviceIndex(h.dev)
		if err != nil {
			h.t.Fatal(err)
		}
		family, bind := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port})
		if network == "udp6" {
			family, bind = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
		}
		d.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		try := func(e error) {
			if err == nil {
				err = e
			}
		}
		try(unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		_ = unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		try(unix.Bind(d.fd, bind))
		switch {
		case group == "":
		case family == unix.AF_INET:
			m := unix.IPMreqn{Ifindex: int32(index)}
			copy(m.Multiaddr[:], net.ParseIP(group).To4())
			try(unix.SetsockoptIPMreqn(d.fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &m))
			try(unix.SetsockoptIPMreqn(d.fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &m))
		default:
			m := unix.IPv6Mreq{Interface: uint32(index)}
			copy(m.Multiaddr[:], net.ParseIP(group))
			try(unix.SetsockoptIPv6Mreq(d.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &m))
			try(unix.SetsockoptInt(d.fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index))
		}
		if err != nil {
			h.t.Fatalf("socket of %s: %v", h.v4, err)
		}
	})
	h.t.Cleanup(func() { _ = unix.Close(d.fd) })
	return d
}

// send sends a datagram.
func (d *datagrams) send(to string, port int, payload string) {
	d.t.Helper()
	ip := net.ParseIP(to)
	var addr unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}
	if v4 := ip.To4(); v4 != nil {
		addr = &unix.SockaddrInet4{Port: port, Addr: [4]byte(v4)}
	}
	if err := unix.Sendto(d.fd, []byte(payload), 0, addr); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		d.t.Errorf("send to %s: %v", to, err)
	}
}

// receive returns the next datagram, or "" when none comes within limit.
func (d *datagrams) receive(limit time.Duration) string {
	deadline := time.Now().Add(limit)
	for {
		fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, max(int(time.Until(deadline)/time.Millisecond), 0))
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			return ""
		}
		buf := make([]byte, 65536)
		if n, _, err = unix.Recvfrom(d.fd, buf, unix.MSG_DONTWAIT); err == nil {
			return string(buf[:n])
		}
	}
}

// echo sends back what comes to the socket until the test ends.
func (d *datagrams) echo() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			select {
			case <-stop:
				return
			default:
			}
			fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
			if n, _ := unix.Poll(fds, 100); n == 0 {
				continue
			}
			if n, addr, err := unix.Recvfrom(d.fd, buf, unix.MSG_DONTWAIT); err == nil {
				_ = unix.Sendto(d.fd, buf[:n], 0, addr)
			}
		}
	}()
	d.t.Cleanup(func() { close(stop); <-done })
}

// resident is the memory of a process in bytes, without the pages of files, which come and go as
// the kernel likes.
func resident(t testing.TB, p *testnet.Process) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages, shared int64
	if _, err := fmt.Sscan(string(text), &size, &pages, &shared); err != nil {
		t.Fatal(err)
	}
	return (pages - shared) * int64(os.Getpagesize())
}
