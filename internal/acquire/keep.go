package acquire

import (
	"bytes"
	"encoding/gob"
	"errors"
	"strconv"
	"time"

	"tund/internal/handover"
	"tund/internal/sdnotify"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// Left is what a process leaves to the next one.
type Left struct {
	Place   string // of the instance
	Devices []*tundev.Device
	Sockets []*udp.Socket
	// Suspend ends the tunnel within that time and returns its sessions, which are erased when they
	// are in the store.
	Suspend func(time.Duration) ([]byte, error)
}

// Keep puts it into the service manager's store. After an error nothing is there, and the tunnel
// may have ended. The devices and sockets stay the caller's.
func (l Left) Keep(n *sdnotify.Notifier) error {
	list, err := l.duplicates()
	defer func() { closeAll(list) }()
	if err == nil {
		list, err = l.addSessions(list)
	}
	if err == nil {
		err = errors.Join(n.Store(list), n.Barrier(storePatience))
	}
	if err == nil {
		return nil
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	return errors.Join(err, n.Forget(names))
}

// duplicates returns duplicates of the devices' and sockets' descriptors under their names. The
// caller closes them, also after an error.
func (l Left) duplicates() (list []sdnotify.Descriptor, err error) {
	for _, dev := range l.Devices {
		fds, err := dev.Dup()
		for i, fd := range fds {
			list = append(list, sdnotify.Descriptor{Name: storedDevice + dev.Kind().String() + "-" + strconv.Itoa(i), FD: fd})
		}
		if err != nil {
			return list, err
		}
	}
	for i, s := range l.Sockets {
		fd, err := s.Dup()
		if err != nil {
			return list, err
		}
		list = append(list, sdnotify.Descriptor{Name: storedSocket + strconv.Itoa(i), FD: fd})
	}
	return list, nil
}

// addSessions ends the tunnel and adds its sessions to the list.
func (l Left) addSessions(list []sdnotify.Descriptor) ([]sdnotify.Descriptor, error) {
	sessions, err := l.Suspend(suspendPatience)
	if err != nil {
		return list, err
	}
	defer clear(sessions)
	var out bytes.Buffer
	err = gob.NewEncoder(&out).Encode(handed{Version: handoverVersion, Place: l.Place, Sessions: sessions})
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
