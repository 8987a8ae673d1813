package linkbench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// space is a network namespace without a name. A thread lives in it, and runs there what do is
// given; the namespace ends with the thread, and with the sockets and processes made in it.
type space struct {
	fd    netns.NsHandle
	links *netlink.Handle // acts in the namespace from any thread
	calls chan func()
}

// newSpace makes a namespace with its loopback up.
func newSpace() (*space, error) {
	s := &space{calls: make(chan func())}
	made := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, in its own namespace. It has to last
		// as long as the space because its end would kill the processes started from it.
		runtime.LockOSThread()
		var err error
		s.fd, err = netns.New()
		made <- err
		if err != nil {
			return
		}
		for f := range s.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	if s.links, err = netlink.NewHandleAt(s.fd, unixRoute); err != nil {
		s.close()
		return nil, fmt.Errorf("open netlink in a network namespace: %w", err)
	}
	// Flows of one round are not to profit from what the kernel remembers of those before.
	err = errors.Join(s.up("lo"), s.sysctl("net/ipv4/tcp_no_metrics_save", "1"))
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close ends the thread. The namespace goes when nothing is left in it.
func (s *space) close() {
	if s.links != nil {
		s.links.Close()
	}
	_ = s.fd.Close()
	close(s.calls)
}

// do runs f on the thread in the namespace and returns its error.
func (s *space) do(f func() error) error {
	done := make(chan error)
	s.calls <- func() { done <- f() }
	return <-done
}

// sysctl writes a setting; the kernel shows each thread those of its namespace.
func (s *space) sysctl(name, value string) error {
	return s.do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// up sets a device up.
func (s *space) up(name string) error {
	l, err := s.links.LinkByName(name)
	if err == nil {
		err = s.links.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// address gives a device an address with the length of its network, and sets it up.
func (s *space) address(name string, prefix netip.Prefix) error {
	l, err := s.links.LinkByName(name)
	if err == nil {
		err = s.links.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		}})
	}
	if err != nil {
		return fmt.Errorf("give %s the address %v: %w", name, prefix, err)
	}
	return s.up(name)
}

// add makes a device of a kind that this kernel may lack, and whose other attributes are set.
func (s *space) add(l netlink.Link) error {
	err := s.links.LinkAdd(l)
	if lacks(err) {
		return &absent{fmt.Sprintf("devices of type %s: %v", l.Type(), err)}
	}
	if err != nil {
		return fmt.Errorf("make %s, a device of type %s: %w", l.Attrs().Name, l.Type(), err)
	}
	return nil
}

// index is the number of a device.
func (s *space) index(name string) (int, error) {
	l, err := s.links.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// named are the attributes of a device that is yet to be made.
func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// below are the attributes of a device on top of another one.
func (s *space) below(name, parent string) (netlink.LinkAttrs, error) {
	a := named(name)
	var err error
	a.ParentIndex, err = s.index(parent)
	return a, err
}

// cable joins two namespaces by a veth, whose ends are both down and have the same name if they are
// in two namespaces.
func cable(a *space, aName string, b *space, bName string) error {
	v := netlink.NewVeth(named(aName))
	v.PeerName, v.PeerNamespace = bName, netlink.NsFd(int(b.fd))
	return a.add(v)
}
