package agent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"tund/internal/atomicfile"
	"tund/internal/registry/dirstore"
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
	var shown map[string][]byte
	var at time.Time
	for {
		all, err := d.Store.Listing()
		switch {
		case err != nil:
			sink(News{Err: err})
		case shown == nil || time.Since(at) >= quietLists || !maps.EqualFunc(all.Values, shown, bytes.Equal):
			sink(News{All: all.Values, Surplus: all.Surplus, Whose: all.Whose})
			shown, at = all.Values, time.Now()
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

// Load reads a file (Disk).
func (f Files) Load(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save replaces a file (Disk). After a crash there is either the old one or the new one.
func (f Files) Save(name string, data []byte) error {
	return atomicfile.Replace(filepath.Join(string(f), name), data, 0o600)
}
