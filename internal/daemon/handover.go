package daemon

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/config"
	"tund/internal/handover"
	"tund/internal/sdnotify"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// A stop that is the first half of a restart does not take the instance down: devices, sockets and
// sessions go into the service manager's store, and the next process continues with them. Between
// the two, what the host and the peers send waits in the devices and in the sockets.
//
// Only a stop puts something into the store, and the next start takes all of it out before it uses
// any. After a crash there is thus nothing to continue, in particular no session whose counters
// have moved on.

const (
	// handoverVersion changes with the meaning of handed and of the names in the store.
	handoverVersion = 1
	// storePatience is how long the service manager may take to confirm what is in its store.
	storePatience = 2 * time.Second
	// suspendPatience is how long the loops of the tunnel may take to end.
	suspendPatience = 2 * time.Second
)

// Names in the store; a number follows the last two.
const (
	storedSessions = "tund-sessions"
	storedDevice   = "tund-device-" // and its kind
	storedSocket   = "tund-socket-"
)

// handed is what the next process gets in sealed memory beside the descriptors.
type handed struct {
	Version  int
	Place    string // where it can be continued
	Sessions []byte // of tunnel.Suspend
}

// place describes the devices of a configuration, as far as a device that exists cannot be made
// another or the kernel would keep what another configuration set.
func place(c *config.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "instance %s", c.Instance)
	if c.Tun != nil {
		fmt.Fprintf(&b, " tun %s %v", c.Tun.Device, c.Tun.Addresses)
	}
	if c.Tap != nil {
		fmt.Fprintf(&b, " tap %s %v bridge %s", c.Tap.Device, c.Tap.Addresses, c.Tap.Bridge)
	}
	return b.String()
}

// inherited is what this process has got from the one before and not used yet.
type inherited struct {
	devices  map[tundev.Kind][]int
	sockets  []int
	sessions []byte // nil: none
}

// takeOver takes out of the service manager's store what the process before has put there. If that
// fails, or anything of it does not fit, the start is as any other.
func (d *Daemon) takeOver(context.Context) error {
	list := sdnotify.Inherited()
	if len(list) == 0 {
		return nil
	}
	d.undo.push(func() error { d.inherited.close(); return nil })
	names := make([]string, 0, len(list))
	for _, s := range list {
		names = append(names, s.Name)
	}
	err := errors.Join(d.notify.Forget(names), d.notify.Barrier(storePatience))
	if err == nil {
		d.inherited, err = sortInherited(list, place(d.config))
	} else {
		closeAll(list)
	}
	if err != nil {
		d.log.Warn("this start does not continue where the last process ended", zap.Error(err))
	}
	return nil
}

// sortInherited tells apart what is in the list. An error names what cannot be used; the rest can.
func sortInherited(list []sdnotify.Descriptor, place string) (inherited, error) {
	in := inherited{devices: make(map[tundev.Kind][]int)}
	var errs []error
	var kept handed
	for _, s := range list {
		switch {
		case s.Name == storedSessions:
			var err error
			kept, err = readHanded(s.FD)
			errs = append(errs, err)
		case strings.HasPrefix(s.Name, storedDevice+tundev.TUN.String()):
			in.devices[tundev.TUN] = append(in.devices[tundev.TUN], s.FD)
		case strings.HasPrefix(s.Name, storedDevice+tundev.TAP.String()):
			in.devices[tundev.TAP] = append(in.devices[tundev.TAP], s.FD)
		case strings.HasPrefix(s.Name, storedSocket):
			in.sockets = append(in.sockets, s.FD)
		default:
			_ = unix.Close(s.FD)
		}
	}
	if kept.Version != handoverVersion {
		if len(errs) == 0 {
			errs = append(errs, errors.New("its sessions are not in the store"))
		}
		in.close()
		return in, errors.Join(errs...)
	}
	in.sessions = kept.Sessions
	if kept.Place != place {
		in.closeDevices()
		errs = append(errs, fmt.Errorf("the devices have changed, and are made anew: %s instead of %s", place, kept.Place))
	}
	return in, errors.Join(errs...)
}

// readHanded reads and erases what the last process left in memory. It closes fd.
func readHanded(fd int) (h handed, err error) {
	secret, err := handover.Take(fd)
	if err != nil {
		return h, err
	}
	defer clear(secret)
	if err := gob.NewDecoder(bytes.NewReader(secret)).Decode(&h); err != nil {
		return handed{}, fmt.Errorf("continue the sessions of the last process: %w", err)
	}
	if h.Version != handoverVersion {
		return handed{}, fmt.Errorf("the last process was of another version: its format is %d, ours %d", h.Version, handoverVersion)
	}
	return h, nil
}

func (in *inherited) closeDevices() {
	for kind, fds := range in.devices {
		closeFDs(fds)
		delete(in.devices, kind)
	}
}

// close closes what was not used.
func (in *inherited) close() {
	in.closeDevices()
	closeFDs(in.sockets)
	clear(in.sessions)
	in.sockets, in.sessions = nil, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func closeAll(list []sdnotify.Descriptor) {
	for _, s := range list {
		_ = unix.Close(s.FD)
	}
}

// inheritDevice returns the device of the last process, or nil if there is none that can be used.
func (d *Daemon) inheritDevice(o tundev.Options) *tundev.Device {
	fds := d.inherited.devices[o.Kind]
	delete(d.inherited.devices, o.Kind)
	if fds == nil {
		return nil
	}
	dev, err := tundev.FromFDs(o, fds)
	if err != nil {
		d.log.Warn("the device is made anew", zap.Error(err))
		return nil
	}
	return dev
}

// inheritSockets returns the sockets of the last process, or nil if they cannot be used.
func (d *Daemon) inheritSockets(o udp.Options, lanes int) []*udp.Socket {
	fds := d.inherited.sockets
	d.inherited.sockets = nil
	if fds == nil {
		return nil
	}
	o.ReusePort = lanes > 1
	var sockets []*udp.Socket
	err := error(nil)
	if len(fds) != lanes {
		err = fmt.Errorf("there are %d sockets for %d lanes", len(fds), lanes)
	}
	for _, fd := range fds {
		if err != nil {
			_ = unix.Close(fd)
			continue
		}
		var s *udp.Socket
		if s, err = udp.FromFD(fd, o); err == nil {
			sockets = append(sockets, s)
			o.Port = s.Port()
		}
	}
	if err != nil {
		d.log.Warn("the UDP sockets are opened anew", zap.Error(errors.Join(err, closeSockets(sockets))))
		return nil
	}
	return sockets
}

// continueSessions gives the peers the sessions of the last process.
func (d *Daemon) continueSessions() {
	sessions := d.inherited.sessions
	d.inherited.sessions = nil
	if sessions == nil {
		return
	}
	defer clear(sessions)
	n, err := d.tunnel.Continue(sessions)
	if err != nil {
		d.log.Warn("the peers need new handshakes", zap.Error(err))
		return
	}
	d.log.Info("continuing where the last process ended", zap.Int("sessions", n))
}

// handOver leaves devices, sockets and sessions to the next process, and reports whether it could:
// the stop is the first half of a restart, and there is a service manager to keep them. If it could
// not, the instance is taken down as at any other stop.
func (d *Daemon) handOver() bool {
	if d.opts.Restart == nil || !d.opts.Restart() || d.notify == nil {
		return false
	}
	list, err := d.duplicates()
	defer func() { closeAll(list) }()
	if err == nil {
		list, err = d.addSessions(list)
	}
	if err == nil {
		err = errors.Join(d.notify.Store(list), d.notify.Barrier(storePatience))
	}
	if err == nil {
		return true
	}
	d.log.Warn("the next start cannot continue where this process ends", zap.Error(err))
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	d.tell(d.notify.Forget(names))
	return false
}

// duplicates returns duplicates of the devices' and sockets' descriptors under their names. The
// caller closes them, also after an error.
func (d *Daemon) duplicates() (list []sdnotify.Descriptor, err error) {
	for _, dev := range d.devices {
		fds, err := dev.Dup()
		for i, fd := range fds {
			list = append(list, sdnotify.Descriptor{Name: storedDevice + dev.Kind().String() + "-" + strconv.Itoa(i), FD: fd})
		}
		if err != nil {
			return list, err
		}
	}
	for i, s := range d.sockets {
		fd, err := s.Dup()
		if err != nil {
			return list, err
		}
		list = append(list, sdnotify.Descriptor{Name: storedSocket + strconv.Itoa(i), FD: fd})
	}
	return list, nil
}

// addSessions ends the tunnel and adds its sessions to the list.
func (d *Daemon) addSessions(list []sdnotify.Descriptor) ([]sdnotify.Descriptor, error) {
	sessions, err := d.tunnel.Suspend(suspendPatience)
	if err != nil {
		return list, err
	}
	defer clear(sessions)
	var out bytes.Buffer
	err = gob.NewEncoder(&out).Encode(handed{Version: handoverVersion, Place: place(d.config), Sessions: sessions})
	if err != nil {
		return list, err
	}
	defer clear(out.Bytes())
	fd, err := handover.Put(out.Bytes())
	if err != nil {
		return list, err
	}
	return append(list, sdnotify.Descriptor{Name: storedSessions, FD: fd}), nil
}
