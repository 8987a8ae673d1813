package stamps

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
)

func key(n int) keys.PublicKey { return keys.PublicKey{byte(n), byte(n >> 8), byte(n >> 16), 1} }

func at(seconds int) noise.Timestamp { return noise.NewTimestamp(time.Unix(int64(seconds), 0)) }

func everybody(keys.PublicKey) bool { return true }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t *testing.T, s *Store) int {
	t.Helper()
	n, err := s.Save(everybody)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStore_remembers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state", "office")
	s := open(t, dir)
	if n := save(t, s); n != 0 || s.Changed() {
		t.Errorf("%d bytes written of nothing", n)
	}
	for i := range 100 {
		s.Accepted(key(i), at(1000+i))
	}
	for i := range 50 {
		s.Sent(key(i), at(2000+i))
	}
	// An older timestamp: a replay that was accepted somewhere must not set it back.
	s.Accepted(key(5), at(10))
	s.Sent(key(5), at(10))
	if !s.Changed() || save(t, s) == 0 || s.Changed() || save(t, s) != 0 {
		t.Error("not written when there is something new, or again when there is not")
	}
	again := open(t, dir)
	for i := range 100 {
		if got := again.Last(key(i)); got != at(1000+i) {
			t.Fatalf("peer %d: %x, want %x", i, got, at(1000+i))
		}
		want := noise.Timestamp{}
		if i < 50 {
			want = at(2000 + i)
		}
		if got := again.LastSent(key(i)); got != want {
			t.Fatalf("peer %d was sent %x, want %x", i, got, want)
		}
	}
	if got := again.NewestSent(); got != at(2049) {
		t.Errorf("the newest that was sent is %x", got)
	}
	if got := again.Last(key(100)); got != (noise.Timestamp{}) {
		t.Errorf("an unknown peer has %x", got)
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestStore_readsTheFormerVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ts := at(1000)
	text := []byte(oldHeader + key(1).String() + " " + hex.EncodeToString(ts[:]) + "\n")
	text = append(text, checksum(text)...)
	if err := os.WriteFile(filepath.Join(dir, fileName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if got := s.Last(key(1)); got != ts {
		t.Errorf("accepted %x, want %x", got, ts)
	}
	if got := s.LastSent(key(1)); got != (noise.Timestamp{}) {
		t.Errorf("sent %x, want none", got)
	}
}

// Whatever has happened to the file, the store works, remembers all of it or nothing, and replaces
// it.
func TestStore_survivesDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		s.Accepted(key(i), at(1000+i))
	}
	save(t, s)
	good, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	try := func(text []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err == nil {
			t.Errorf("no word about %q", text)
		}
		if got := s.Last(key(1)); got != (noise.Timestamp{}) {
			t.Errorf("%x is taken from a damaged file", got)
		}
		s.Accepted(key(1), at(7))
		save(t, s)
		if got := open(t, dir).Last(key(1)); got != at(7) {
			t.Errorf("a damaged file is not replaced: %x", got)
		}
	}
	for n := 0; n < len(good); n += 5 {
		try(good[:n]) // cut short
	}
	for n := 0; n < len(good); n += 7 {
		bad := append([]byte(nil), good...)
		bad[n] ^= 4
		try(bad)
	}
	for _, body := range []string{"", "something else\n", header + "x y\n", header + "\n", header + key(1).String() + " 00\n"} {
		try(append([]byte(body), checksum([]byte(body))...))
	}
}

// A file that a killed process left half written does no harm, and neither does a directory that
// cannot be created or read.
func TestStore_isNeverFatal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	s.Accepted(key(1), at(1))
	save(t, s)
	if got := open(t, dir).Last(key(1)); got != at(1) {
		t.Errorf("%x", got)
	}
	s, err := Open(filepath.Join(dir, fileName, "below a file"))
	if err == nil {
		t.Error("no word about a directory that cannot be made")
	}
	s.Accepted(key(1), at(1))
	if _, err := s.Save(everybody); err == nil || s.Last(key(1)) != at(1) {
		t.Errorf("%v, %x", err, s.Last(key(1)))
	}
}

// Peers that come and go do not make the file grow for ever.
func TestStore_isBounded(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for i := range 3 * maxFormer {
		s.Accepted(key(i), at(1))
	}
	if _, err := s.Save(func(k keys.PublicKey) bool { return k == key(0) || k == key(1) }); err != nil {
		t.Fatal(err)
	}
	if n := len(s.newest); n != maxFormer+2 {
		t.Errorf("%d are remembered, want the two that are configured and %d others", n, maxFormer)
	}
	if s.Last(key(0)) != at(1) || s.Last(key(1)) != at(1) {
		t.Error("one that is configured was forgotten")
	}
}
