// Package secretfile reads and writes the files that tunctl handles: keys, and configurations with
// keys in them.
//
// A file that it makes may be read by its owner alone, which is the service in the directories of
// the service, and a file that it replaces keeps its owner and mode and is never seen half written.
// It does not know what is in a file.
//
// Functions may be called from several goroutines; two writers of one file are not kept apart.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/atomicfile"
)

// MaxKey bounds what is read of a key, in bytes: a key is 44 characters, and some space around it
// does no harm.
const MaxKey = 4096

// Read returns what is in a file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, path, limit)
}

// ReadAll returns what comes from in, at most limit bytes; errors say name.
func ReadAll(in io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// Write makes a file that only its owner may read, which is the service in its own directory.
// One that is there already is kept, unless force is set.
func Write(path string, data []byte, force bool) error {
	if force {
		return Replace(path, data, 0o600)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return AlreadyThere(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, giveToService(f, path), f.Sync(), f.Close()); err != nil {
		// A part of it is of no use, and would be in the way of the next attempt.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// AlreadyThere is the error for a file that would have to be replaced.
func AlreadyThere(path string) error {
	return exit.Errorf(exit.Failed, "%s exists already (--force replaces it)", path)
}

// Replace puts data in the place of a file in one step, so that whoever reads it sees the old
// text or the new one. A symbolic link goes on to be one: what it names is replaced. Owner and mode
// of an existing file are kept; a new one has mode.
func Replace(path string, data []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	own := func(f *os.File) error { return giveToService(f, path) }
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
		own = func(f *os.File) error { return keepOwner(f, info) }
	}
	if err := atomicfile.Replace(path, data, mode, own); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Streams are the standard streams of a verb that reads or makes secrets.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Exposed says that Out is a file that others may read.
	Exposed bool
}

// Read returns what is in a file of at most limit bytes, or comes from standard input for "-".
func (s *Streams) Read(path string, limit int64) ([]byte, error) {
	if path == "-" {
		return ReadAll(s.In, "standard input", limit)
	}
	return Read(path, limit)
}

// Write writes what a verb made: to the file at path with mode 0600, or to standard output for "".
func (s *Streams) Write(path string, data []byte, force bool) error {
	if path != "" {
		return Write(path, data, force)
	}
	s.Warn()
	_, err := s.Out.Write(data)
	return err
}

// Warn warns when a secret is about to go to a file that others can read.
func (s *Streams) Warn() {
	if s.Exposed {
		fmt.Fprintln(s.Err, "tunctl: warning: others may read this file (chmod 600 it, or begin with: umask 077)")
	}
}
