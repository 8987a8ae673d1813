package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"tund/internal/buildinfo"
	"tund/internal/daemon"
	"tund/internal/heap"
	"tund/internal/names"
)

// The environment of a WireGuard program, as wireguard-go has it.
const (
	// Verbose (or debug), error, silent; here also info and warn.
	envLogLevel   = "LOG_LEVEL"
	envForeground = "WG_PROCESS_FOREGROUND" // 1: as -f
	envTun        = "WG_TUN_FD"             // descriptor of an open TUN device to use
	envSocket     = "WG_UAPI_FD"            // descriptor of a listening socket to use
)

// wireguardLevel turns LOG_LEVEL into one of ours; silent is "".
func wireguardLevel(level string) string {
	switch level {
	case "verbose", "debug":
		return "debug"
	case "error", "info", "warn":
		return level
	case "silent":
		return ""
	}
	return "warn"
}

// serveInterface runs `tund [-f] IFNAME`: a device for WireGuard's tools. Without -f it returns
// when the device exists and answers, and leaves a process in the background.
func serveInterface(c command, stderr io.Writer) int {
	if !c.foreground && os.Getenv(envForeground) != "1" {
		return background(stderr)
	}
	outliveReaders()
	say := readiness()
	o, err := interfaceOptions(c)
	if err != nil {
		fmt.Fprintf(stderr, "tund: %v\n", err)
		say(err)
		return exitFailure
	}
	schedule()
	heap.Suit(0)
	keepMemory(o.Log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)  // a second signal ends the process at once
	signal.Ignore(syscall.SIGHUP) // there is no file to read again
	o.Interface.Ready = func() { say(nil) }
	if err := daemon.RunInterface(ctx, o); err != nil {
		o.Log.Error("ended: " + explained(err))
		say(err)
		return exitCode(err)
	}
	return exitOK
}

// interfaceOptions reads what the environment says.
func interfaceOptions(c command) (daemon.Options, error) {
	o := daemon.Options{Version: buildinfo.Version(version), Interface: &daemon.Interface{Name: c.device, Tun: -1}}
	level := wireguardLevel(os.Getenv(envLogLevel))
	log, at, err := newLogger(c.logFormat, cmp.Or(level, "error"), os.Stderr, toJournal(2))
	if err != nil {
		return o, err
	}
	if level == "" {
		log = zap.NewNop()
	}
	o.Log, o.Level = log, at
	if o.Interface.Tun, err = descriptor(envTun); err != nil {
		return o, err
	}
	socket, err := descriptor(envSocket)
	if socket >= 0 {
		syscall.CloseOnExec(socket)
		o.Interface.Socket = os.NewFile(uintptr(socket), "WireGuard socket")
	}
	return o, err
}

// descriptor reads the number of an open descriptor from the environment; -1 is none.
func descriptor(name string) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return -1, nil
	}
	fd, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1, fmt.Errorf("%s=%s: not the number of a file descriptor", name, text)
	}
	return int(fd), nil
}

// checkInterface refuses names that WireGuard's tools cannot use.
func checkInterface(name string) error {
	// wg%d: the kernel numbers it.
	if err := names.Device(strings.ReplaceAll(name, "%", "_")); err != nil {
		return fmt.Errorf("interface name %q %w", name, err)
	}
	return nil
}

var errNoWord = errors.New("the background process ended without reporting an error")
