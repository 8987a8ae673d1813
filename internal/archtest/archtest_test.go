// Package archtest holds the structure of the project to what docs/architecture.md says of it: who may import whom,
// what pure packages must not contain, that packages and exported symbols are documented, and that files stay short.
// It has no code but tests.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tund"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath, Dir, Doc, Name string
	GoFiles, Imports           []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Name,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// local returns the path of p within the module.
func (p pkg) local() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// within reports whether path is one of dirs or below one.
func within(path string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") })
}

func TestImports_thirdPartyOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	allowed := map[string][]string{
		"github.com/songgao/water":          {"tunnel/tundev"},
		"golang.org/x/crypto":               {"crypto"},
		"github.com/google/gopacket":        {"cmd/tunctl"},
		"github.com/BurntSushi/toml":        {"config"},
		"go.uber.org/zap":                   {"cmd", "internal/daemon", "internal/control", "internal/uapi", "tunnel", "route"},
		"github.com/vishvananda/netlink":    {"route", "internal/netwatch", "internal/testnet", "test"},
		"github.com/vishvananda/netns":      {"route", "internal/testnet", "test"},
		"github.com/google/nftables":        {"route", "internal/testnet"},
		"github.com/mdlayher/netlink":       {"route"}, // the connection type of nftables
		"github.com/gaissmai/bart":          {"tunnel/l3"},
		"github.com/spf13/cobra":            {"cmd/tunctl"},
		"github.com/spf13/pflag":            {"cmd/tunctl"},
		"golang.org/x/sys":                  {"crypto/aead", "tunnel", "route", "internal", "cmd", "test"},
		"golang.org/x/net":                  {},
		"golang.zx2c4.com/wireguard/wgctrl": {"test"},

		"github.com/landlock-lsm/go-landlock": {"internal/confine"},
	}
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") {
				continue // the standard library and ourselves
			}
			known := false
			for lib, dirs := range allowed {
				if within(imp, lib) {
					known = true
					if !within(p.local(), dirs...) {
						t.Errorf("%s imports %s, which belongs in %v", p.local(), imp, dirs)
					}
				}
			}
			if !known {
				t.Errorf("%s imports %s, which docs/architecture.md does not know", p.local(), imp)
			}
		}
	}
}

func TestImports_pointDown(t *testing.T) {
	t.Parallel()
	forbidden := map[string][]string{ // package: what it must not import of ours
		"crypto":            {"tunnel", "route", "config", "cmd", "internal/daemon", "internal/control"},
		"tunnel":            {"route", "config", "cmd", "internal/daemon", "internal/control"},
		"tunnel/protocol":   {"crypto", "tunnel/l2", "tunnel/l3", "tunnel/udp", "tunnel/tundev"},
		"tunnel/l2":         {"crypto", "tunnel/l3", "tunnel/udp", "tunnel/tundev", "tunnel/protocol"},
		"tunnel/l3":         {"crypto", "tunnel/l2", "tunnel/udp", "tunnel/tundev", "tunnel/protocol"},
		"tunnel/offload":    {"crypto", "tunnel/l2", "tunnel/udp", "tunnel/tundev", "tunnel/protocol"},
		"tunnel/udp":        {"crypto", "tunnel/l2", "tunnel/l3", "tunnel/tundev", "tunnel/protocol"},
		"tunnel/tundev":     {"crypto", "tunnel/l2", "tunnel/l3", "tunnel/udp", "tunnel/protocol"},
		"internal/netwatch": {"tunnel", "route", "config", "cmd", "internal/daemon", "internal/control", "crypto"},
		"route":             {"tunnel", "config", "cmd", "internal/daemon", "internal/control", "crypto"},
		"config":            {"tunnel", "route", "cmd", "internal/daemon", "internal/control"},
		"internal/control":  {"tunnel", "route", "config", "cmd", "internal/daemon", "crypto"},
		"cmd/tunctl":        {"tunnel", "route", "internal/daemon"},
	}
	for _, p := range list(t) {
		for from, banned := range forbidden {
			if p.local() != from && !(from == "crypto" && within(p.local(), "crypto")) {
				continue
			}
			for _, imp := range p.Imports {
				if rest, ok := strings.CutPrefix(imp, module+"/"); ok && within(rest, banned...) {
					t.Errorf("%s imports %s", p.local(), rest)
				}
			}
		}
	}
}

// pure are the packages that take bytes, values and now, and return values.
var pure = []string{"crypto/keys", "crypto/wire", "crypto/noise", "crypto/replay", "crypto/session",
	"tunnel/protocol", "tunnel/l2", "tunnel/l3", "tunnel/offload", "internal/drop"}

func TestPure_noGoroutineChannelClockSocketOrLogger(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if !slices.Contains(pure, p.local()) {
			continue
		}
		for _, banned := range []string{"net", "net/http", "os", "log", "log/slog", "math/rand", "math/rand/v2", "go.uber.org/zap"} {
			if slices.Contains(p.Imports, banned) {
				t.Errorf("%s imports %s", p.local(), banned)
			}
		}
		eachFile(t, p, func(fset *token.FileSet, f *ast.File) {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: starts a goroutine", fset.Position(n.Pos()))
				case *ast.ChanType:
					t.Errorf("%s: has a channel", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" &&
						slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "Tick"}, n.Sel.Name) {
						t.Errorf("%s: reads the clock", fset.Position(n.Pos()))
					}
				}
				return true
			})
		})
	}
}

func eachFile(t *testing.T, p pkg, f func(*token.FileSet, *ast.File)) {
	t.Helper()
	for _, name := range p.GoFiles {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		f(fset, file)
	}
}

func TestDocs_everyPackageAndExportedSymbolHasWords(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("package %s has no comment", p.local())
		}
		if p.Name == "main" {
			continue
		}
		eachFile(t, p, func(fset *token.FileSet, f *ast.File) {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.IsExported() && fn.Doc == nil && exportedReceiver(fn) {
					t.Errorf("%s: %s has no comment", fset.Position(fn.Pos()), fn.Name.Name)
				}
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
					for _, s := range g.Specs {
						if ts := s.(*ast.TypeSpec); ts.Name.IsExported() && g.Doc == nil && ts.Doc == nil {
							t.Errorf("%s: type %s has no comment", fset.Position(ts.Pos()), ts.Name.Name)
						}
					}
				}
			}
		})
	}
}

// exportedReceiver reports whether fn is a function, or a method of an exported type.
func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	typ := fn.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported() && !slices.Contains(heapMethods, fn.Name.Name)
		default:
			return true
		}
	}
}

// heapMethods satisfy sort and heap interfaces, where the name says all.
var heapMethods = []string{"Len", "Less", "Swap", "Push", "Pop"}

// Limits of docs: what is longer is split by noun.
const (
	maxFileLines = 500
	maxFuncLines = 70
)

func TestSize_filesAndFunctionsStayShort(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		eachFile(t, p, func(fset *token.FileSet, f *ast.File) {
			if n := fset.Position(f.End()).Line; n > maxFileLines {
				t.Errorf("%s has %d lines", fset.Position(f.Pos()).Filename, n)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFuncLines {
						t.Errorf("%s: %s has %d lines", fset.Position(fn.Pos()), fn.Name.Name, n)
					}
				}
			}
		})
	}
}

func TestMarkers_noneLeftBehind(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		eachFile(t, p, func(fset *token.FileSet, f *ast.File) {
			for _, g := range f.Comments {
				for _, word := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"} {
					if strings.Contains(g.Text(), word) {
						t.Errorf("%s: comment says %s", fset.Position(g.Pos()), strconv.Quote(word))
					}
				}
			}
		})
	}
}
