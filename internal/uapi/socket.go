package uapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"tund/internal/unixsock"

	"golang.org/x/sys/unix"
)

// socketFile is the name of our socket in the file system, and what tells it from another of that
// name.
type socketFile struct {
	path     string
	dev, ino uint64
}

// open makes the listening socket, or takes over the one in o.File.
func open(o Options) (*net.UnixListener, socketFile, error) {
	if o.File != nil {
		return inherit(o.File)
	}
	path := filepath.Join(o.Dir, o.Device+".sock")
	unlock, err := prepareDir(o.Dir)
	if err != nil {
		return nil, socketFile{}, fmt.Errorf("directory of the WireGuard socket: %w", err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, socketFile{}, err
	}
	for try := 1; ; try++ {
		listener, file, err := listen(path)
		if err == nil {
			return listener, file, nil
		}
		// wg(8) deletes a socket that does not answer, as ours is between bind and listen.
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return nil, socketFile{}, fmt.Errorf("WireGuard socket: %w", err)
		}
	}
}

// listen makes a socket for root at path, and notes which file it is.
func listen(path string) (*net.UnixListener, socketFile, error) {
	listener, err := unixsock.Listen(path, unixsock.Options{Mode: 0o600, Group: -1})
	if err != nil {
		return nil, socketFile{}, err
	}
	file, err := identify(path)
	if err != nil {
		_ = listener.Close()
	}
	return listener, file, err
}

// prepareDir makes the directory and locks it, so that of two daemons that find a stale socket one
// is second. The lock is on the directory itself: another file in it would be one that clients have
// to skip.
func prepareDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if err := os.Chmod(dir, 0o755); err != nil { // the umask may have taken something away
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		_ = d.Close()
		return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	return func() { _ = d.Close() }, nil
}

// RemoveStale removes the socket that a killed daemon left for a device in dir ("": Dir). One that
// answers, and one that is not there, are no error.
func RemoveStale(dir, device string) error {
	if dir == "" {
		dir = Dir
	}
	path := filepath.Join(dir, device+".sock")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := prepareDir(dir)
	if err != nil {
		return fmt.Errorf("directory of the WireGuard socket: %w", err)
	}
	defer unlock()
	if err := removeStale(path); err != nil && !errors.Is(err, ErrInUseSocket) {
		return err
	}
	return nil
}

// removeStale removes a socket on which nobody answers.
func removeStale(path string) error {
	if there, err := unixsock.Exists(path); err != nil || !there {
		return err
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errInUseSocket(path)
	case errors.Is(err, unix.EAGAIN): // its queue of connections is full
		return errInUseSocket(path)
	case !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("cannot tell whether the WireGuard socket is in use: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale WireGuard socket: %w", err)
	}
	return nil
}

// inherit takes over a listening socket.
func inherit(file *os.File) (*net.UnixListener, socketFile, error) {
	defer func() { _ = file.Close() }()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, socketFile{}, fmt.Errorf("inherited WireGuard socket (WG_UAPI_FD): %w", err)
	}
	l, ok := listener.(*net.UnixListener)
	if !ok {
		_ = listener.Close()
		return nil, socketFile{}, errors.New("inherited WireGuard socket (WG_UAPI_FD): not a unix socket")
	}
	l.SetUnlinkOnClose(false)
	id, err := identify(l.Addr().String())
	if err != nil {
		_ = l.Close()
		return nil, socketFile{}, fmt.Errorf("inherited WireGuard socket (WG_UAPI_FD): %w", err)
	}
	return l, id, nil
}

// identify notes which file a path names now.
func identify(path string) (socketFile, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return socketFile{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return socketFile{path: path, dev: st.Dev, ino: st.Ino}, nil
}

// ours reports whether the path still names our socket.
func (f socketFile) ours() bool {
	now, err := identify(f.path)
	return err == nil && now == f
}

// remove removes the file if it is still ours.
func (f socketFile) remove() error {
	if !f.ours() {
		return nil
	}
	return os.Remove(f.path)
}
