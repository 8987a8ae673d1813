// Package rundir knows the directory in which running instances have their sockets and locks: where
// it is, what is in it, and which process holds which instance.
//
// It makes, locks and removes directories and the lock; the sockets are bound by whoever answers on
// them (internal/control). Each instance has one directory below that of all:
//
//	/run/tund/office/control.lock   held by the process that is the instance
//	/run/tund/office/control.sock   for tunctl
//	/run/tund/office/agent.sock     for tund-agent, with [agent]
//
// Functions may be called from several goroutines and processes; a Claim belongs to one.
//
// Sources: flock(2).
package rundir

import (
	"fmt"
	"os"
	"path/filepath"

	"tund/internal/names"
)

// standard holds one directory per running instance.
const standard = "/run/tund"

// The files in the directory of an instance.
const (
	controlSocket = "control.sock"
	agentSocket   = "agent.sock"
	// DNSFile says which DNS servers the instance wants its device to have (internal/resolved).
	DNSFile  = "dns"
	lockName = "control.lock"
)

// Path returns the directory of all instances: TUND_RUN_DIR, or /run/tund.
func Path() string {
	if dir := os.Getenv("TUND_RUN_DIR"); dir != "" {
		return dir
	}
	return standard
}

// Instance returns the directory of one instance, which other packages may keep files in as well.
func Instance(runDir, instance string) string { return filepath.Join(runDir, instance) }

// ControlSocket returns where the control socket of an instance is.
func ControlSocket(runDir, instance string) string {
	return filepath.Join(runDir, instance, controlSocket)
}

// AgentSocket returns where the socket for the agent of an instance is.
func AgentSocket(runDir, instance string) string { return filepath.Join(runDir, instance, agentSocket) }

// CheckName reports why name cannot name an instance.
func CheckName(name string) error {
	err := names.Instance(name)
	if err == nil {
		return nil
	}
	if most := 2 * names.MaxInstance; len(name) > most {
		name = name[:most] + "…"
	}
	return fmt.Errorf("instance name %q %w", name, err)
}
