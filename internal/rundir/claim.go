package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tund/internal/unixsock"
)

// ErrRunning is wrapped by the error of Take when another process holds the instance.
var ErrRunning = errors.New("already running")

// groupName is the group whose members may read; used when it exists.
const groupName = "tund"

// claimTries bounds how often Take starts again because the directory or the lock vanished under
// it: each time another process was just stopping, and a second one in the same moment is already
// unlikely.
const claimTries = 20

// Claim is the right to be an instance: its directory, and a lock file in it that this process
// holds. The kernel gives the lock up when the process dies, however it dies, so a claim is never
// stale.
type Claim struct {
	dir  string
	lock *os.File
	gid  int // group for the socket, or -1 to leave it
}

// Take makes the directory of an instance and locks it. When another process holds it, the error
// wraps ErrRunning. The lock file is removed on release, so a
// lock won on a file that no longer has the name is worthless and the race is run again.
func Take(runDir, instance string) (*Claim, error) {
	if err := CheckName(instance); err != nil {
		return nil, err
	}
	c := &Claim{dir: Instance(runDir, instance), gid: ReadersGroup()}
	path := filepath.Join(c.dir, lockName)
	for range claimTries {
		if err := c.makeDir(runDir); err != nil {
			return nil, err
		}
		lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory went away after makeDir
		}
		if err != nil {
			return nil, fmt.Errorf("lock instance %q: %w", instance, err)
		}
		won, err := tryLock(lock, path)
		if err != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("instance %q: %w", instance, err)
		}
		if !won {
			_ = lock.Close()
			continue
		}
		c.lock = lock
		if err := c.sign(); err != nil {
			c.Release()
			return nil, fmt.Errorf("lock instance %q: %w", instance, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("lock instance %q: %s changed %d times while it was being locked", instance, path, claimTries)
}

// Dir returns the directory of the instance.
func (c *Claim) Dir() string { return c.dir }

// Group returns the id of the group that sockets in the directory are for, or -1 for that of the
// process.
func (c *Claim) Group() int { return c.gid }

// tryLock locks the open file; won is false when path names another file by now.
func tryLock(lock *os.File, path string) (won bool, err error) {
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, fmt.Errorf("%w%s (%s is locked): stop it first, or choose another name", ErrRunning, holder(lock), path)
		}
		return false, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	held, err := lock.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(held, named), nil
}

// maxPID bounds what is read of a lock file, in bytes: a process id has at most 10 digits.
const maxPID = 16

// holder names the process that wrote its id to the lock file; "" when that cannot be read.
func holder(lock *os.File) string {
	text, err := io.ReadAll(io.LimitReader(lock, maxPID))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" as process %d", pid)
}

// sign writes our process id to the lock file, for the message that another starter prints.
func (c *Claim) sign() error {
	if err := c.lock.Truncate(0); err != nil {
		return err
	}
	_, err := c.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// makeDir makes the run directory and the instance's own, or checks the one that systemd or an
// earlier run left.
func (c *Claim) makeDir(runDir string) error {
	if _, err := os.Stat(runDir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(runDir, 0o755); err != nil {
			return fmt.Errorf("make run directory: %w (TUND_RUN_DIR names another place)", err)
		}
		_ = os.Chmod(runDir, 0o755) // whatever the umask: what is in it guards itself
	}
	err := os.Mkdir(c.dir, 0o750)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make run directory: %w (TUND_RUN_DIR names another place)", err)
	}
	info, err := os.Lstat(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process removed it; the caller meets that again and starts over
	}
	if err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is in the way: it is not a directory (remove it)", c.dir)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != 0 && owner != os.Geteuid() {
		return foreignDir{c.dir, owner}
	}
	if owner == os.Geteuid() {
		if c.gid >= 0 {
			_ = os.Chown(c.dir, -1, c.gid) // without CAP_CHOWN the group stays, and only we get in
		}
		if info.Mode().Perm() != 0o750 {
			if err := os.Chmod(c.dir, 0o750); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("make run directory: %w", err)
			}
		}
	}
	return nil
}

// foreignDir is the error about an instance's directory that belongs to another user.
type foreignDir struct {
	dir string
	uid int
}

func (e foreignDir) Error() string {
	return fmt.Sprintf("%s belongs to uid %d: refusing to put a control socket there", e.dir, e.uid)
}

// Hold keeps an instance of runDir ("": Path) from starting while what it left behind is removed,
// and removes its files in the run directory when released. When the instance runs, the error wraps
// ErrRunning. Unlike Take it also works for root in the directory of an instance that runs as
// another user, as the service does: there it makes no file, and changes none, so that nothing
// which that user prepared can lead it elsewhere.
func Hold(runDir, instance string) (release func(), err error) {
	if runDir == "" {
		runDir = Path()
	}
	c, err := Take(runDir, instance)
	var foreign foreignDir
	switch {
	case err == nil:
		return c.clean, nil
	case !errors.As(err, &foreign):
		return nil, err
	}
	path := filepath.Join(foreign.dir, lockName)
	// A FIFO would block.
	lock, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() { _ = os.Remove(foreign.dir) }, nil
	case err != nil:
		return nil, fmt.Errorf("lock instance %q: %w", instance, err)
	}
	if _, err := tryLock(lock, path); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("instance %q: %w", instance, err)
	}
	return (&Claim{dir: foreign.dir, lock: lock}).clean, nil
}

// clean removes the sockets and files that a killed daemon left, and releases.
func (c *Claim) clean() {
	for _, name := range []string{controlSocket, agentSocket} {
		path := filepath.Join(c.dir, name)
		if there, err := unixsock.Exists(path); err == nil && there {
			_ = os.Remove(path)
		}
	}
	_ = os.Remove(filepath.Join(c.dir, DNSFile))
	c.Release()
}

// Release removes the lock while it is held, then lets go of it, and removes the directory if
// nothing else is in it.
func (c *Claim) Release() {
	_ = os.Remove(filepath.Join(c.dir, lockName))
	_ = c.lock.Close()
	// Fails when other files are there, or when the run directory is not ours to change.
	_ = os.Remove(c.dir)
}

// ReadersGroup returns the id of the group that may read, or -1 to leave groups as they are.
func ReadersGroup() int {
	if os.Geteuid() != 0 {
		return -1
	}
	group, err := user.LookupGroup(groupName)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return -1
	}
	return gid
}
