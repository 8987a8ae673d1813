package wgquick

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tund/config"
)

var update = flag.Bool("update", false, "write testdata/want anew")

// TestParse_filesAsPeopleHaveThem reads each file of testdata/conf and compares the configuration
// that comes of it, and the notes, with testdata/want.
func TestParse_filesAsPeopleHaveThem(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/conf/*.conf")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".conf")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, notes, faults := Parse(string(data), "wg0")
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			got := f.TOML("wg0.key")
			var said strings.Builder
			for _, n := range notes {
				said.WriteString(n.String() + "\n")
			}
			compare(t, "testdata/want/"+name+".toml", got)
			compare(t, "testdata/want/"+name+".notes", said.String())
			quotesNoKey(t, said.String(), string(data))
			if f.PrivateKeyFile == "" {
				roundTrip(t, got)
			}
		})
	}
}

// TestParse_filesThatAreRefused reads each file of testdata/refused and compares what is said of it
// with the file beside it.
func TestParse_filesThatAreRefused(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/refused/*.conf")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".conf"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, _, faults := Parse(string(data), "wg0")
			var said strings.Builder
			for _, f := range faults {
				said.WriteString(f.Error() + "\n")
			}
			if len(faults) == 0 {
				t.Error("it is accepted")
			}
			compare(t, strings.TrimSuffix(path, ".conf")+".faults", said.String())
			quotesNoKey(t, said.String(), string(data))
		})
	}
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// quotesNoKey checks that no key of a file is in what is said of it.
func quotesNoKey(t *testing.T, said, file string) {
	t.Helper()
	for _, key := range regexp.MustCompile(`[A-Za-z0-9+/]{43}=`).FindAllString(file, -1) {
		if strings.Contains(said, key) {
			t.Error("a note quotes a key")
		}
	}
}

// roundTrip exports a configuration, imports that and exports it again: nothing may change, nor be
// reported.
func roundTrip(t *testing.T, toml string) {
	t.Helper()
	export := func(toml string) string {
		c, err := config.Parse("wg0.toml", []byte(toml))
		if err != nil {
			t.Fatalf("the configuration is refused: %v", err)
		}
		f, _, err := FromConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		return f.Format()
	}
	conf := export(toml)
	f, notes, faults := Parse(conf, "wg0")
	if len(notes) > 0 || len(faults) > 0 {
		t.Errorf("the exported file gives %v, %v", notes, faults)
	}
	if again := f.TOML("wg0.key"); again != toml {
		t.Errorf("imported again:\n%s\nfirst:\n%s", again, toml)
	}
	if again := export(f.TOML("wg0.key")); again != conf {
		t.Errorf("exported again:\n%s\nfirst:\n%s", again, conf)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/conf/*.conf")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, notes, faults := Parse(text, "wg0")
		for _, n := range notes {
			if n.Line < 0 || n.Text == "" {
				t.Errorf("note %+v", n)
			}
		}
		if len(faults) > 0 || file.PrivateKey.IsZero() {
			return
		}
		toml := file.TOML("wg0.key")
		if _, err := config.Parse("wg0.toml", []byte(toml)); err != nil {
			return // what config alone knows: the form of host names
		}
		roundTrip(t, toml)
	})
}
