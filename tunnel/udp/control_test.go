package udp

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestControl_whatIsPutCanBeParsed(t *testing.T) {
	for _, c := range []struct {
		source string
		v6     bool
	}{{"192.0.2.1", true}, {"2001:db8::1", true}, {"192.0.2.1", false}} {
		var b [controlSpace]byte
		source := netip.MustParseAddr(c.source)
		n := putSegment(&b, 0, 1452)
		n = putSource(&b, n, source, 7, c.v6)
		if n > len(b) {
			t.Fatalf("%d bytes", n)
		}
		got := parseControl(b[:n])
		if c.v6 {
			if want := (control{dst: source, ifindex: 7}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		} else if got.ifindex != 7 {
			// IP_PKTINFO has the address to send from and the one received at apart.
			t.Errorf("interface %d, want 7", got.ifindex)
		}
		if size := unix.CmsgSpace(segmentData); align(headerSize+segmentData) != size {
			t.Errorf("space for UDP_SEGMENT: got %d, want %d", align(headerSize+segmentData), size)
		}
	}
	if headerSize != unix.SizeofCmsghdr {
		t.Errorf("header: got %d, want %d", headerSize, unix.SizeofCmsghdr)
	}
	if got, want := unsafe.Sizeof(mmsghdr{}), (unsafe.Sizeof(unix.Msghdr{})+4+uintptr(word)-1)&^(uintptr(word)-1); got != want {
		t.Errorf("mmsghdr: got %d, want %d", got, want)
	}
}

// FuzzParseControl checks that no bytes make the parser fail, and that its results are in range.
func FuzzParseControl(f *testing.F) {
	var b [controlSpace]byte
	n := putSegment(&b, 0, 1452)
	f.Add(b[:n])
	n = putSource(&b, n, netip.MustParseAddr("2001:db8::1"), 3, true)
	f.Add(b[:n])
	n = putSource(&b, 0, netip.MustParseAddr("192.0.2.1"), 3, false)
	f.Add(b[:n])
	data, n := putHeader(&b, 0, unix.SOL_UDP, unix.UDP_GRO, 4)
	data[1] = 5
	data, n = putHeader(&b, n, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 4)
	data[0] = 9
	f.Add(b[:n])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := parseControl(b)
		if c.segment < 0 || c.dst.Is4In6() {
			t.Errorf("%+v", c)
		}
		var name sockaddr
		copy(name[:], b)
		if a := name.addrPort(&zoneName{}); a.Addr().Is4In6() {
			t.Errorf("mapped %v", a)
		}
	})
}

func TestSockaddr_roundTrip(t *testing.T) {
	for _, c := range []struct {
		addr string
		v6   bool
		size uint32
	}{
		{"192.0.2.1:51820", true, 28}, {"192.0.2.1:51820", false, 16}, {"[2001:db8::1]:1", true, 28},
		{"[2001:db8::1]:1", false, 0}, {"[fe80::1%9]:65535", true, 28},
	} {
		var name sockaddr
		want := netip.MustParseAddrPort(c.addr)
		scope, _ := scopeOf(-1, &Endpoint{Addr: want})
		size := name.put(want, scope, c.v6)
		if size != c.size {
			t.Errorf("%s: %d bytes, want %d", c.addr, size, c.size)
		}
		if got := name.addrPort(&zoneName{}); size > 0 && got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if got, _ := scopeOf(-1, &Endpoint{Addr: netip.MustParseAddrPort("[fe80::1]:1"), Ifindex: 4}); got != 4 {
		t.Errorf("link-local address without a zone: scope %d, want 4", got)
	}
}

func TestSockaddr_linkLocalAllocatesNothing(t *testing.T) {
	var name sockaddr
	name.put(netip.MustParseAddrPort("[fe80::1]:7"), 12345, true)
	var zones zoneName
	seen := name.addrPort(&zones)
	if n := testing.AllocsPerRun(100, func() {
		if name.addrPort(&zones) != seen {
			t.Fatal("differs")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
