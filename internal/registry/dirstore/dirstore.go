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
	"io/fs"
	"os"
	"path/filepath"
	"time"

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

// parts are the directories below that of a network. They may be symbolic links, as the network's
// may be: whoever writes these directories decides where they are. Below them no link is followed,
// for sites can write there.
var parts = []string{"grant", "site", "l2"}

// Listing returns all documents, and how many files were passed over because no site may have them:
// one that fills its part of the directory keeps nobody from the rest.
func (s *Store) Listing() (*record.Listing, error) { return s.Reader().Listing(time.Now()) }

// Get returns the document of a key; fs.ErrNotExist: there is none.
func (s *Store) Get(key string) ([]byte, error) { return read(s.Path(key), record.MaxDocument) }

// Put writes the document of a key.
func (s *Store) Put(key string, value []byte) error {
	path := s.Path(key)
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the registry: %w", err)
	}
	if err := atomicfile.Replace(path, value, 0o644); err != nil {
		return fmt.Errorf("write the registry: %w", err)
	}
	return nil
}

// Path returns where the document of a key is.
func (s *Store) Path(key string) string {
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
