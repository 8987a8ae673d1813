package tundev

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"tund/internal/names"
)

// Device is an open TUN or TAP device. It disappears from the kernel when its last queue is closed,
// unless somebody made it persistent.
type Device struct {
	kind     Kind
	index    int
	features Features
	fallback string
	queues   []*queue
}

// ringPackets is the length of the ring between the kernel and us. The kernel gives a TUN 500
// packets and a TAP 1000; 1000 small packets are what a burst at 100,000 a second brings while our
// thread waits 10 ms for a core. The bytes in it, up to 64 MB in superpackets, are bounded by
// package tunnel, which makes bulk flows slow down when the ring does not empty.
const ringPackets = 1000

// Open opens the device that o describes, with superpackets if o asks for them and the kernel has
// them. On failure nothing is left open. Errors by name: ErrExists.
func Open(o Options) (*Device, error) {
	d, err := open(o, openOffload, openPlain)
	if err != nil || o.MAC == [6]byte{} {
		return d, err
	}
	if err := setMAC(d.queues[0].ref.FD(), o.MAC); err != nil {
		err = fmt.Errorf("set its MAC address %v: %w", net.HardwareAddr(o.MAC[:]), err)
		return nil, errors.Join(explain(o, err), d.Close())
	}
	return d, nil
}

// open is Open without the address, and with the two backends as arguments, so that tests can have
// one refused.
func open(o Options, offload, plain func(Options) (*Device, error)) (*Device, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if o.Queues < 0 || o.Queues > MaxQueues {
		return nil, fmt.Errorf("open %v device: %d queues: want 1 to %d", o.Kind, o.Queues, MaxQueues)
	}
	o.Queues = max(o.Queues, 1)
	if !o.Offload {
		d, err := plain(o)
		return d, explain(o, err)
	}
	d, err := offload(o)
	if err == nil {
		// A shorter ring only loses bursts sooner, so a refusal is no reason to fail.
		_, _ = interfaceIoctl(d.Name(), unix.SIOCSIFTXQLEN, ringPackets)
		return d, nil
	}
	if !lacksOffload(err) {
		return nil, explain(o, err)
	}
	reason := err.Error()
	d, err = plain(o)
	if err != nil {
		return nil, explain(o, err)
	}
	d.fallback = reason
	return d, nil
}

// lacksOffload reports whether err may come from a kernel that does not know what the offload
// backend asks.
func lacksOffload(err error) bool {
	for _, errno := range []error{unix.EINVAL, unix.ENOTTY, unix.ENOSYS, unix.EOPNOTSUPP} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// explain adds what was to be opened and, where there is one, the next step.
func explain(o Options, err error) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("open %v device %q", o.Kind, o.Name)
	switch {
	case errors.Is(err, ErrExists):
		return fmt.Errorf("%s: %w: choose another name, or remove that one with `ip link delete dev %s`", what, err, o.Name)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s: %w: load the module with `modprobe tun` (in a container, pass /dev/net/tun in)", what, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w: run as root or with CAP_NET_ADMIN", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// checkName refuses names that the kernel refuses with nothing but EINVAL, or that would be cut
// silently.
func checkName(name string) error {
	if name == "" { // the kernel chooses
		return nil
	}
	if err := names.KernelDevice(name); err != nil {
		return fmt.Errorf("device name %q %w", name, err)
	}
	return nil
}

// Name returns the device's name at present: it follows a renaming, also in another network
// namespace. "" when the device is gone or closed.
func (d *Device) Name() string {
	ref := d.queues[0].ref
	if !ref.Enter() {
		return ""
	}
	defer ref.Leave()
	name, _, err := getiff(ref.FD())
	if err != nil {
		return ""
	}
	return name
}

// Index returns the interface index that the device had when it was opened, or 0 for one handed
// over from another network namespace. Moving it to another namespace may change it.
func (d *Device) Index() int { return d.index }

// MTU asks the network namespace of this process for the device's MTU in bytes. After the device
// has been moved to another namespace that is an error, or another device of the same name: the
// daemon follows MTU changes through netlink.
func (d *Device) MTU() (int, error) {
	name := d.Name()
	if name == "" {
		return 0, ErrGone
	}
	n, err := ask(name, unix.SIOCGIFMTU)
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %s: %w", name, err)
	}
	return int(n), nil
}

// Kind returns what the device carries.
func (d *Device) Kind() Kind { return d.kind }

// Features returns what Write accepts and Read may return. Constant.
func (d *Device) Features() Features { return d.features }

// Fallback says why the plain backend is in use although offload was asked for; "" when it is not.
func (d *Device) Fallback() string { return d.fallback }

// Queues returns the queues, of which there is at least one. The slice is the caller's.
func (d *Device) Queues() []Queue {
	queues := make([]Queue, len(d.queues))
	for i, q := range d.queues {
		queues[i] = q
	}
	return queues
}

// Close closes all queues. Closing again does nothing.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// SetMTU sets the device's MTU in bytes, in the network namespace of this process: a device that is
// still where it was opened.
func (d *Device) SetMTU(mtu int) error {
	name := d.Name()
	if name == "" {
		return ErrGone
	}
	if err := setMTU(name, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s: %w", name, err)
	}
	return nil
}
