package capture

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Create opens a file for packets or keys, which nobody but its owner may read: an existing one is
// emptied and becomes as private. Symbolic links, files of other users and files with several names
// are refused, because root may be writing into the directory of somebody else.
func Create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: name the file itself", path)
	}
	if err != nil {
		return nil, err
	}
	if err := empty(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// empty makes a regular file empty and private. What is not regular, a pipe, it leaves as it is.
func empty(f *os.File) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user, who could read what is written: remove it, or name another file", f.Name())
	case stat.Nlink > 1:
		return fmt.Errorf("%s has other hard links, whose content would be lost: remove it, or name another file", f.Name())
	}
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	return f.Truncate(0)
}

// niceness is the priority at which packets are put into files: the path of the packets themselves
// comes first, and those that cannot be taken in time are lost to the capture alone.
const niceness = 19

// Yield lowers the priority of all threads of the process, and thereby of those to come.
func Yield() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
		return
	}
	for _, t := range tasks {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, niceness) // without, it is only less polite
		}
	}
}

// ParseSize reads a number of bytes with one of the suffixes k, M, G, which stand for powers of
// 1024.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmg", text[n-1]|0x20); i >= 0 {
			digits, shift = text[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%s is not a size: want a number of bytes, as in 500M or 2G", strconv.QuoteToASCII(text))
	}
	return n << shift, nil
}
