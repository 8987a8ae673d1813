package tundev

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

func TestOpen_fallsBackToThePlainBackend(t *testing.T) {
	ns := testnet.New(t)
	refuse := func(err error) func(Options) (*Device, error) {
		return func(Options) (*Device, error) { return nil, fmt.Errorf("create the device: %w", err) }
	}
	ns.Do(func() {
		d, err := open(Options{Name: "tundtest0", Offload: true}, refuse(unix.EINVAL), openPlain)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		if !strings.Contains(d.Fallback(), "invalid argument") || d.Features() != (Features{}) {
			t.Errorf("fallback %q, features %+v", d.Fallback(), d.Features())
		}
		for errno, advice := range map[error]string{
			unix.EPERM: "CAP_NET_ADMIN", unix.ENOENT: "modprobe tun", ErrExists: "ip link delete",
		} {
			_, err := open(Options{Name: "x", Offload: true}, refuse(errno), openPlain)
			if !errors.Is(err, errno) || !strings.Contains(err.Error(), advice) {
				t.Errorf("%v: got %v, want advice about %q", errno, err, advice)
			}
		}
	})
}

func TestClimb_takesTheFirstRungTheKernelKnows(t *testing.T) {
	for refused, want := range []Features{
		{Checksum: true, TSO: true, USO: true}, {Checksum: true, TSO: true}, {Checksum: true, TSO: true}, {Checksum: true}, {},
	} {
		tries := 0
		got, err := climb(func(uintptr) error {
			tries++
			if tries <= refused {
				return unix.EINVAL
			}
			return nil
		})
		if got != want || err != nil {
			t.Errorf("%d refused: got %+v, %v; want %+v", refused, got, err, want)
		}
	}
	if _, err := climb(func(uintptr) error { return unix.EINVAL }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("all refused: %v, want EINVAL", err)
	}
}

// handedOver opens a device as a parent process would.
func handedOver(t testing.TB, ns *testnet.NS, flags uint16) (fd int) {
	t.Helper()
	ns.Do(func() {
		var err error
		if fd, err = unix.Open(clonePath, unix.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
		if flags != 0 {
			if _, err := setiff(fd, "tundtest%d", flags); err != nil {
				t.Fatal(err)
			}
		}
	})
	return fd
}

func TestFromFD_takesWhatItIsGiven(t *testing.T) {
	ns := testnet.New(t)
	before := len(descriptors(t))
	for _, c := range []struct {
		what     string
		flags    uint16
		kind     Kind
		features bool
		want     string // in the error
	}{
		{"tun with headers", unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR, TUN, true, ""},
		{"tun without", unix.IFF_TUN | unix.IFF_NO_PI, TUN, false, ""},
		{"tap, many queues", unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE, TAP, true, ""},
		{"no device", 0, TUN, false, "no device is attached"},
	} {
		fd := handedOver(t, ns, c.flags)
		d, err := FromFD(fd)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.what, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if d.Kind() != c.kind || d.Features().TSO != c.features || !strings.HasPrefix(d.Name(), "tundtest") {
			t.Errorf("%s: %v %q %+v", c.what, d.Kind(), d.Name(), d.Features())
		}
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: not close-on-exec", c.what)
		}
		if n, err := d.Queues()[0].Read(make([]byte, MaxRead), false); n != 0 || err != nil {
			t.Errorf("%s: read of an idle device: %d, %v", c.what, n, err)
		}
		_ = d.Close()
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	other, err := unix.Dup(int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFD(other); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("a file that is no device: %v", err)
	}
	if after := len(descriptors(t)); after != before {
		t.Errorf("descriptors: %d before, %d after", before, after)
	}
}
