package control

import (
	"fmt"
	"os"
	"path/filepath"
)

// defaultRunDir holds one directory per running instance.
const defaultRunDir = "/run/tund"

// socketName and lockName are the two files of an instance's directory that this package owns.
const (
	socketName = "control.sock"
	lockName   = "control.lock"
)

// maxSocketPath is what sun_path holds besides its final zero (unix(7)).
const maxSocketPath = 107

// maxInstanceName bounds a name well below NAME_MAX, so that it fits in a socket path.
const maxInstanceName = 64

// RunDir returns the directory of all instances: TUND_RUN_DIR, or /run/tund.
func RunDir() string {
	if dir := os.Getenv("TUND_RUN_DIR"); dir != "" {
		return dir
	}
	return defaultRunDir
}

// InstanceDir returns the directory of one instance, which other packages may keep files in as well.
func InstanceDir(runDir, instance string) string { return filepath.Join(runDir, instance) }

// SocketPath returns where the control socket of an instance is.
func SocketPath(runDir, instance string) string {
	return filepath.Join(runDir, instance, socketName)
}

// CheckInstanceName reports why name cannot name an instance. The letters are those wg-quick allows in
// interface names, so that a name is always one path element and one word on a command line.
func CheckInstanceName(name string) error {
	if name == "" {
		return fmt.Errorf("instance name is empty")
	}
	if len(name) > maxInstanceName {
		return fmt.Errorf("instance name is %d bytes long (at most %d)", len(name), maxInstanceName)
	}
	if name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("instance name %q begins with %q", name, name[0])
	}
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9',
			r == '_', r == '=', r == '+', r == '.', r == '-':
		default:
			return fmt.Errorf("instance name %q holds %q (letters, digits and _=+.- are possible)", name, r)
		}
	}
	return nil
}
