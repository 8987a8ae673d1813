// Package dirstore is a registry in a directory: one file for each document, which git, rsync or a
// shared file system carries to the sites. It is the simplest store of an agent, and where tunctl
// puts what signers sign.
//
// Below the directory, the document of a key is at <network>/<key>.json: acme/grant/<site>.json,
// acme/crl.json, acme/site/<site>/rec.json. Files are replaced as a whole, by renaming. The package
// verifies nothing.
package dirstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tund/internal/atomicfile"
	"tund/internal/registry/record"
)

// maxFiles bounds what is read: two documents for each of 20,000 sites, and some.
const maxFiles = 50_000

// Store is the part of a directory that belongs to one network. It holds no state.
type Store struct {
	root string // of the network
}

// New returns the store for a network below dir. Nothing is made yet.
func New(dir, network string) *Store { return &Store{filepath.Join(dir, network)} }

// suffix ends the names of documents; other files are passed over.
const suffix = ".json"

// List returns all documents by key. A directory that is not there is an error, because that is a
// disk that is not mounted or a typing error, and no empty network.
func (s *Store) List() (map[string][]byte, error) {
	all, err := s.Listing()
	if err != nil {
		return nil, err
	}
	return all.Values, nil
}

// Listing returns all documents, and how many files were passed over because no site may have them:
// one that fills its part of the directory keeps nobody from the rest.
func (s *Store) Listing() (*record.Listing, error) {
	all := &record.Listing{Values: make(map[string][]byte)}
	err := filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(s.root, path)
		key := filepath.ToSlash(rel)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != s.root:
			return nil // it went while we were looking
		case err != nil && all.Unreadable(key+"/"):
			return fs.SkipDir
		case err != nil || relErr != nil:
			return errors.Join(err, relErr)
		case entry.IsDir() && tooDeep(key):
			return fs.SkipDir
		case !entry.Type().IsRegular() || !strings.HasSuffix(path, suffix):
			return nil
		case len(all.Values) >= maxFiles:
			return fmt.Errorf("more than %d documents", maxFiles)
		}
		return add(all, strings.TrimSuffix(key, suffix), path)
	})
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	return all, nil
}

// tooDeep reports whether no document lies below a directory, which may be one of git's.
func tooDeep(dir string) bool {
	kind, _, _ := strings.Cut(dir, "/")
	deepest := map[string]int{".": 0, "grant": 0, "site": 1, "l2": 2}
	depth, known := deepest[kind]
	return !known || strings.Count(dir, "/") > depth
}

// add reads the file of a key, unless its site has too many already.
func add(all *record.Listing, key, path string) error {
	if all.Overrun(key) != "" {
		return fs.SkipDir
	}
	if _, limit := record.Place(key); limit == 0 {
		all.Add(key, nil)
		return nil
	}
	value, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it went while we were looking
	case err != nil && all.Unreadable(key):
	case err != nil:
		return err
	default:
		all.Add(key, value)
	}
	return nil
}

// read returns a file, or as much of a file that is too large as makes it no document.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, record.MaxRevocations+2))
}

// Get returns the document of a key; fs.ErrNotExist: there is none.
func (s *Store) Get(key string) ([]byte, error) { return read(s.path(key)) }

// Put writes the document of a key.
func (s *Store) Put(key string, value []byte) error {
	path := s.path(key)
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the registry: %w", err)
	}
	if err := atomicfile.Replace(path, value, 0o644); err != nil {
		return fmt.Errorf("write the registry: %w", err)
	}
	return nil
}

func (s *Store) path(key string) string {
	return filepath.Join(s.root, filepath.FromSlash(key)) + suffix
}

// makeDirs makes a directory and those above it, which everybody may read whatever the umask is:
// documents are no secrets, and who carries them to other sites may be another user than the agent.
func makeDirs(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}
