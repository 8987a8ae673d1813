package linkbench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// directory is where the files of a run lie: keys, configurations and sockets of tund. Its lock
// keeps two runs from spoiling each other's figures. The kernel releases it when the process ends,
// and what a killed run has left is removed by the next.
type directory struct {
	path string
	lock *os.File
}

// claimAttempts bounds how often the lock file may vanish while it is being locked, because another
// run has just ended.
const claimAttempts = 10

// claim makes the directory, empty, for this process.
func claim(path string) (*directory, error) {
	if path == "" {
		path = DefaultDir
	}
	for range claimAttempts {
		d, again, err := tryClaim(path)
		if !again {
			return d, err
		}
	}
	return nil, fmt.Errorf("lock %s: other runs come and go (try again)", path)
}

func tryClaim(path string) (d *directory, again bool, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, false, fmt.Errorf("make the directory of the measurement: %w", err)
	}
	name := filepath.Join(path, "lock")
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("lock the directory of the measurement: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, fmt.Errorf("another measurement is running: it has locked %s (wait until it has ended)", name)
		}
		return nil, false, fmt.Errorf("lock %s: %w", name, err)
	}
	ours, err := lock.Stat()
	there, err2 := os.Stat(name)
	if err != nil || err2 != nil || !os.SameFile(ours, there) {
		_ = lock.Close() // of a run that has removed it between our two calls
		return nil, true, nil
	}
	d = &directory{path: path, lock: lock}
	return d, false, d.empty()
}

// empty removes everything but the lock.
func (d *directory) empty() error {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		if e.Name() != "lock" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.path, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("remove what an earlier measurement has left: %w", err)
	}
	return nil
}

// release removes the directory.
func (d *directory) release() {
	_ = os.RemoveAll(d.path) // what is left is removed by the next run
	_ = d.lock.Close()
}
