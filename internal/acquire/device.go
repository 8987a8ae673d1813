// Package acquire gets for an instance the devices and sockets that it works with: it opens new
// ones, or takes over those of the process before, together with its sessions, and at the end it
// leaves them to the next process.
//
// It makes neither a tunnel nor a change of the kernel's network configuration, and it logs
// nothing: internal/daemon decides what an error means, and what happens without what could not be
// had. It has no goroutine; values of its types belong to one goroutine at a time.
//
// Sources: sd_notify(3) on FDSTORE, socket(7) on SO_REUSEPORT.
package acquire

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"tund/tunnel"
	"tund/tunnel/tundev"
)

// Device makes a device, which is the caller's. While one of the same name exists, it waits for up
// to a second.
func Device(ctx context.Context, o tundev.Options) (dev *tundev.Device, err error) {
	// A process that was killed may not have released the device yet.
	err = Patiently(ctx, tundev.ErrExists, func() (err error) {
		dev, err = tundev.Open(o)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, fs.ErrPermission):
		return nil, NotPermitted(err)
	}
	return dev, err
}

// patience is how long a new device waits for one of the same name that is being deleted: `ip link
// delete` returns before the process behind the device has noticed.
const patience = time.Second

// Patiently repeats try while it fails with busy, for at most patience.
func Patiently(ctx context.Context, busy error, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(patience / 100)
	defer again.Stop()
	for {
		err := try()
		if !errors.Is(err, busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// ErrNotPermitted matches, with errors.Is, the error of a start that fails because of a missing
// privilege or a missing /dev/net/tun.
var ErrNotPermitted = errors.New("not permitted")

// NotPermitted makes an error match ErrNotPermitted without changing its text.
func NotPermitted(err error) error { return notPermitted{err} }

type notPermitted struct{ error }

func (notPermitted) Is(target error) bool { return target == ErrNotPermitted }
func (e notPermitted) Unwrap() error      { return e.error }

// ForTunnel returns a device as the tunnel takes it. mtu is what it has or is about to get, in
// bytes.
func ForTunnel(dev *tundev.Device, mtu int) tunnel.Device {
	return tunnel.Device{
		Name: dev.Name(), Kind: dev.Kind(), Features: dev.Features(), Queues: dev.Queues(), MTU: mtu,
		Up: func() bool {
			up, known := dev.Up()
			return up && known
		},
	}
}
