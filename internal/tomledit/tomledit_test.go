package tomledit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

const doc = `# head
[tunnel] # ours
listen_port = 1 # keep

# the first
# of two
[[peer]]
name        = "a" # A
allowed_ips = [   # many
    "10.0.0.0/8", # a # in a comment
    "x = [[peer]]",
]
text        = """
[[peer]]
"""

# the second
[[ peer ]]
  name = 'b'
  keepalive=5

# the end
`

func TestSet_replacesTheValueAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number          int
		key, value      string
		before, instead string
	}{
		{0, "name", `"c"`, `"a" # A`, `"c" # A`},
		{0, "allowed_ips", `["1"]`, doc[strings.Index(doc, "[   # many"):strings.Index(doc, "\ntext")], `["1"]`},
		{1, "keepalive", "25", "keepalive=5", "keepalive=25"},
		{1, "endpoint", `"h:1"`, "  keepalive=5\n", "  keepalive=5\n  endpoint = \"h:1\"\n"},
		{0, "mtu", "1", "\"\"\"\n\n# the second", "\"\"\"\nmtu         = 1\n\n# the second"},
	} {
		got, err := Set([]byte(doc), "peer", c.number, c.key, c.value)
		if want := strings.Replace(doc, c.before, c.instead, 1); err != nil || string(got) != want {
			t.Errorf("%s of %d: %v\n%s", c.key, c.number, err, got)
		}
	}
}

func TestDelete_takesTheLine(t *testing.T) {
	t.Parallel()
	got, err := Delete([]byte(doc), "peer", 0, "name")
	if want := strings.Replace(doc, "name        = \"a\" # A\n", "", 1); err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err := Delete([]byte(doc), "peer", 0, "nothing"); err != nil || string(got) != doc {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestRemove_takesTheTableWithItsComments(t *testing.T) {
	t.Parallel()
	first := doc[strings.Index(doc, "# the first"):strings.Index(doc, "# the second")]
	got, err := Remove([]byte(doc), "peer", 0)
	if want := strings.Replace(doc, first, "", 1); err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	second := doc[strings.Index(doc, "# the second"):strings.Index(doc, "# the end")]
	got, err = Remove([]byte(doc), "peer", 1)
	if want := strings.Replace(doc, second, "", 1); err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// What Append adds, Remove takes away again.
func TestAppend_andRemoveAreOpposites(t *testing.T) {
	t.Parallel()
	for _, text := range []string{doc, "\ufeff" + doc, strings.TrimRight(doc, "\n"), strings.ReplaceAll(doc, "\n", "\r\n"),
		"[tunnel]\nx = 1\n", "a = 1", "[[peer]]\n[[peer]]\n"} {
		with := Append([]byte(text), "[[peer]]\nname = \"new\"\n")
		var values struct{ Peer []map[string]any }
		if err := toml.Unmarshal(with, &values); err != nil || values.Peer[len(values.Peer)-1]["name"] != "new" {
			t.Errorf("%q: %v in\n%q", text, err, with)
		}
		if bytes.Contains(with, []byte("\r\n")) && bytes.Count(with, []byte("\n")) != bytes.Count(with, []byte("\r\n")) {
			t.Errorf("%q: line ends are mixed", with)
		}
		got, err := Remove(with, "peer", len(values.Peer)-1)
		if err != nil || strings.TrimRight(string(got), "\r\n") != strings.TrimRight(text, "\r\n") {
			t.Errorf("%q: %v, left is\n%q", text, err, got)
		}
	}
}

func TestErrors_sayWhatCannotBeChanged(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{"x = ": ErrSyntax, `peer = [{name = "a"}]`: ErrNoTable, doc: nil, "": ErrNoTable} {
		if _, err := Set([]byte(text), "peer", 0, "name", `"x"`); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if _, err := Remove([]byte(doc), "peer", 2); !errors.Is(err, ErrNoTable) {
		t.Error(err)
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte(doc))
	f.Add([]byte("[[peer]]\na.b = {c = 1}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		before := bytes.Clone(doc)
		got, err := Set(doc, "peer", 0, "zz_new", "25")
		if !bytes.Equal(before, doc) {
			t.Fatal("the document was written to")
		}
		if err != nil {
			return
		}
		var old, values struct{ Peer []map[string]any }
		if toml.Unmarshal(doc, &old) != nil {
			return // the two parsers differ in what they take
		}
		if err := toml.Unmarshal(got, &values); err != nil || len(values.Peer) != len(old.Peer) || values.Peer[0]["zz_new"] != int64(25) {
			t.Errorf("%q became %q: %v", doc, got, err)
		}
	})
}
