// Package sdnotify reports the state of the daemon to systemd (started, reloading, stopping,
// alive), and passes descriptors to the next process of the service through systemd's store.
//
// It implements the messages that tund needs and nothing else: no socket activation. Where
// NOTIFY_SOCKET is not set, which is everywhere but in a Type=notify unit, the messages about the
// state do nothing, and those about the store fail.
//
// A Notifier may be used from several goroutines; a nil one is allowed and silent.
//
// Sources: sd_notify(3), systemd.service(5) on Type=notify and WatchdogSec=.
package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier sends messages to the service manager.
type Notifier struct {
	path string
}

// FromEnvironment returns a notifier for NOTIFY_SOCKET, or nil (silent) when it is not set. A value
// that is neither a path nor an abstract name is an error; vsock is for virtual machines and not
// supported.
func FromEnvironment() (*Notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if name[0] != '/' && name[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET=%q is neither a path nor an abstract name", name)
	}
	return &Notifier{path: name}, nil
}

// Ready says that the start, or a reload, is complete. status is one line for `systemctl status`,
// or "".
func (n *Notifier) Ready(status string) error {
	if status == "" {
		return n.send("READY=1")
	}
	return n.send("READY=1\n" + statusLine(status))
}

// Reloading says that the configuration is being read again; Ready ends it. The time it carries is
// CLOCK_MONOTONIC, by which systemd tells this reload from an earlier one.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return n.send("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10))
}

// Stopping says that the daemon is on its way out.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Status replaces the line shown by `systemctl status`.
func (n *Notifier) Status(status string) error { return n.send(statusLine(status)) }

// Watchdog says that the daemon is alive; see WatchdogInterval.
func (n *Notifier) Watchdog() error { return n.send("WATCHDOG=1") }

// statusLine keeps a text on one line, so that it cannot carry a second assignment.
func statusLine(status string) string {
	return "STATUS=" + strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, status)
}

// sendPatience is how long a message may wait for room in the service manager's socket.
const sendPatience = time.Second

// send sends one datagram, with duplicates of descriptors attached. A new socket is made each time:
// messages are rare, and systemd may have been restarted.
func (n *Notifier) send(message string, fds ...int) error {
	if n == nil {
		return nil
	}
	if err := n.sendTo(message, fds); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// sendTo makes the system calls itself because package net sends no descriptors on a datagram
// socket that is connected.
func (n *Notifier) sendTo(message string, fds []int) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	patience := unix.NsecToTimeval(sendPatience.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		// A leading @ is taken for the zero byte of an abstract name.
		err := unix.Sendmsg(socket, []byte(message), rights, &unix.SockaddrUnix{Name: n.path}, 0)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// WatchdogInterval returns how often Watchdog is to be called: half of what systemd allows. It is 0
// when systemd does not watch this process.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // meant for another process, from which we inherited the environment
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}
