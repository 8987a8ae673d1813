package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"tund/config/tomlscan"
	"tund/crypto/keys"
)

// wholeKey is a key as wg(8) writes it.
var wholeKey = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)

// FuzzLoad feeds arbitrary files to the loader. It never panics, every message has a place inside
// the file and one line and nothing in it that could be a key of the file, and the scanner's tree
// has the shape of what the decoder made of the same source.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../examples/*/*.toml", "testdata/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	for _, test := range firstHour {
		f.Add(test.src)
	}
	for _, src := range []string{
		"", "=", "[", "[[", "[[a]]\n[a.b]\n[[a]]\nb = 1", "a = {b = [{c = '''\n'''}], d = 1}", "a.b.c = \"\"\"x\\\"\"\"\"\"",
		"a = 1\na = [1,\n2]", "p = {a = 1, a = 2, b = 3}", "a = 1979-05-27 07:32:00", "\ufeffa = 1\r\n", "a=\"\\u00e9\\x41\"",
		"[a]\n[a]\nb=1\n[c]", "[[a]]\n[a]", "a=[]\n[[a]]", "\xfe\xff", "\ufeff\ufeffa = 1", "\n#\U00052492\b", "peer = [1, {name = []}]", "[tunnel]\nprivate_key = [\"x\"]\n",
		"'a.b' = 1\n\"a.b\".c = 2", "a = [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "a = inf\nb = -0x1\nc = 1_000.5e-3",
		tunSection + "mtu = 3\nmtu = 4\n[[peer]]\npublic_key = \"" + pubB + "\"\nvlans = [\"1-4094\"]\nethernet = true\n",
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		c, err := loadText(src)
		if (c == nil) != (err != nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("not an Errors: %v", err)
		}
		if c != nil {
			for _, w := range c.Warnings {
				errs = append(errs, Error(w))
			}
		}
		for _, key := range wholeKey.FindAllString(src, -1) {
			for _, e := range errs {
				if strings.Contains(e.Msg, key) || strings.Contains(e.Msg, key[:keys.TextSize-1]) {
					t.Errorf("a key is shown: %v", e)
				}
			}
		}
		lines := strings.Split(strings.TrimPrefix(src, "\ufeff"), "\n")
		for _, e := range errs {
			if e.Line < 1 || e.Line > len(lines) || e.Col < 1 || e.Col > 1+utf8.RuneCountInString(lines[e.Line-1]) {
				t.Errorf("%v is outside of the file", e)
			}
			if e.Msg == "" || strings.ContainsAny(e.Msg, "\n\r") || !utf8.ValidString(e.Msg) {
				t.Errorf("message %q", e.Msg)
			}
		}
		src = strings.TrimPrefix(src, "\ufeff") // as load does
		if _, other := newLoader("office.toml", host{}, src).otherFormat(); other != "" {
			return
		}
		values, err := decodeTOML(src)
		found := tomlscan.Scan(src)
		// The library takes a.b.c = 1 followed by a.b = 2, which TOML forbids, so its word on
		// duplicates is not final.
		if err != nil || found.TooDeep >= 0 || len(found.Duplicates) > 0 {
			return
		}
		if found.End != len(src) {
			t.Errorf("the scanner stopped at byte %d of %d", found.End, len(src))
		}
		mirror(t, "", values, &found.Root, src)
	})
}

// mirror checks that the tree of places at n has the shape of value.
func mirror(t *testing.T, path string, value any, n *tomlscan.Node, src string) {
	t.Helper()
	if n.Key < 0 || n.Key > n.Value || n.Value > len(src) {
		t.Errorf("%s: key at %d, value at %d of %d", path, n.Key, n.Value, len(src))
	}
	elem := func(i int, v any) {
		if i >= len(n.Elems) {
			t.Fatalf("%s: element %d has no place", path, i)
		}
		mirror(t, fmt.Sprintf("%s[%d]", path, i), v, n.Elems[i], src)
	}
	switch v := value.(type) {
	case map[string]any:
		if len(v) != len(n.Children) {
			t.Errorf("%s: %d keys, %d places", path, len(v), len(n.Children))
		}
		for key, inner := range v {
			if n.Children[key] == nil {
				t.Fatalf("%s: key %q has no place", path, key)
			}
			mirror(t, path+"."+key, inner, n.Children[key], src)
		}
	case []map[string]any:
		for i := range v {
			elem(i, v[i])
		}
	case []any:
		if len(v) != len(n.Elems) {
			t.Errorf("%s: %d elements, %d places", path, len(v), len(n.Elems))
		}
		for i := range v {
			elem(i, v[i])
		}
	case string:
		if quote := src[n.Value]; quote != '"' && quote != '\'' {
			t.Errorf("%s: a string at a %q", path, quote)
		}
	}
}
