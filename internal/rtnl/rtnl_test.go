package rtnl

import (
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Conn {
	t.Helper()
	c, err := Open(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConn_links(t *testing.T) {
	t.Parallel()
	c := open(t)
	want, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	byName, err := c.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	byIndex, err := c.LinkByIndex(want.Index)
	if err != nil {
		t.Fatal(err)
	}
	if is := (Link{want.Index, "lo", want.MTU, true}); byName != is || byIndex != is {
		t.Errorf("lo is %+v by name and %+v by index, want %+v", byName, byIndex, is)
	}
	if _, err := c.LinkByName("absent"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link: %v", err)
	}
	if _, err := c.LinkByName("a-name-that-is-longer-than-15"); err == nil {
		t.Error("no such alternative name: no error")
	}
	if _, err := c.LinkByIndex(1 << 30); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such index: %v", err)
	}
}

// An answer that came after its request was given up is not that to the next one.
func TestConn_passesOverLateAnswers(t *testing.T) {
	t.Parallel()
	c := open(t)
	lo, err := c.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	late := append([]byte(nil), c.request...)
	binary.NativeEndian.PutUint32(late[8:], 1<<31)
	for range 3 {
		if _, err := unix.Write(c.fd, late); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.LinkByName("absent"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link, after late answers: %v", err)
	}
	if again, err := c.LinkByName("lo"); again != lo || err != nil {
		t.Errorf("after late answers lo is %+v, %v", again, err)
	}
}

// Requests are counted in tens of thousands: the buffer of one must not cost more than its answer.
func TestConn_memory(t *testing.T) {
	c := open(t)
	const many = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range many {
		if _, err := c.LinkByName("lo"); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / many; each > 4096 {
		t.Errorf("a request takes %d bytes of memory", each)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(Uint32(Attribute(nil, 3, []byte("lo\x00")), unix.IFLA_MTU, 1500))
	f.Add(binary.NativeEndian.AppendUint32(nil, 16))
	f.Fuzz(func(_ *testing.T, b []byte) {
		c := &Conn{}
		_, _, _ = c.find(b)
		_, _ = parseLink(b)
	})
}
