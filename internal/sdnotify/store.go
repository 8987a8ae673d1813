package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The file descriptor store of the service manager keeps descriptors while a service restarts, and
// passes them to its next process (sd_notify(3), FDSTORE=1; sd_listen_fds(3)).

const (
	// firstListenFD is SD_LISTEN_FDS_START.
	firstListenFD = 3
	// maxListenFDs bounds the descriptors taken from the environment: a device and a socket for
	// each of 256 lanes, for two devices, and the sessions.
	maxListenFDs = 1024
)

// Descriptor is a descriptor that the service manager kept, with the name it was stored under. It
// belongs to whoever receives it.
type Descriptor struct {
	Name string
	FD   int
}

// Inherited returns the descriptors that the service manager has passed to this process, set to
// close-on-exec. It removes the variables that name them, so that a second call returns nothing.
func Inherited() []Descriptor {
	count, names := os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	pid := os.Getenv("LISTEN_PID")
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} {
		_ = os.Unsetenv(name)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n <= 0 || n > maxListenFDs || pid != strconv.Itoa(os.Getpid()) {
		return nil // none, or meant for a process from which we inherited the environment
	}
	list := make([]Descriptor, 0, n)
	for i := range n {
		d := Descriptor{FD: firstListenFD + i}
		if i < len(names) {
			d.Name = names[i]
		}
		if _, err := unix.FcntlInt(uintptr(d.FD), unix.F_SETFD, unix.FD_CLOEXEC); err == nil {
			list = append(list, d)
		}
	}
	return list
}

// Store gives the service manager duplicates of descriptors, to be kept under their names and
// passed to the next process of the service. Without NOTIFY_SOCKET it fails. Whether the manager
// keeps them depends on FileDescriptorStoreMax= of the unit, which it does not tell.
func (n *Notifier) Store(list []Descriptor) error {
	if n == nil {
		return errNoManager
	}
	for _, d := range list {
		// Without FDPOLL=0 the manager drops a socket as soon as an ICMP error is queued there.
		if err := n.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+d.Name, d.FD); err != nil {
			return err
		}
	}
	return nil
}

// Forget has the service manager drop the descriptors with the given names from its store.
func (n *Notifier) Forget(names []string) error {
	if n == nil {
		return errNoManager
	}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := n.send("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
			return err
		}
	}
	return nil
}

var errNoManager = errors.New("no service manager: NOTIFY_SOCKET is not set")

// Barrier waits until the service manager has processed everything sent so far (BARRIER=1), at most
// for the given time.
func (n *Notifier) Barrier(patience time.Duration) error {
	if n == nil {
		return errNoManager
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer func() { _ = unix.Close(pipe[0]) }()
	err := n.send("BARRIER=1", pipe[1])
	_ = unix.Close(pipe[1]) // the manager's is now the last
	if err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		fds := []unix.PollFd{{Fd: int32(pipe[0])}} // POLLHUP comes without being asked for
		got, err := unix.Poll(fds, max(int(left.Milliseconds()), 0))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("notify systemd: %w", err)
		case got > 0:
			return nil
		}
		if left <= 0 {
			return fmt.Errorf("notify systemd: no confirmation within %v", patience)
		}
	}
}
