package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/security.md names tests by directory and function. Each must be there.
func TestSecurityDocument_namesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{} // source of the tests in a directory
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[^`]*)`").FindAllStringSubmatch(string(text), -1)
	for _, m := range named {
		dir, name := m[1], m[2]
		if _, read := known[dir]; !read {
			known[dir] = testsIn(t, "../../"+dir)
		}
		if !strings.Contains(known[dir], "\nfunc "+name+"(") {
			t.Errorf("docs/security.md names %s in %s, which is not there", name, dir)
		}
	}
	if len(named) < 100 {
		t.Errorf("only %d tests found", len(named))
	}
}

// What an attacker can and cannot do is a list, and each line of it has a test.
func TestSecurityDocument_showsEachLine(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	all := items(string(text))
	if len(all) < 50 {
		t.Errorf("only %d lines found", len(all))
	}
	for _, item := range all {
		if !strings.Contains(item, "\n  Tests: `") {
			t.Errorf("docs/security.md shows no test for: %s", item)
		}
	}
}

// items returns the items of a document's lists.
func items(text string) (all []string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		for i, item := range strings.Split("\n"+paragraph, "\n- ") {
			if i > 0 {
				all = append(all, item)
			}
		}
	}
	return all
}

// testsIn returns the test files in a directory, one behind the other.
func testsIn(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
		all.Write(text)
	}
	return all.String()
}
