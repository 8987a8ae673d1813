package compat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// sockets is where WireGuard's tools look for devices.
const sockets = "/var/run/wireguard"

// privateEnv marks the process that has mounts of its own.
const privateEnv = "TUND_COMPAT_PRIVATE"

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(privateEnv) == "" {
		os.Exit(again())
	}
	os.Exit(run(m))
}

// again runs this test program in a mount namespace of its own.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), privateEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	if os.Geteuid() == 0 {
		if err := hide(); err != nil {
			fmt.Fprintln(os.Stderr, "mounts of our own:", err)
			return 1
		}
	}
	return testnet.RunSuite(m, 0)
}

// hide puts an empty directory over the one that all devices share.
func hide() error {
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tund", sockets, "tmpfs", 0, "mode=0755")
}
