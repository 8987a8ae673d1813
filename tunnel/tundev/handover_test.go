package tundev

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

func TestDevice_whatTheHostSendsBetweenTwoProcessesWaits(t *testing.T) {
	both(t, func(t *testing.T, offload bool) {
		ns := testnet.New(t)
		o := Options{Name: "tundtest0", Offload: offload}
		d := openIn(t, ns, o)
		up(t, ns, o.Name, "10.9.0.1/24")
		fds, err := d.Dup()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		var conn net.Conn
		ns.Do(func() { conn, err = net.Dial("udp", "10.9.0.2:9") })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		const count = 400
		for i := range count {
			if _, err := conn.Write([]byte{byte(i >> 8), byte(i), 'x', 'x'}); err != nil {
				t.Fatal(err)
			}
		}
		var next *Device
		ns.Do(func() { next, err = FromFDs(o, fds) })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = next.Close() }()
		if next.Features() != d.Features() || next.Name() != o.Name || next.Index() != d.Index() {
			t.Errorf("features %+v, were %+v; index %d, was %d", next.Features(), d.Features(), next.Index(), d.Index())
		}
		q, buf := next.Queues()[0], make([]byte, MaxRead)
		for i := range count {
			n, err := q.Read(buf, false)
			if err != nil || n == 0 || !bytes.HasSuffix(buf[:n], []byte{byte(i >> 8), byte(i), 'x', 'x'}) {
				t.Fatalf("packet %d: %d bytes, %v", i, n, err)
			}
		}
		// The last descriptor takes the device along.
		_ = next.Close()
		testnet.Await(t, "the device goes", 10*time.Second, func() bool {
			_, err := ns.Try("ip", "link", "show", "tundtest0")
			return err != nil
		})
	})
}

func TestFromFDs_refusesWhatIsNotTheSame(t *testing.T) {
	ns, elsewhere := testnet.New(t), testnet.New(t)
	opened := Options{Name: "tundtest0", Kind: TAP, Offload: true, Queues: 2}
	for name, change := range map[string]func(*Options){
		"another name":            func(o *Options) { o.Name = "tundtest1" },
		"another kind":            func(o *Options) { o.Kind = TUN },
		"fewer queues":            func(o *Options) { o.Queues = 1 },
		"no offload":              func(o *Options) { o.Offload = false },
		"another namespace":       func(*Options) {},
		"a file that is no queue": func(*Options) {},
	} {
		d := openIn(t, ns, opened)
		fds, err := d.Dup()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		in := ns
		switch name {
		case "another namespace":
			in = elsewhere
			in.Run(t, "ip", "tuntap", "add", "dev", "tundtest0", "mode", "tap")
		case "a file that is no queue":
			_ = unix.Close(fds[1])
			if fds[1], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
		o := opened
		change(&o)
		in.Do(func() { d, err = FromFDs(o, fds) })
		if err == nil || d != nil {
			t.Errorf("%s: taken over", name)
			continue
		}
		t.Log(err)
		testnet.Await(t, "the device goes", 10*time.Second, func() bool {
			_, err := ns.Try("ip", "link", "show", "tundtest0")
			return err != nil
		})
	}
}
