// Package stamps stores the newest handshake timestamp that was accepted from each peer, and the
// newest that was sent to it, beyond the lifetime of a process. Timestamps distinguish a peer's
// initiations from recorded ones (WireGuard whitepaper §5.1). A host that forgets those it accepted
// can be made to answer an old initiation; one that forgets those it sent is refused by its peers
// if its clock goes back. Contacts stores beside them which peers had a session, and where.
//
// It keeps two small files, which are not secret and are replaced as a whole: at whatever moment a
// process dies, either the old or the new file is there. A file that is missing, truncated or
// altered means that nothing is remembered, and is never fatal. The package judges no timestamps
// and starts no goroutine; Keeper.Run waits in that of its caller.
package stamps

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/atomicfile"
)

const (
	defaultDir = "/var/lib/tund"
	fileName   = "timestamps"
	header     = "tund timestamps 2\n"
	// oldHeader begins a file without the timestamps that were sent.
	oldHeader = "tund timestamps 1\n"
	// maxFile bounds the size of the file, in bytes: 1,048,576 peers, the most that a tunnel can
	// have, of 95 bytes each.
	maxFile = 100 << 20
	// maxFormer bounds the peers that are remembered although they are no longer configured: they
	// may be configured again, and initiations recorded before that must not count as fresh.
	maxFormer = 4096
)

// Dir returns the directory of an instance: below TUND_STATE_DIR, or /var/lib/tund.
func Dir(instance string) string {
	dir := os.Getenv("TUND_STATE_DIR")
	if dir == "" {
		dir = defaultDir
	}
	return filepath.Join(dir, instance)
}

// Store holds the timestamps. It is safe for concurrent use.
type Store struct {
	dir string

	saving sync.Mutex // held while the file is written; lock order: before mu
	mu     sync.Mutex // guards the rest, for a few assignments at a time
	newest map[keys.PublicKey]stamps
	dirty  bool // newer than the file
}

// stamps are the newest timestamps of one peer; zero: none is remembered.
type stamps struct{ accepted, sent noise.Timestamp }

// Open creates the directory and reads what an earlier process saved there. The Store is usable
// whatever the error, which explains why nothing, or not everything, is remembered.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, newest: make(map[keys.PublicKey]stamps)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, fmt.Errorf("make the directory for timestamps of handshakes: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return s, fmt.Errorf("write into the directory %s for timestamps of handshakes: %w", dir, err)
	}
	text, err := read(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = s.parse(text)
	}
	if err != nil {
		return s, fmt.Errorf("read timestamps of handshakes: %w; they are forgotten, and the file is replaced", err)
	}
	return s, nil
}

func (s *Store) path() string { return filepath.Join(s.dir, fileName) }

func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

// parse reads all lines of a file, or none: a header, lines with a key, the timestamp accepted and
// the one sent, and a checksum over everything before it.
func (s *Store) parse(text []byte) error {
	body, sum, ok := cutSum(text)
	if !ok || !bytes.Equal(sum, checksum(body)) {
		return fmt.Errorf("%s is damaged", s.path())
	}
	body, old := bytes.CutPrefix(body, []byte(oldHeader))
	if !old {
		if body, ok = bytes.CutPrefix(body, []byte(header)); !ok {
			return fmt.Errorf("%s is of another version", s.path())
		}
	}
	found := make(map[keys.PublicKey]stamps)
	for line := range bytes.Lines(body) {
		name, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		accepted, sent, _ := bytes.Cut(rest, []byte(" "))
		var both stamps
		key, err := keys.ParsePublic(string(name))
		if err != nil || !parseStamp(&both.accepted, accepted) || !old && !parseStamp(&both.sent, sent) {
			return fmt.Errorf("%s has an invalid line: %q", s.path(), line)
		}
		found[key] = both
	}
	s.newest = found
	return nil
}

func parseStamp(ts *noise.Timestamp, text []byte) bool {
	n, err := hex.Decode(ts[:], text[:min(len(text), 2*len(ts))])
	return err == nil && n == len(ts)
}

// cutSum splits off the last line.
func cutSum(text []byte) (body, sum []byte, ok bool) {
	const size = 2*sha256.Size + 1
	if len(text) < size {
		return nil, nil, false
	}
	return text[:len(text)-size], text[len(text)-size:], true
}

func checksum(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(hex.AppendEncode(nil, sum[:]), '\n')
}

// Last returns the newest timestamp that was accepted from the peer, or zero if none is remembered.
func (s *Store) Last(peer keys.PublicKey) noise.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[peer].accepted
}

// Accepted remembers a timestamp that was accepted. It does not wait for the file.
func (s *Store) Accepted(peer keys.PublicKey, ts noise.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if both := s.newest[peer]; ts.After(both.accepted) {
		both.accepted = ts
		s.newest[peer], s.dirty = both, true
	}
}

// LastSent returns the newest timestamp that was sent to the peer, or zero if none is remembered.
// The newest of all may not have been saved when the last process died.
func (s *Store) LastSent(peer keys.PublicKey) noise.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[peer].sent
}

// Sent remembers a timestamp that was sent. It does not wait for the file.
func (s *Store) Sent(peer keys.PublicKey, ts noise.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if both := s.newest[peer]; ts.After(both.sent) {
		both.sent = ts
		s.newest[peer], s.dirty = both, true
	}
}

// NewestSent returns the newest timestamp that was sent to any peer, or zero.
func (s *Store) NewestSent() (newest noise.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, both := range s.newest {
		if both.sent.After(newest) {
			newest = both.sent
		}
	}
	return newest
}

// Save writes the file if there is something new, and returns its size in bytes, or 0 if nothing
// was written. It keeps at most maxFormer peers for which configured reports false.
func (s *Store) Save(configured func(keys.PublicKey) bool) (size int, err error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	text := s.take(configured)
	if text == nil {
		return 0, nil
	}
	if err := atomicfile.Replace(s.path(), text, 0o600); err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return 0, fmt.Errorf("save timestamps of handshakes: %w", err)
	}
	return len(text), nil
}

// Changed reports whether there is anything to save.
func (s *Store) Changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}

// take returns the text of the file, or nil if nothing is new.
func (s *Store) take(configured func(keys.PublicKey) bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return nil
	}
	s.dirty = false
	former := 0
	var lines []string
	for key, both := range s.newest {
		if !configured(key) {
			if former++; former > maxFormer {
				delete(s.newest, key)
				continue
			}
		}
		lines = append(lines, key.String()+" "+hex.EncodeToString(both.accepted[:])+" "+hex.EncodeToString(both.sent[:])+"\n")
	}
	slices.Sort(lines)
	text := []byte(header)
	for _, line := range lines {
		text = append(text, line...)
	}
	return append(text, checksum(text)...)
}
