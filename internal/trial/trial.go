// Package trial remembers, across the end of a process, which configuration is to come back when
// the one in the file was only on trial (`tunctl reload --confirm`): the host may be restarted
// because the trial has cut it off.
//
// A record in the state directory of the instance has the former configuration as its file had it,
// secrets included, and a checksum of the one on trial. It counts only as long as the file still
// has the latter. The package reads no configuration and starts no timer.
package trial

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tund/internal/atomicfile"
)

const (
	fileName = "trial"
	// header begins the record; a checksum of the file on trial follows, one of the former text,
	// and then that text.
	header = "tund trial 1\n"
	// maxSize bounds a record in bytes: config refuses larger files.
	maxSize = 64<<20 + len(header) + 2*sha256.Size
)

// Keep remembers that former is to come back after a restart, as long as the file of the
// configuration has the text onTrial. When it returns without an error, that is on the disk. undo
// puts the record that there was before, or none, in its place. Only the owner of the process can
// read the record.
func Keep(dir string, onTrial, former []byte) (undo func() error, err error) {
	path := filepath.Join(dir, fileName)
	old, err := readRecord(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remember the former configuration: %w", err)
	}
	of, sum := sha256.Sum256(onTrial), sha256.Sum256(former)
	record := append([]byte(header), of[:]...)
	record = append(append(record, sum[:]...), former...)
	defer clear(record)
	if err := atomicfile.Replace(path, record, 0o600); err != nil {
		return nil, fmt.Errorf("remember the former configuration: %w", err)
	}
	return func() error {
		if old == nil {
			return Forget(dir)
		}
		return atomicfile.Replace(path, old, 0o600)
	}, nil
}

// readRecord reads a record, whatever is in it, up to one byte more than it may have.
func readRecord(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, int64(maxSize)+1))
}

// Forget removes the record, if there is one, for good: a host that loses power afterwards does not
// have it again.
func Forget(dir string) error {
	err := os.Remove(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = atomicfile.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("forget the former configuration: %w", err)
	}
	return nil
}

// Former returns the configuration that is to be in force in place of the given text of the file;
// nil if that was not on trial. An error says why a record cannot be used.
func Former(dir string, file []byte) ([]byte, error) {
	path := filepath.Join(dir, fileName)
	record, err := readRecord(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which configuration was in force before the one on trial: %w", err)
	}
	body, known := bytes.CutPrefix(record, []byte(header))
	if !known || len(body) < 2*sha256.Size || len(record) > maxSize {
		return nil, fmt.Errorf("%s is of another version", path)
	}
	of, sum, former := body[:sha256.Size], body[sha256.Size:2*sha256.Size], body[2*sha256.Size:]
	if want := sha256.Sum256(former); !bytes.Equal(sum, want[:]) {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	if want := sha256.Sum256(file); !bytes.Equal(of, want[:]) {
		return nil, nil // the file has been changed since
	}
	return former, nil
}
