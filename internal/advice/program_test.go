package advice

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/config"
	"tund/internal/statusview"
)

func TestProgram_thatWasReplacedIsSaid(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tund")
	put := func() {
		t.Helper()
		if err := os.WriteFile(path+".new", nil, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	problems := &statusview.Problems{}
	a := New(Instance{Problems: problems, Program: Program{path, info}, Version: "1.2"})
	said := func() string {
		a.checkProgram(&config.Config{Instance: "office"})
		for _, p := range problems.All() {
			if p.Kind == statusview.KindProgram {
				return p.Message
			}
		}
		return ""
	}
	if got := said(); got != "" {
		t.Errorf("the same file: %q", got)
	}
	keep := path + ".old" // as long as a process runs from it, its inode is not used again
	if err := os.Link(path, keep); err != nil {
		t.Fatal(err)
	}
	put()
	if got := said(); !strings.Contains(got, "version 1.2") || !strings.Contains(got, "systemctl restart tund@office") {
		t.Errorf("another file: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "" {
		t.Errorf("no file: %q", got)
	}
	own := OwnProgram()
	if own.started == nil || own.replaced() {
		t.Errorf("our own: %+v", own)
	}
}
