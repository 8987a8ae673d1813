package tundev

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Dup returns duplicates of the queues' descriptors, which are the caller's. As long as one of them
// is open the device stays, and what the host sends waits in its ring (ringPackets). A longer ring
// would have to be there from the start: to change it, the kernel stops the device for a moment and
// drops what is sent meanwhile (Linux net/sched/sch_generic.c, dev_qdisc_change_tx_queue_len).
func (d *Device) Dup() (fds []int, err error) {
	defer func() {
		if err != nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			fds, err = nil, fmt.Errorf("duplicate the queues of %s: %w", d.Name(), err)
		}
	}()
	for _, q := range d.queues {
		if !q.ref.Enter() {
			return fds, net.ErrClosed
		}
		fd, err := unix.FcntlInt(uintptr(q.ref.FD()), unix.F_DUPFD_CLOEXEC, 0)
		q.ref.Leave()
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// FromFDs takes over the queues of a device that another process opened with the same options, in
// the network namespace of this process. It owns the descriptors from the start: when it fails, all
// are closed.
func FromFDs(o Options, fds []int) (_ *Device, err error) {
	d := &Device{kind: o.Kind}
	left := fds
	defer func() {
		if err == nil {
			return
		}
		for _, fd := range left {
			_ = unix.Close(fd)
		}
		err = errors.Join(fmt.Errorf("take over %v device %q: %w", o.Kind, o.Name, err), d.Close())
		d = nil
	}()
	if len(fds) == 0 || len(fds) != max(o.Queues, 1) {
		return nil, fmt.Errorf("it has %d queues", len(fds))
	}
	want := flagsOf(o) & (unix.IFF_TUN | unix.IFF_TAP | unix.IFF_MULTI_QUEUE)
	for len(left) > 0 {
		fd := left[0]
		name, flags, err := getiff(fd)
		if err != nil {
			return nil, fmt.Errorf("no device is attached to a queue: %w", err)
		}
		if name != o.Name || flags&(unix.IFF_TUN|unix.IFF_TAP|unix.IFF_MULTI_QUEUE) != want {
			return nil, fmt.Errorf("a queue belongs to a device %q of another kind", name)
		}
		if flags&unix.IFF_VNET_HDR == 0 && o.Offload {
			return nil, errors.New("it was opened without offload")
		}
		vnet := flags&unix.IFF_VNET_HDR != 0
		q, err := newQueue(fd, vnet)
		if err != nil {
			return nil, err
		}
		d.queues, left = append(d.queues, q), left[1:]
	}
	if err := d.resume(o); err != nil {
		return nil, err
	}
	return d, nil
}

// resume is what FromFDs does once all queues are there.
func (d *Device) resume(o Options) (err error) {
	fd := d.queues[0].ref.FD()
	if d.queues[0].vnet {
		if !o.Offload {
			return errors.New("it was opened with offload")
		}
		if d.features, err = setOffloads(fd); err != nil {
			return err
		}
	}
	index, err := ask(o.Name, unix.SIOCGIFINDEX)
	if err != nil {
		return fmt.Errorf("it is not in this network namespace: %w", err)
	}
	d.index = int(index)
	return d.here()
}

// here refuses a device that is in another network namespace than this process, where one of its
// name may exist as well.
func (d *Device) here() error {
	theirs, err := d.Namespace()
	if err != nil {
		return nil // the kernel does not tell (before Linux 5.2)
	}
	defer func() { _ = theirs.Close() }()
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(theirs.Fd()), &a), unix.Stat("/proc/thread-self/ns/net", &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return errors.New("it is in another network namespace")
	}
	return nil
}
