// Package sdnotify reports the state of the daemon to systemd: started, reloading, stopping, alive.
//
// It implements the five messages tund needs and nothing else: no file descriptor store, no socket
// activation. Where NOTIFY_SOCKET is not set, which is everywhere but in a Type=notify unit, each
// call does nothing.
//
// A Notifier may be used from several goroutines; a nil one is allowed and silent.
//
// Sources: sd_notify(3), systemd.service(5) on Type=notify and WatchdogSec=.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier sends messages to the service manager.
type Notifier struct {
	addr *net.UnixAddr
}

// FromEnvironment returns a notifier for NOTIFY_SOCKET, or nil (silent) when it is not set. A value
// that is neither a path nor an abstract name is an error; vsock is for virtual machines and not
// supported.
func FromEnvironment() (*Notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	// Package net takes @ for the zero byte of an abstract name itself.
	if name[0] != '/' && name[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET=%q is neither a path nor an abstract name", name)
	}
	return &Notifier{addr: &net.UnixAddr{Name: name, Net: "unixgram"}}, nil
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

// send sends one datagram. The socket is made anew: messages are rare, and systemd may have been
// restarted.
func (n *Notifier) send(message string) error {
	if n == nil {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
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
