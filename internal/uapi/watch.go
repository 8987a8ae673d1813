package uapi

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watch notices when the socket file goes.
type watch struct {
	inotify *os.File
	removed chan struct{} // closed when the file is gone
	done    chan struct{} // closed when the goroutine has ended
}

// watched are the events of the directory after which the file may be gone.
const watched = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// newWatch watches the directory rather than the file, whose inode outlives its name for as long as
// we listen.
func newWatch(file socketFile) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the WireGuard socket: %w", os.NewSyscallError("inotify_init1", err))
	}
	w := &watch{
		inotify: os.NewFile(uintptr(fd), "inotify"),
		removed: make(chan struct{}), done: make(chan struct{}),
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(file.path), watched); err != nil {
		_ = w.inotify.Close()
		return nil, fmt.Errorf("watch the WireGuard socket: %w", os.NewSyscallError("inotify_add_watch", err))
	}
	go w.run(file)
	return w, nil
}

// run looks at the file after each event, until it is gone or the watch is closed.
func (w *watch) run(file socketFile) {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		if !file.ours() {
			close(w.removed)
			return
		}
		if _, err := w.inotify.Read(buf); err != nil {
			return // closed
		}
	}
}

// close ends the watch; removed stays as it is.
func (w *watch) close() error {
	err := w.inotify.Close()
	<-w.done
	return err
}
