package acquire

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"strings"
	"time"

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

// Place describes the devices of a configuration, as far as a device that exists cannot be made
// another or the kernel would keep what another configuration set.
func Place(c *config.Config) string {
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

// Inherited is what this process has got from the one before and not used yet. The zero value is
// nothing.
type Inherited struct {
	devices  map[tundev.Kind][]int
	sockets  []int
	sessions []byte // nil: none
}

// Take takes out of the service manager's store what the process before has put there, for an
// instance at the given Place. If there is nothing, the result is the zero Inherited. An error says
// what cannot be used; the rest can.
func Take(n *sdnotify.Notifier, place string) (Inherited, error) {
	list := sdnotify.Inherited()
	if len(list) == 0 {
		return Inherited{}, nil
	}
	names := make([]string, 0, len(list))
	for _, s := range list {
		names = append(names, s.Name)
	}
	if err := errors.Join(n.Forget(names), n.Barrier(storePatience)); err != nil {
		closeAll(list)
		return Inherited{}, err
	}
	return sortInherited(list, place)
}

// sortInherited tells apart what is in the list. An error names what cannot be used; the rest can.
func sortInherited(list []sdnotify.Descriptor, place string) (Inherited, error) {
	in := Inherited{devices: make(map[tundev.Kind][]int)}
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
			errs = append(errs, errors.New("the store has no sessions"))
		}
		in.Close()
		return in, errors.Join(errs...)
	}
	in.sessions = kept.Sessions
	if kept.Place != place {
		in.closeDevices()
		errs = append(errs, fmt.Errorf("the devices have changed, and are recreated: %s instead of %s", place, kept.Place))
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

func (in *Inherited) closeDevices() {
	for kind, fds := range in.devices {
		closeFDs(fds)
		delete(in.devices, kind)
	}
}

// Close closes what was not used.
func (in *Inherited) Close() {
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

// Device returns the device of the last process, which is then the caller's, or nil if there is
// none. An error says why one that is there cannot be used.
func (in *Inherited) Device(o tundev.Options) (*tundev.Device, error) {
	fds := in.devices[o.Kind]
	delete(in.devices, o.Kind)
	if fds == nil {
		return nil, nil
	}
	return tundev.FromFDs(o, fds)
}

// Sockets returns the sockets of the last process, which are then the caller's, or nil if there are
// none. An error says why those that are there cannot be used.
func (in *Inherited) Sockets(o udp.Options, lanes int) ([]*udp.Socket, error) {
	fds := in.sockets
	in.sockets = nil
	if fds == nil {
		return nil, nil
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
		return nil, errors.Join(err, CloseSockets(sockets))
	}
	return sockets, nil
}

// Sessions returns the sessions of the last process, as tunnel.Suspend returned them, or nil if
// there are none or they were returned before. They are secret: the caller erases them.
func (in *Inherited) Sessions() []byte {
	sessions := in.sessions
	in.sessions = nil
	return sessions
}
