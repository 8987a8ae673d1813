package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tund/config/scalar"
	"tund/crypto/keys"
)

// documented is a row of a table in docs/config.md.
type documented struct{ key, standard, values, reload, meaning string }

// readReference returns the rows of docs/config.md for each section.
func readReference(t *testing.T) (whole string, sections map[string][]documented) {
	t.Helper()
	data, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	sections = make(map[string][]documented)
	heading := regexp.MustCompile(`^## \[+(\w+)\]+$`)
	name := ""
	for _, line := range strings.Split(string(data), "\n") {
		if m := heading.FindStringSubmatch(line); m != nil {
			name = m[1]
		}
		if name == "" || !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 5 {
			t.Fatalf("%d cells in %q", len(cells), line)
		}
		sections[name] = append(sections[name],
			documented{strings.Trim(cells[0], "`"), cells[1], cells[2], cells[3], cells[4]})
	}
	return string(data), sections
}

func TestDocs_haveEveryKeyOnce(t *testing.T) {
	t.Parallel()
	_, sections := readReference(t)
	for name, known := range allKeys().Sections {
		if name == "" {
			known = slices.Sorted(slices.Values(known))
			var headings []string
			for section := range sections {
				headings = append(headings, section)
			}
			slices.Sort(headings)
			if !slices.Equal(known, headings) {
				t.Errorf("sections %q, documented %q", known, headings)
			}
			continue
		}
		var got []string
		for _, row := range sections[name] {
			got = append(got, row.key)
			if row.reload != "yes" && row.reload != "no" {
				t.Errorf("%s %s: reload %q", name, row.key, row.reload)
			}
			if !strings.HasSuffix(row.meaning, ".") || row.values == "" {
				t.Errorf("%s %s: incomplete row %+v", name, row.key, row)
			}
		}
		if !slices.Equal(got, known) {
			t.Errorf("[%s] has keys\n%q, documented are\n%q", name, known, got)
		}
	}
}

// TestDocs_haveTheRightDefaults writes every default of the reference down and expects no
// difference.
func TestDocs_haveTheRightDefaults(t *testing.T) {
	t.Parallel()
	_, sections := readReference(t)
	write := func(section string) string {
		var b strings.Builder
		for _, row := range sections[section] {
			if strings.HasPrefix(row.standard, "`") && strings.HasSuffix(row.standard, "`") && row.key != "ethernet" && row.key != "endpoint" {
				b.WriteString(row.key + " = " + strings.Trim(row.standard, "`") + "\n")
			}
		}
		if b.Len() == 0 {
			t.Errorf("the reference has no default of [%s]", section)
		}
		return b.String()
	}
	sources := func(tunnel, tun, tap, agent, peer string) string {
		return tunnelSection + tunnel + "[tun]\n" + tun + "[tap]\ndevice = \"lan\"\n" + tap +
			"[agent]\n" + agent + "[[peer]]\npublic_key = \"" + pubB + "\"\nethernet = true\n" + callable + peer
	}
	want := mustLoad(t, sources("", "", "", "", ""))
	written := sources(write("tunnel"), write("tun"), write("tap"), write("agent"), write("peer"))
	if got := mustLoad(t, written); !equalConfigs(got, want) {
		t.Errorf("got  %+v\nwant %+v\nof:\n%s", got, want, written)
	}
}

// equalConfigs compares what a and b say, with an empty list the same as none.
func equalConfigs(a, b *Config) bool {
	return reflect.DeepEqual(a.Tunnel, b.Tunnel) && emptied(a.Tun) == emptied(b.Tun) && emptied(a.Tap) == emptied(b.Tap) &&
		emptied(a.Agent) == emptied(b.Agent) && emptied(a.Peers) == emptied(b.Peers)
}

// emptied prints v, in which empty lists and none look the same.
func emptied(v any) string {
	p := reflect.ValueOf(v)
	if p.Kind() == reflect.Pointer {
		p = p.Elem()
	}
	var b strings.Builder
	if p.Kind() == reflect.Slice {
		for i := range p.Len() {
			b.WriteString(emptied(p.Index(i).Interface()))
		}
		return b.String()
	}
	for i := range p.NumField() {
		b.WriteString(p.Type().Field(i).Name + "=" + fmt.Sprint(p.Field(i).Interface()) + " ")
	}
	return b.String()
}

// TestDocs_haveTheRightRanges tries both ends of every numeric range in the reference, and one step
// beyond.
func TestDocs_haveTheRightRanges(t *testing.T) {
	t.Parallel()
	_, sections := readReference(t)
	numbers := regexp.MustCompile(`^(?:0, or )?(\d+) to (\d+)(?: bytes| seconds| frames per second|, not 255)?$`)
	tried := 0
	for name, rows := range sections {
		for _, row := range rows {
			m := numbers.FindStringSubmatch(row.values)
			if m == nil || row.key == "name" {
				continue
			}
			tried++
			for _, test := range []struct {
				value string
				good  bool
			}{{m[1], true}, {m[2], true}, {below(m[1]), false}, {above(m[2]), false}} {
				src := map[string]string{"tunnel": "", "tun": "", "tap": "", "agent": "", "peer": ""}
				src[name] = row.key + " = " + test.value + "\n"
				_, err := loadText(tunnelSection + src["tunnel"] + "[tun]\n" + src["tun"] + "[tap]\ndevice = \"lan\"\n" +
					src["tap"] + "[agent]\n" + src["agent"] + "[[peer]]\npublic_key = \"" + pubB + "\"\nethernet = true\n" + src["peer"])
				if (err == nil) != test.good {
					t.Errorf("[%s] %s = %s: %v", name, row.key, test.value, err)
				}
			}
		}
	}
	if tried < 15 {
		t.Errorf("only %d ranges found", tried)
	}
}

func TestDocs_exampleLoads(t *testing.T) {
	t.Parallel()
	whole, _ := readReference(t)
	_, rest, _ := strings.Cut(whole, "```toml\n")
	src, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example")
	}
	if c := mustLoad(t, withRealKeys(t, src)); len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// TestExamples_load loads every example beside fresh keys: without an error, and without a warning.
func TestExamples_load(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../examples/*/*.toml")
	if err != nil || len(paths) < 6 {
		t.Fatalf("examples: %q, %v", paths, err)
	}
	keyFile := regexp.MustCompile(`_key_file *= *"([^"]+)"`)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		copied := filepath.Join(dir, filepath.Base(path))
		write(t, copied, withRealKeys(t, string(data)), 0o600)
		for _, m := range keyFile.FindAllStringSubmatch(string(data), -1) {
			k, err := keys.GeneratePrivate()
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, m[1]), k.Base64()+"\n", 0o600)
		}
		c, err := Load(copied)
		if err != nil {
			t.Errorf("%s:\n%v", path, err)
		} else if len(c.Warnings) > 0 {
			t.Errorf("%s: warnings %v", path, c.Warnings)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "README.md")); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestHowtos_haveGoodFiles loads every complete configuration of the how-tos: without an error, and
// without a warning.
func TestHowtos_haveGoodFiles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../docs/howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```toml\\n(# /etc/tund/[a-z0-9]+\\.toml at [a-z]+\\n.*?)^```")
	keyFile := regexp.MustCompile(`_key_file *= *"([^"]+)"`)
	loaded := 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(data), -1) {
			dir := t.TempDir()
			file := filepath.Join(dir, "office.toml")
			write(t, file, withRealKeys(t, m[1]), 0o600)
			for _, key := range keyFile.FindAllStringSubmatch(m[1], -1) {
				k, err := keys.GeneratePrivate()
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, key[1]), k.Base64()+"\n", 0o600)
			}
			c, err := Load(file)
			if err != nil {
				t.Errorf("%s:\n%s\n%v", path, m[1], err)
			} else if len(c.Warnings) > 0 {
				t.Errorf("%s: warnings %v", path, c.Warnings)
			}
			loaded++
		}
	}
	if loaded < 14 {
		t.Errorf("only %d configurations found", loaded)
	}
}

// said is what a page quotes as the words of a program.
var said = regexp.MustCompile(`"([^"]{10,})"`)

// TestHowtos_quoteWhatProgramsSay: what the how-tos tell people to look for is what tund, tunctl
// and doctor really print.
func TestHowtos_quoteWhatProgramsSay(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, top := range []string{"../cmd", "../config", "../internal", "../tunnel", "../route"} {
		err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	paths, err := filepath.Glob("../docs/howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(data), "## What can go wrong\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for row := range strings.Lines(section) {
			first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
			if !strings.HasPrefix(row, "| ") {
				continue
			}
			for _, m := range said.FindAllStringSubmatch(first, -1) {
				found++
				const ofTheKernel = "address already in use"
				if !strings.Contains(code.String(), m[1]) && m[1] != ofTheKernel {
					t.Errorf("%s: nothing prints %q", path, m[1])
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d quotations found", found)
	}
}

// withRealKeys puts a key in the place of each placeholder, which is refused: the same for the same
// one.
func withRealKeys(t *testing.T, src string) string {
	t.Helper()
	made := make(map[string]string)
	return regexp.MustCompile(`PutThe\w+=`).ReplaceAllStringFunc(src, func(placeholder string) string {
		if made[placeholder] == "" {
			k, err := keys.GeneratePrivate()
			if err != nil {
				t.Fatal(err)
			}
			made[placeholder] = k.Public().String()
		}
		return made[placeholder]
	})
}

// TestExamples_placeholdersAreRefused: somebody who forgets to put a key in place is told so, and
// not that a handshake fails.
func TestExamples_placeholdersAreRefused(t *testing.T) {
	t.Parallel()
	var all []byte
	paths, _ := filepath.Glob("../examples/*/*.toml")
	howtos, _ := filepath.Glob("../docs/howto/*.md")
	for _, path := range slices.Concat(paths, howtos, []string{"../README.md", "../docs/config.md", "../docs/ethernet.md"}) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	found := regexp.MustCompile(`PutThe\w+=`).FindAllString(string(all), -1)
	if len(found) < 20 {
		t.Errorf("only %d placeholders found", len(found))
	}
	for _, placeholder := range found {
		if !scalar.IsPlaceholder(placeholder) {
			t.Errorf("%s is taken for a key", placeholder)
		}
	}
}

func below(n string) string { return step(n, -1) }
func above(n string) string { return step(n, 1) }

func step(n string, by int) string {
	v, err := strconv.Atoi(n)
	if err != nil {
		panic(err)
	}
	return strconv.Itoa(v + by)
}
