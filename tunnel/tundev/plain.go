package tundev

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// openPlain opens the device with songgao/water, without virtio headers.
func openPlain(o Options) (_ *Device, err error) {
	d := &Device{kind: o.Kind}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if err := rehearse(o); err != nil {
		return nil, err
	}
	name := o.Name
	for range o.Queues {
		fd, got, err := openWater(o, name)
		if err != nil {
			return nil, err
		}
		q, err := newQueue(fd, false)
		if err != nil {
			_ = unix.Close(fd)
			return nil, err
		}
		d.queues, name = append(d.queues, q), got
	}
	index, err := ask(name, unix.SIOCGIFINDEX)
	if err != nil {
		return nil, fmt.Errorf("read the index of %s: %w", name, err)
	}
	d.index = int(index)
	return d, nil
}

// rehearse makes the device and drops it again. water joins an existing device where we want to
// fail, and leaks its descriptor when the kernel refuses; after a rehearsal it is not refused.
func rehearse(o Options) error {
	d := &Device{}
	_, err := d.openQueue(o.Name, flagsOf(o)|tunExclusive)
	return errors.Join(err, d.Close())
}

// openWater opens one queue and returns a descriptor of our own for it, non-blocking and
// close-on-exec, with the device's name. water's file is closed again: it is registered with the
// netpoller, and water opens it without close-on-exec. No child is started meanwhile that could
// inherit it.
func openWater(o Options, name string) (_ int, _ string, err error) {
	config := water.Config{DeviceType: water.TUN}
	if o.Kind == TAP {
		config.DeviceType = water.TAP
	}
	config.Name = name
	config.MultiQueue = o.Queues > 1
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ifce, err := water.New(config)
	if err != nil {
		// The descriptor that water leaks here cannot be found again. See rehearse.
		return 0, "", fmt.Errorf("create the device: %w", err)
	}
	defer func() { err = errors.Join(err, ifce.Close()) }()
	file, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		return 0, "", fmt.Errorf("songgao/water returned a %T instead of a file", ifce.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, "", err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(water uintptr) {
		fd, dupErr = unix.FcntlInt(water, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return 0, "", err
	}
	if dupErr != nil {
		return 0, "", fmt.Errorf("duplicate the queue: %w", dupErr)
	}
	return fd, ifce.Name(), nil
}
