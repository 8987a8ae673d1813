package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"tund/internal/atomicfile"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/record"
)

// quietLists is how often an unchanged directory is shown nevertheless.
const quietLists = time.Minute

// Directory is the Store of a directory, which is read at intervals.
type Directory struct {
	Store *dirstore.Store
	Every time.Duration
}

// Run tells sink what is in the directory (Store).
func (d Directory) Run(ctx context.Context, sink func(News)) {
	ticker := time.NewTicker(d.Every)
	defer ticker.Stop()
	reader := d.Store.Reader()
	var shown *record.Listing
	var at time.Time
	for {
		all, err := reader.Listing(time.Now())
		switch {
		case err != nil:
			sink(News{Err: err})
		case shown == nil || time.Since(at) >= quietLists || all != shown && !maps.EqualFunc(all.Values, shown.Values, bytes.Equal):
			sink(News{All: all.Values, Surplus: all.Surplus, Whose: all.Whose})
			shown, at = all, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Put writes a document (Store).
func (d Directory) Put(_ context.Context, key string, value []byte) error {
	return d.Store.Put(key, value)
}

// Files is the Disk of a directory, which is there.
type Files string

// Clean removes what earlier runs that were killed while they saved a file have left: up to 13 MB
// each time, with 10,000 sites. No other run may be there.
func (f Files) Clean() error { return atomicfile.Clean(string(f)) }

// Open reads a file (Disk).
func (f Files) Open(name string) (io.ReadCloser, error) {
	file, err := os.Open(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err // not file, which would be no nil interface
	}
	return file, nil
}

// Save replaces a file (Disk).
func (f Files) Save(name string, write func(io.Writer) error) error {
	return atomicfile.Write(filepath.Join(string(f), name), 0o600, write)
}

// Append adds to a file, and returns once that is on the disk (Disk).
func (f Files) Append(name string, data []byte) error {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}
