// Package sysctl reads and writes the few kernel settings that an instance changes: forwarding, and
// what a full tunnel or forwarding needs beside it.
//
// Each setting is off or on to tund. Who has to switch it off again is noted by package route, not
// here. Files belongs to one goroutine at a time.
//
// Sources: kernel Documentation/networking/ip-sysctl.rst.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Setting is one setting, by the name under which route notes in the kernel who uses it.
type Setting string

// The settings that do not belong to a link.
const (
	SrcValidMark Setting = "src_valid_mark" // marks count when reverse paths are checked
	Forward4     Setting = "ip_forward"
	Forward6     Setting = "forwarding6"
)

// acceptRA begins the names of the settings of links.
const acceptRA = "accept_ra_"

// AcceptRA returns the setting by which a link accepts router advertisements although this host
// forwards. Without it, a host that begins to forward loses the default route that it has from
// router advertisements.
func AcceptRA(link string) Setting { return acceptRA + Setting(link) }

// Link returns the link of an AcceptRA, "" for the other settings.
func (s Setting) Link() string {
	link, ok := strings.CutPrefix(string(s), acceptRA)
	if !ok {
		return ""
	}
	return link
}

// path is the file below /proc/sys.
func (s Setting) path() string {
	switch s {
	case SrcValidMark:
		return "net/ipv4/conf/all/src_valid_mark"
	case Forward4:
		return "net/ipv4/ip_forward"
	case Forward6:
		return "net/ipv6/conf/all/forwarding"
	}
	return "net/ipv6/conf/" + s.Link() + "/accept_ra"
}

// values returns those that mean off and on: any value but off is on, except that a link accepts
// router advertisements with 1 only until the host forwards.
func (s Setting) values() (off, on byte) {
	if s.Link() != "" {
		return '1', '2'
	}
	return '0', '1'
}

// String returns the setting switched on, as sysctl(8) writes it.
func (s Setting) String() string {
	_, on := s.values()
	// A link's name may have dots in it; sysctl(8) takes slashes in their place.
	parts := strings.Split(s.path(), "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], ".", "/")
	}
	return strings.Join(parts, ".") + "=" + string(on)
}

// Files are the files of settings, in one network namespace.
type Files struct{ open map[Setting]*os.File }

// Open opens the settings that do not belong to a link, and those of the links given, in the
// network namespace of the calling thread. What cannot be opened for writing is opened for reading;
// what the kernel does not have is left out.
func Open(links []string) *Files {
	f := &Files{open: make(map[Setting]*os.File)}
	for _, s := range []Setting{SrcValidMark, Forward4, Forward6} {
		f.add(s)
	}
	for _, link := range links {
		f.add(AcceptRA(link))
	}
	return f
}

func (f *Files) add(s Setting) *os.File {
	if file := f.open[s]; file != nil {
		return file
	}
	path := "/proc/sys/" + s.path()
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		file, err = os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil
	}
	f.open[s] = file
	return file
}

// Read returns whether each of the settings that do not belong to a link is on, and those of links
// that are given. What the kernel does not have is left out.
func (f *Files) Read(ofLinks []Setting) (map[Setting]bool, error) {
	state := make(map[Setting]bool)
	for _, s := range append([]Setting{SrcValidMark, Forward4, Forward6}, ofLinks...) {
		file := f.add(s)
		if file == nil {
			continue
		}
		var value [1]byte
		_, err := file.ReadAt(value[:], 0)
		switch off, on := s.values(); {
		case err == nil && s.Link() != "" && value[0] != off && value[0] != on:
			// The link accepts none.
		case err == nil:
			state[s] = value[0] != off
		case s.Link() == "":
			return nil, fmt.Errorf("%s: %w", s.path(), err)
		default: // the link is gone
			f.forget(s)
		}
	}
	return state, nil
}

func (f *Files) forget(s Setting) {
	if file := f.open[s]; file != nil {
		_ = file.Close() // it was read only
		delete(f.open, s)
	}
}

// Set switches a setting on or off. It fails with ENOENT where the kernel does not have it, and
// with EACCES or EROFS where this process may not write it.
func (f *Files) Set(s Setting, to bool) error {
	file := f.add(s)
	if file == nil {
		return unix.ENOENT
	}
	value, on := s.values()
	if to {
		value = on
	}
	_, err := file.WriteAt([]byte{value, '\n'}, 0)
	if errors.Is(err, unix.EBADF) || errors.Is(err, fs.ErrPermission) {
		return unix.EACCES // it is open for reading only
	}
	return err
}

// Strict reports whether reverse paths are checked strictly by default, or on all links.
func Strict() bool {
	for _, scope := range []string{"all", "default"} {
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + scope + "/rp_filter")
		if err == nil && len(value) > 0 && value[0] == '1' {
			return true
		}
	}
	return false
}

// Close closes the files.
func (f *Files) Close() error {
	var errs []error
	for _, file := range f.open {
		errs = append(errs, file.Close())
	}
	f.open = nil
	return errors.Join(errs...)
}
