package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// installed is a root in which `make install` has put everything but the programs, which these
// tests do not need.
func installed(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	root := t.TempDir()
	cmd := exec.Command("make", "-C", "..", "install-files", "DESTDIR="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install-files: %v\n%s", err, out)
	}
	return root
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// Documents are installed in the order in which they lie in the repository, so a link that works
// there works installed.
func TestInstall_linksOfDocumentsWork(t *testing.T) {
	t.Parallel()
	doc := filepath.Join(installed(t), "usr/share/doc/tund")
	documents := 0
	err := filepath.WalkDir(doc, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".md") {
			return err
		}
		documents++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := filepath.Join(filepath.Dir(path), m[1])
			if _, err := os.Stat(target); err != nil || !strings.HasPrefix(target, doc) {
				t.Errorf("%s leads to %s, which is not installed", strings.TrimPrefix(path, doc), m[1])
			}
		}
		return nil
	})
	if err != nil || documents < 15 {
		t.Errorf("%d documents, %v", documents, err)
	}
}

// What the unit names beside the programs is installed, and under PREFIX too.
func TestInstall_whatTheUnitNames(t *testing.T) {
	t.Parallel()
	root := installed(t)
	unit, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/tund@.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"usr/lib/tmpfiles.d/tund.conf", "usr/lib/sysusers.d/tund.conf", "usr/share/doc/tund/README.md"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	for _, said := range []string{"--create tund.conf", "file:///usr/share/doc/tund/README.md"} {
		if !strings.Contains(string(unit), said) {
			t.Errorf("the unit does not say %s", said)
		}
	}
}

// Manual pages are made of the documents; man(1) has nothing to complain about, and no word of a
// table is lost.
func TestManualPages(t *testing.T) {
	t.Parallel()
	for _, page := range []struct{ name, section, file, term string }{
		{"tund", "8", "docs/tund.md", "--cleanup"},
		{"tunctl", "8", "docs/tunctl.md", "--instance"},
		{"tund.toml", "5", "docs/config.md", "listen_port"},
	} {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("./man.sh", page.name, page.section, page.file, "a summary")
			cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=0", "VERSION=1.2.3")
			var said strings.Builder
			cmd.Stderr = &said
			roff, err := cmd.Output()
			if err != nil && strings.Contains(said.String(), "proxy") {
				t.Skipf("go-md2man cannot be fetched: %s", said.String())
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			for _, want := range []string{`.TH "` + page.name + `" "` + page.section + `" "1970-01-01" "tund 1.2.3"`, ".SH NAME\n" + page.name + ` \- a summary`} {
				if !strings.Contains(strings.ReplaceAll(string(roff), ".PP\n", ""), want) {
					t.Errorf("no %q in:\n%.400s", want, roff)
				}
			}
			man, err := exec.LookPath("man")
			if err != nil {
				t.Skip("man is not installed (Debian: man-db)")
			}
			path := filepath.Join(t.TempDir(), page.name+"."+page.section)
			if err := os.WriteFile(path, roff, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd = exec.Command(man, "--warnings", "-E", "UTF-8", "-l", path)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=120", "GROFF_NO_SGR=1")
			said.Reset()
			cmd.Stderr = &said
			shown, err := cmd.Output()
			if err != nil || said.String() != "" {
				t.Errorf("man: %v\n%s", err, said.String())
			}
			text := regexp.MustCompile(".\b").ReplaceAllString(string(shown), "")
			if !strings.Contains(text, page.term) || strings.Contains(text, "](") || strings.Contains(text, "| ---") || strings.Contains(text, ".md⟩") {
				t.Errorf("%s is missing, or Markdown is left, in:\n%s", page.term, text)
			}
		})
	}
}
