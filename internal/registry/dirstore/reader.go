package dirstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/registry/record"
)

const (
	// settled is how old a change has to be for a later one to be noticed by its time, whose
	// resolution is up to two seconds on some file systems.
	settled = 2 * time.Second
	// readAgain is how often everything is read although nothing seems to have changed.
	readAgain = 10 * time.Minute
)

// Reader reads the documents of a Store again and again. A file is read again if its size, its
// number or one of its times has changed, which for those of 1,000 sites takes a twentieth of the
// processor time of reading them; and everything is, at intervals. It belongs to one goroutine.
type Reader struct {
	root string

	last   *record.Listing
	read   time.Time // when everything was
	unsure bool      // something may change, or have changed, without a trace

	// What was there, by path below root: each directory and file, and the values of files.
	marks  map[string]mark
	values map[string][]byte
}

// mark is by what a file or directory is recognised.
type mark struct {
	number, device   uint64
	size             int64 // bytes
	written, changed int64 // since 1970, in nanoseconds
}

// Reader returns a reader that has read nothing.
func (s *Store) Reader() *Reader { return &Reader{root: s.root} }

// Listing returns what Store.Listing does: what it has returned before, if nothing has changed.
// Neither it nor the values in it are to be written to.
func (r *Reader) Listing(now time.Time) (*record.Listing, error) {
	again := now.Sub(r.read) >= readAgain || now.Before(r.read)
	if r.last != nil && !r.unsure && !again && r.unchanged() {
		return r.last, nil
	}
	if again {
		r.values, r.read = nil, now
	}
	w := walk{was: r, now: now, all: &record.Listing{Values: make(map[string][]byte, len(r.values))},
		marks: make(map[string]mark, len(r.marks)), values: make(map[string][]byte, len(r.values))}
	err := w.below("")
	for i := 0; err == nil && i < len(w.links); i++ {
		err = w.below(w.links[i])
	}
	if err != nil {
		r.last = nil
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	r.last, r.unsure, r.marks, r.values = w.all, w.unsure, w.marks, w.values
	return r.last, nil
}

// unchanged reports whether everything is as it was. Paths are looked up from the directory, which
// takes half of what it takes from the root.
func (r *Reader) unchanged() bool {
	root, err := unix.Open(r.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	for path, was := range r.marks {
		var s unix.Stat_t
		if err := unix.Fstatat(root, path, &s, unix.AT_SYMLINK_NOFOLLOW); err != nil ||
			was != (mark{s.Ino, s.Dev, s.Size, s.Mtim.Nano(), s.Ctim.Nano()}) {
			return false
		}
	}
	return true
}

func markOf(info fs.FileInfo) mark {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return mark{} // of no file on Linux
	}
	return mark{s.Ino, s.Dev, s.Size, s.Mtim.Nano(), s.Ctim.Nano()}
}

// fresh reports whether a later change may have the same mark.
func (m mark) fresh(now time.Time) bool {
	return now.UnixNano()-max(m.written, m.changed) < int64(settled)
}

// walk is one look at all files.
type walk struct {
	was    *Reader
	now    time.Time
	all    *record.Listing
	unsure bool
	marks  map[string]mark
	values map[string][]byte
	links  []string // those of parts that are links

	part, root string // what is looked at: "" or one of links, and where that is
}

// below looks at a part of the directory, which may be a link; "": at the directory, but not behind
// links. What is no directory is an error, and no empty network.
func (w *walk) below(part string) error {
	dir := filepath.Join(w.was.root, part)
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "read", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return err
	}
	w.part, w.root = part, root
	return filepath.WalkDir(root, w.visit)
}

// visit looks at one file or directory (fs.WalkDirFunc).
func (w *walk) visit(path string, entry fs.DirEntry, err error) error {
	rel, relErr := filepath.Rel(w.root, path)
	if w.part != "" {
		rel = w.part + string(filepath.Separator) + rel // of the link itself, what it leads to
	}
	key := strings.TrimSuffix(filepath.ToSlash(rel), "/.")
	switch {
	case errors.Is(err, fs.ErrNotExist) && path != w.root:
		return nil // it went while we were looking
	case err != nil && w.unreadable(key+"/"):
		return fs.SkipDir
	case err != nil || relErr != nil:
		return errors.Join(err, relErr)
	case entry.IsDir() && tooDeep(key):
		return fs.SkipDir
	case entry.IsDir():
		_, err := w.mark(rel, entry)
		return err
	case entry.Type()&fs.ModeSymlink != 0 && slices.Contains(parts, key):
		w.links = append(w.links, key)
		return nil
	case entry.Type()&fs.ModeSymlink != 0 && !tooDeep(key), !entry.Type().IsRegular() && strings.HasSuffix(key, suffix):
		w.all.PassOver(strings.TrimSuffix(key, suffix))
		return nil
	case !strings.HasSuffix(path, suffix):
		return nil
	case len(w.all.Values) >= maxFiles:
		return fmt.Errorf("more than %d documents", maxFiles)
	}
	return w.add(strings.TrimSuffix(key, suffix), rel, entry)
}

// mark notes what a file or directory looks like before it is read.
func (w *walk) mark(path string, entry fs.DirEntry) (mark, error) {
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(path) != "." {
		w.unsure = true // what was read of its directory is out of date
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	m := markOf(info)
	w.marks[path] = m
	w.unsure = w.unsure || m.fresh(w.now)
	return m, nil
}

// unreadable is Listing.Unreadable of something that may be readable the next time.
func (w *walk) unreadable(key string) bool {
	w.unsure = true
	return w.all.Unreadable(key)
}

// add reads the file of a key, unless it is as it was, or its site has too many already.
func (w *walk) add(key, path string, entry fs.DirEntry) error {
	if w.all.Overrun(key) != "" {
		return fs.SkipDir
	}
	_, limit := record.Place(key)
	if limit == 0 {
		w.all.Add(key, nil)
		return nil
	}
	m, err := w.mark(path, entry)
	value, known := w.was.values[path]
	if err == nil && (!known || w.was.marks[path] != m) {
		value, err = read(filepath.Join(w.was.root, path), limit)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // it went while we were looking
		w.unsure = true
	case errors.Is(err, errKind): // it was a file when we looked
		w.unsure = true
		w.all.PassOver(key)
	case err != nil && w.unreadable(key):
	case err != nil:
		return err
	default:
		w.all.Take(key, value)
		if value, taken := w.all.Values[key]; taken && !m.fresh(w.now) {
			w.values[path] = value
		}
	}
	return nil
}

// tooDeep reports whether no document lies below a directory, which may be one of git's.
func tooDeep(dir string) bool {
	kind, _, _ := strings.Cut(dir, "/")
	deepest := map[string]int{".": 0, "grant": 0, "site": 1, "l2": 2}
	depth, known := deepest[kind]
	return !known || strings.Count(dir, "/") > depth
}

// errKind is wrapped by the error for something other than a file.
var errKind = errors.New("is not a regular file")

// read returns a file, which usually has up to so many bytes, or as much of a file that is too
// large as makes it no document. It follows no link, and does not wait for a pipe: whoever may
// write in one part of a shared directory can put one there at any moment.
func read(path string, usual int) ([]byte, error) {
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errKind}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errKind}
	}
	buffer := make([]byte, min(usual, record.MaxDocument)+2)
	n, err := io.ReadFull(f, buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return append(make([]byte, 0, n), buffer[:n]...), nil // never nil
	}
	if err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(f, record.MaxRevocations+2-int64(n)))
	return append(buffer, rest...), err
}
