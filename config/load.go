package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/config/tomlscan"
	"tund/crypto/keys"
	"tund/internal/names"
)

// Bounds of what is read. 100,000 peers with long names make a file of 30 MB.
const (
	maxFileSize    = 64 << 20
	maxKeyFileSize = 4096
)

// Load reads and checks the file at path. When the file can be read and says something wrong, the
// error is an Errors; otherwise it wraps that of the operating system. The Config is nil whenever
// there is an error.
func Load(path string) (*Config, error) {
	return load(path, host{readFile: readFile, getenv: os.Getenv, mayRead: serviceMayRead})
}

// LoadByHand is Load for a program that somebody runs, rather than for the service: what may not be
// read needs root, and not another owner.
func LoadByHand(path string) (*Config, error) {
	return load(path, host{readFile: readFile, getenv: os.Getenv, mayRead: rootMayRead})
}

// Parse is Load of data in place of what the file at path holds, as if it were there: names of
// files in it are relative to the directory of path. The mode of the file is not looked at.
func Parse(path string, data []byte) (*Config, error) {
	given := func(name string, limit int64) ([]byte, fs.FileInfo, error) {
		if name == path {
			return data, nil, nil
		}
		return readFile(name, limit)
	}
	return load(path, host{readFile: given, getenv: os.Getenv, mayRead: rootMayRead})
}

// host is the part of the machine that loading needs; tests and the fuzzer bring their own.
type host struct {
	readFile func(path string, limit int64) ([]byte, fs.FileInfo, error)
	getenv   func(name string) string
	mayRead  string // what to do when a permission is missing
}

// errTooLarge is what readFile returns for a file beyond its limit.
var errTooLarge = errors.New("file is too large")

func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	// Nobody may ever write into a named pipe, and a reload would wait for that.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("read %s: %w", path, errTooLarge)
	}
	return data, info, nil
}

// What to do when a file may not be read: for the service, whose user is not root, and for a
// reload, which may not read in directories that were not in use at the start; and for people.
const (
	serviceMayRead = ": it has to belong to the user that runs tund (the service's is tund: chown tund, chmod 400), and a directory that " +
		"was not in use at the start needs a restart"
	rootMayRead = ": try sudo"
)

// whoMayRead is the next step after a file could not be read, "" when a permission is not what was
// missing.
func (h host) whoMayRead(err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	return h.mayRead
}

// place is where something was said first, to be named when it is said again.
type place struct {
	at   int      // offset
	peer *section // the peer that said it; nil where that is plain
}

// loader carries one file through its checks.
type loader struct {
	host     host
	src      string
	lines    tomlscan.Lines
	cfg      *Config
	errs     Errors
	warnings Errors
	inline   bool // the file itself holds a secret

	known    *spelling.Set // nil while allKeys finds out
	asked    *spelling.Set // records what is read; nil but in allKeys
	reported map[int]bool  // offsets of values that were malformed

	ownKey       keys.PublicKey // of our private key; zero while that is not known
	privateKeyAt int
	fullTunnel   [2]int // offsets + 1 of 0.0.0.0/0 and ::/0
	literals     []literal

	keys       map[keys.PublicKey]place
	names      map[string]place
	allowedIPs map[netip.Prefix]place
	// Further peers of an allowed IP, in the order of the file.
	shared map[netip.Prefix][]place
	macs   map[MAC]place
}

func newLoader(path string, h host, src string) *loader {
	return &loader{
		host:       h,
		src:        src,
		lines:      tomlscan.NewLines(src),
		cfg:        &Config{Path: path, Instance: strings.TrimSuffix(filepath.Base(path), ".toml")},
		reported:   make(map[int]bool),
		keys:       make(map[keys.PublicKey]place),
		names:      make(map[string]place),
		allowedIPs: make(map[netip.Prefix]place),
		shared:     make(map[netip.Prefix][]place),
		macs:       make(map[MAC]place),
	}
}

func load(path string, h host) (*Config, error) {
	data, info, err := h.readFile(path, maxFileSize)
	if err != nil {
		return nil, fmt.Errorf("config: %w%s", err, h.whoMayRead(err))
	}
	l := newLoader(path, h, strings.TrimPrefix(string(data), "\ufeff"))
	l.known = allKeys()
	if err := names.Instance(l.cfg.Instance); err != nil {
		l.errorAt(0, "instance name %s, from the name of the file, %v", scalar.Shown(l.cfg.Instance), err)
	}
	if values, places, ok := l.decode(); ok {
		l.file(values, places)
	}
	l.checkMode(info)
	if len(l.errs) > 0 {
		return nil, l.errs.sorted()
	}
	l.cfg.text = pack(data)
	l.cfg.compact()
	for _, w := range l.warnings.sorted() {
		l.cfg.Warnings = append(l.cfg.Warnings, Warning(w))
	}
	return l.cfg, nil
}

func (l *loader) errorAt(at int, format string, args ...any) {
	line, col := l.lines.Position(at)
	l.errs = append(l.errs, Error{File: l.cfg.Path, Line: line, Col: col, Msg: clean(fmt.Sprintf(format, args...))})
}

func (l *loader) warnAt(at int, format string, args ...any) {
	line, col := l.lines.Position(at)
	l.warnings = append(l.warnings, Error{File: l.cfg.Path, Line: line, Col: col, Msg: clean(fmt.Sprintf(format, args...))})
}

// clean keeps a message on one line, and in the order in which it is written, whatever the names of
// files in it.
func clean(msg string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, msg)
}

// file checks a whole file.
func (l *loader) file(values map[string]any, places *tomlscan.Node) {
	root := l.section("", "", values, places)
	l.cfg.Tunnel = l.tunnel(root)
	l.ownKey = l.cfg.Tunnel.PrivateKey.Public()
	if s, ok := root.table("tun"); ok {
		l.cfg.Tun = l.tun(s)
	}
	if s, ok := root.table("tap"); ok {
		l.cfg.Tap = l.tap(s)
	}
	if s, ok := root.table("agent"); ok {
		l.cfg.Agent = l.agent(s)
	}
	if l.cfg.Tun == nil && l.cfg.Tap == nil && !root.has("tun") && !root.has("tap") {
		l.errorAt(0, "no device: give [tun], [tap] or both")
	}
	if s, ok := root.table("metrics"); ok {
		l.cfg.Metrics = l.metrics(s)
	}
	peers := root.tables("peer")
	l.cfg.Peers = make([]Peer, 0, len(peers))
	for i, s := range peers {
		l.cfg.Peers = append(l.cfg.Peers, l.peer(s, i+1))
	}
	l.nameOthers()
	l.wholeFile()
	root.unknownKeys()
}

// checkMode warns about a configuration that others may read or write: everybody, or, if a secret
// is in it, the group too.
func (l *loader) checkMode(info fs.FileInfo) {
	if info == nil || !info.Mode().IsRegular() {
		return
	}
	mode := info.Mode().Perm()
	switch {
	case l.inline && mode&0o077 != 0:
		l.warnAt(0, "this file holds a secret and is open to others (mode %04o): %s", mode, oursAlone(info))
	case mode&0o007 != 0:
		l.warnAt(0, "this file is open to everybody (mode %04o): chmod 640", mode)
	case mode&0o020 != 0:
		l.warnAt(0, "this file can be changed by its group (mode %04o): chmod 640", mode)
	}
}
