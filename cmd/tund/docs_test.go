package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tund/config"
)

// manual is docs/tund.md, and its sections by heading.
func manual(t *testing.T) (whole string, sections map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/tund.md")
	if err != nil {
		t.Fatal(err)
	}
	sections = make(map[string]string)
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[title] = body
	}
	return string(text), sections
}

// firstCells returns what stands in code type in the first column of a section's table.
func firstCells(section string) []string {
	var all []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			all = append(all, code[1])
		}
	}
	return all
}

func TestManual_showsTheUsage(t *testing.T) {
	t.Parallel()
	whole, _ := manual(t)
	if !strings.Contains(whole, "```\n"+usage+"```\n") {
		t.Errorf("docs/tund.md does not hold the usage as tund prints it:\n%s", usage)
	}
}

func TestManual_listsEveryFlag(t *testing.T) {
	t.Parallel()
	_, sections := manual(t)
	documented := firstCells(sections["Flags"])
	known := []string{"-h", "--help"} // of package flag
	new(command).flags().VisitAll(func(f *flag.Flag) {
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		known = append(known, dashes+f.Name)
		if !strings.Contains(usage, dashes+f.Name) {
			t.Errorf("usage does not show %s%s", dashes, f.Name)
		}
	})
	for _, name := range known {
		if !slices.Contains(documented, name) {
			t.Errorf("docs/tund.md does not list %s", name)
		}
	}
	for _, name := range documented {
		if strings.HasPrefix(name, "-") && !slices.Contains(known, name) {
			t.Errorf("docs/tund.md lists %s, which tund does not know", name)
		}
	}
}

func TestManual_listsEveryExitCode(t *testing.T) {
	t.Parallel()
	_, sections := manual(t)
	var codes []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(sections["Exit codes"], -1) {
		codes = append(codes, row[1])
	}
	if got, want := strings.Join(codes, " "), "0 1 2 77 78"; got != want {
		t.Errorf("exit codes %s, want %s", got, want)
	}
}

// TestManual_listsTheEnvironment looks for variables in the source of everything that runs in the
// daemon.
func TestManual_listsTheEnvironment(t *testing.T) {
	t.Parallel()
	_, sections := manual(t)
	documented := firstCells(sections["Environment"])
	// From one of our processes to another; where our output goes.
	internal := []string{"TUND_READY_FD", "JOURNAL_STREAM"}
	used := regexp.MustCompile(`(?:[Gg]etenv\(|env[A-Z]\w+ *= )"([A-Z][A-Z_]+)"`)
	found := 0
	for _, dir := range []string{".", "../../config", "../../internal/daemon", "../../internal/control", "../../internal/sdnotify",
		"../../internal/uapi", "../../route", "../../tunnel", "../../tunnel/udp", "../../tunnel/tundev"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range used.FindAllStringSubmatch(string(text), -1) {
				found++
				if !slices.Contains(documented, m[1]) && !slices.Contains(internal, m[1]) {
					t.Errorf("%s uses %s, which docs/tund.md does not list", file, m[1])
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d variables found", found)
	}
}

// What the manual says that a running instance may still read and write is what it asks Landlock
// for.
func TestManual_namesTheFilesOfARunningInstance(t *testing.T) {
	t.Setenv("TUND_RUN_DIR", "")
	t.Setenv("TUND_STATE_DIR", "")
	_, sections := manual(t)
	files := filesOf(&config.Config{Path: "/etc/tund/office.toml", Files: []string{"/srv/keys/office.key"}})
	read, write, found := strings.Cut(sections["The service"], "only write below")
	if !found {
		t.Fatal("docs/tund.md does not say what is written")
	}
	for _, dir := range files.Read {
		if !strings.Contains(read, "`"+dir+"`") && !slices.Contains([]string{"/etc/tund", "/srv/keys"}, dir) && !strings.HasPrefix(dir, "/run/") {
			t.Errorf("docs/tund.md does not say that %s can be read", dir)
		}
	}
	for _, dir := range files.Write {
		if !strings.Contains(write, "`"+strings.Replace(dir, "/var/run/", "/run/", 1)+"`") {
			t.Errorf("docs/tund.md does not say that %s can be written", dir)
		}
	}
	if !slices.Contains(files.Read, "/srv/keys") {
		t.Errorf("the directory of a key is not among %q", files.Read)
	}
}

// A rebase can add the headings and entries of CHANGELOG.md a second time without a conflict.
func TestChangelog_saysEverythingOnce(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, release := range strings.Split(string(text), "\n## ") {
		seen := make(map[string]bool)
		for _, line := range strings.Split(release, "\n") {
			if (strings.HasPrefix(line, "#") || strings.HasPrefix(line, "- ")) && seen[line] {
				t.Errorf("twice in section %d: %s", i, line)
			}
			seen[line] = true
		}
	}
}
