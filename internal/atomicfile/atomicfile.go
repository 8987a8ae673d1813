// Package atomicfile replaces files in one step: whoever reads one sees the old contents or the new
// ones, also after a crash or a loss of power.
//
// It does not keep two writers of one file apart: the last one wins. What a process leaves behind
// that is killed while it writes has a name that begins with a dot, and is read by nobody; Clean
// removes it. Functions may be called from several goroutines.
//
// Sources: rename(2), fsync(2) on the need to write the directory, too.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Replace puts data in the place of the file at path, or makes it. When it returns without an
// error, the file and its name are on the disk; with an error, the former file is there, unless
// only its name could not be written. A symbolic link is replaced, not followed. The file gets mode
// and belongs to the caller; each of prepare is called with it before others can see it, and may
// change that. data is not retained.
func Replace(path string, data []byte, mode fs.FileMode, prepare ...func(*os.File) error) error {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+".new-*") // with mode 0600
	if err != nil {
		var named *fs.PathError
		if errors.As(err, &named) {
			named.Path = path // one cause has one text, whatever the name of the new file
		}
		return err
	}
	for _, p := range prepare {
		err = errors.Join(err, p(f))
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// Clean removes what processes that were killed while they replaced a file in a directory have left
// there. Nobody may be replacing one.
func Clean(dir string) error {
	left, err := filepath.Glob(filepath.Join(escaped.Replace(dir), ".*.new-*"))
	for _, path := range left {
		if info, statErr := os.Lstat(path); statErr == nil && info.Mode().IsRegular() {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// escaped has a path stand for itself in a pattern.
var escaped = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// Write is Replace by what write writes, which need not be in memory at once.
func Write(path string, mode fs.FileMode, write func(io.Writer) error) error {
	return Replace(path, nil, mode, func(f *os.File) error { return write(f) })
}

// SyncDir writes the names in a directory to the disk: after a file was replaced, made or removed,
// they would otherwise get there when the kernel finds the time.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
