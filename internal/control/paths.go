package control

import (
	"fmt"
	"os"
	"path/filepath"

	"tund/internal/names"
)

// defaultRunDir holds one directory per running instance.
const defaultRunDir = "/run/tund"

// socketName and lockName are the two files of an instance's directory that this package owns.
const (
	socketName = "control.sock"
	lockName   = "control.lock"
)

// RunDir returns the directory of all instances: TUND_RUN_DIR, or /run/tund.
func RunDir() string {
	if dir := os.Getenv("TUND_RUN_DIR"); dir != "" {
		return dir
	}
	return defaultRunDir
}

// InstanceDir returns the directory of one instance, which other packages may keep files in as
// well.
func InstanceDir(runDir, instance string) string { return filepath.Join(runDir, instance) }

// SocketPath returns where the control socket of an instance is.
func SocketPath(runDir, instance string) string {
	return filepath.Join(runDir, instance, socketName)
}

// CheckInstanceName reports why name cannot name an instance.
func CheckInstanceName(name string) error {
	if err := names.Instance(name); err != nil {
		return fmt.Errorf("instance name %q %w", clip(name, 2*names.MaxInstance), err)
	}
	return nil
}
