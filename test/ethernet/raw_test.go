package ethernet

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// raw is a socket that sends and receives whole frames at a device.
type raw struct {
	t   testing.TB
	fd  int
	mac l2.MAC // of the device
}

// raw opens one at the host's device. It receives what comes in from now on, but not what it sends
// itself.
func (h *host) raw() *raw { return openRaw(h.t, h.ns, h.dev) }

func openRaw(t testing.TB, ns *testnet.NS, dev string) *raw {
	t.Helper()
	r := &raw{t: t, mac: macOf(t, ns, dev)}
	ns.Do(func() {
		index, err := deviceIndex(dev)
		if err != nil {
			t.Fatal(err)
		}
		all := int(be16(unix.ETH_P_ALL))
		if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		// The kernel takes tags out of what is received; auxiliary data tell which there was.
		for option, value := range map[int]int{unix.PACKET_AUXDATA: 1, unix.PACKET_IGNORE_OUTGOING: 1, unix.PACKET_QDISC_BYPASS: 1} {
			if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, option, value); err != nil {
				t.Fatal(err)
			}
		}
		_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index}); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = unix.Close(r.fd) })
	return r
}

func be16(v uint16) uint16 { return v<<8 | v>>8 }

// deviceIndex returns the index of a device of the namespace that the thread is in.
func deviceIndex(dev string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(dev)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	return int(request.Uint32()), err
}

// send sends a frame as it is.
func (r *raw) send(frame []byte) {
	r.t.Helper()
	if _, err := unix.Write(r.fd, frame); err != nil && err != unix.ENOBUFS {
		r.t.Errorf("send %d bytes: %v", len(frame), err)
	}
}

// next returns the next frame received, its tag put back, or nil when none comes until the
// deadline.
func (r *raw) next(deadline time.Time) []byte {
	r.t.Helper()
	for {
		left := time.Until(deadline)
		if left <= 0 {
			left = 0
		}
		fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			return nil
		}
		buf, oob := make([]byte, 65536), make([]byte, 128)
		n, oobn, _, _, err := unix.Recvmsg(r.fd, buf[4:], oob, 0)
		if err != nil {
			continue
		}
		return tagged(buf[:4+n], oob[:oobn])
	}
}

// tagged puts the tag of the auxiliary data back into the frame at buf[4:].
func tagged(buf, oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return buf[4:]
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA ||
			len(m.Data) < int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		copy(buf, buf[4:16])
		tpid := uint16(0x8100)
		if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = aux.Vlan_tpid
		}
		binary.BigEndian.PutUint16(buf[12:], tpid)
		binary.BigEndian.PutUint16(buf[14:], aux.Vlan_tci)
		return buf
	}
	return buf[4:]
}

// expect waits until a frame is received for which want holds.
func (r *raw) expect(what string, limit time.Duration, want func(frame []byte) bool) []byte {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		frame := r.next(deadline)
		if frame == nil {
			r.t.Errorf("%s: not received within %v", what, limit)
			return nil
		}
		if want(frame) {
			return frame
		}
	}
}

// never fails when a frame has been received, or is within limit, for which bad holds.
func (r *raw) never(what string, limit time.Duration, bad func(frame []byte) bool) {
	r.t.Helper()
	if frame := r.seen(limit, bad); frame != nil {
		r.t.Errorf("%s: received %x", what, frame[:min(len(frame), 64)])
	}
}

// seen returns the first frame of a kind that comes within the limit; nil: there is none.
func (r *raw) seen(limit time.Duration, kind func(frame []byte) bool) []byte {
	r.t.Helper()
	for deadline := time.Now().Add(limit); ; {
		if frame := r.next(deadline); frame == nil || kind(frame) {
			return frame
		}
	}
}

// drain forgets what has been received, and returns how many frames it was.
func (r *raw) drain() (n int) {
	var buf [64]byte
	for {
		_, _, err := unix.Recvfrom(r.fd, buf[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n
		}
		n++
	}
}

// flood sends n frames as fast as it can, in batches of one system call. next fills in the i-th
// before it is sent.
func (r *raw) flood(n, size, perSecond int, next func(frame []byte, i int)) (took time.Duration) {
	r.t.Helper()
	const batch = 64
	type message struct {
		header unix.Msghdr
		length uint32
		_      [4]byte
	}
	frames, vectors, messages := make([]byte, batch*size), make([]unix.Iovec, batch), make([]message, batch)
	for i := range messages {
		vectors[i].Base = &frames[i*size]
		vectors[i].SetLen(size)
		messages[i].header.Iov = &vectors[i]
		messages[i].header.SetIovlen(1)
	}
	began := time.Now()
	for sent := 0; sent < n; {
		if perSecond > 0 {
			pause(time.Until(began.Add(time.Duration(sent) * time.Second / time.Duration(perSecond))))
		}
		count := min(batch, n-sent)
		for i := range count {
			next(frames[i*size:(i+1)*size], sent+i)
		}
		got, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(count), 0, 0, 0)
		switch errno {
		case 0:
			sent += int(got)
		case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		default:
			r.t.Fatalf("sendmmsg: %v", errno)
		}
	}
	return time.Since(began)
}
