// Package confine removes rights that a running daemon does not need: access to most files, and
// other processes' access to its memory.
//
// It restricts the process to given files with Landlock, where the kernel has it (5.13 and later),
// and keeps other processes of the same user from reading its memory. It does not change the user,
// capabilities or system calls, which the service manager does (packaging/tund@.service).
//
// None of this can be undone. Both functions concern the whole process with all its threads.
//
// Sources: landlock(7), prctl(2) on PR_SET_DUMPABLE, kernel
// Documentation/userspace-api/landlock.rst.
package confine

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Undumpable keeps the memory of this process, which holds keys, out of core dumps and out of reach
// of other processes of its user (ptrace(2), /proc/PID/mem). A program that is executed later
// starts over.
func Undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect the memory of this process from others: prctl(PR_SET_DUMPABLE): %w", err)
	}
	return nil
}

// Tree names what a process may still do with files. Paths that do not exist are passed over.
type Tree struct {
	Read []string // directories below which files may be read
	// Directories below which files, directories and sockets may be made, changed and removed.
	Write  []string
	Device []string // devices that may be opened, read, written and configured
}

const (
	read  = ll.AccessFSReadFile | ll.AccessFSReadDir
	write = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
		ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock
	device = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSIoctlDev
)

// Files refuses everything about files but what t allows, for good, including the execution of
// programs. Files that are open stay usable, and so do sockets, whatever their names. On a kernel
// without Landlock nothing happens; on one with an old Landlock, what that cannot refuse stays
// allowed.
func Files(t Tree) error {
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.PathAccess(read, t.Read...).IgnoreIfMissing(),
		landlock.PathAccess(write, t.Write...).IgnoreIfMissing(),
		landlock.PathAccess(device, t.Device...).IgnoreIfMissing(),
	)
	if err != nil {
		return fmt.Errorf("restrict this process to its files (Landlock): %w", err)
	}
	return nil
}

// Around returns the directories in which a file is found under its name: that of the name, and
// that of the file which the name leads to by symbolic links. A file that is replaced by another of
// its name is in one of them, too.
func Around(file string) []string {
	dirs := []string{filepath.Dir(file)}
	if real, err := filepath.EvalSymlinks(file); err == nil && !slices.Contains(dirs, filepath.Dir(real)) {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}
