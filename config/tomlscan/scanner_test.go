package tomlscan

import (
	"fmt"
	"strings"
	"testing"
)

func TestScan_findsThePlaceOfEveryValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		src  string
		path string // keys with dots, elements with [n]
		want string // line:col of the key, then of the value
	}{
		{"a = 1", "a", "1:1 1:5"},
		{"# a = 2\n\n \ta\t=\t1 # a = 3", "a", "3:3 3:7"},
		{"a.b.c = 1", "a.b.c", "1:1 1:9"},
		{"a.b.c = 1\na.b.d = 2", "a.b.d", "2:1 2:9"},
		{"a . \"b\" . 'c' = 1", "a.b.c", "1:1 1:17"},
		{`"q k" = 1`, "q k", "1:1 1:9"},
		{`"\u0061\x62\t\\" = 1`, "ab\t\\", "1:1 1:20"},
		{"'a\\' = 1", "a\\", "1:1 1:8"},
		{`"" = 1`, "", "1:1 1:6"},
		{"[t]\na = 1", "t", "1:1 1:1"},
		{"[t]\na = 1", "t.a", "2:1 2:5"},
		{"[ t . u ]\na = 1", "t.u.a", "2:1 2:5"},
		{"[t.u]\na = 1\n[t]\nb = 2", "t.b", "4:1 4:5"},
		{"[t.u]\na = 1\n[t]\nb = 2", "t", "3:1 3:1"},
		{"[[p]]\na = 1\n[[p]]\na = 2", "p[0].a", "2:1 2:5"},
		{"[[p]]\na = 1\n [[p]]\na = 2", "p[1]", "3:2 3:2"},
		{"[[p]]\na = 1\n[[p]]\na = 2", "p[1].a", "4:1 4:5"},
		{"[[p]]\n[p.q]\na = 1\n[[p]]\n[p.q]\na = 2", "p[1].q.a", "6:1 6:5"},
		{"[[p]]\n[[p.q]]\na = 1\n[[p.q]]\na = 2", "p[0].q[1].a", "5:1 5:5"},
		{"[[p]]\np.x = 1", "p[0].p.x", "2:1 2:7"},
		{"a = [1, 2,\n  3 # x, y]\n , 4]", "a[2]", "2:3 2:3"},
		{"a = [1, 2,\n  3 # x, y]\n , 4]\nb = 5", "a[3]", "3:4 3:4"},
		{"a = [1, 2,\n  3 # x, y]\n , 4]\nb = 5", "b", "4:1 4:5"},
		{"a = [ [1], ['x]', \"]\"] ]\nb = 1", "a[1][1]", "1:19 1:19"},
		{"a = []\nb = 1", "b", "2:1 2:5"},
		{"a = [\n]\nb = 1", "b", "3:1 3:5"},
		{"a = {b = 1, c.d = [ 2, 3 ]}", "a.c.d[1]", "1:24 1:24"},
		{"a = {b = 1, c.d = [ 2, 3 ]}", "a.c.d", "1:13 1:19"},
		{"a = {\n b = 1, # b }\n c = 2,\n}\nd = 3", "a.c", "3:2 3:6"},
		{"a = {\n b = 1, # b }\n c = 2,\n}\nd = 3", "d", "5:1 5:5"},
		{"a = [{x = 1}, {x = 2}]", "a[1].x", "1:16 1:20"},
		{"a = \"\"\"\nb = 1\n\\\"\\\"\"\" x\\\"\"\"\"\"\"\nb = 2", "b", "4:1 4:5"},
		{"a = '''\nb = 1\n'' '''''\nb = 2", "b", "4:1 4:5"},
		{"a = \"# [\\\" \\\\\"\nb = 2", "b", "2:1 2:5"},
		{"a = 'x\\'\nb = 2", "b", "2:1 2:5"},
		{"a = 1979-05-27 07:32:00 # t\nb = 2", "b", "2:1 2:5"},
		{"a = [1979-05-27 07:32:00, 1e3]\nb = 2", "a[1]", "1:27 1:27"},
		{"a = 1\r\n[t]\r\nb = 2\r\n", "t.b", "3:1 3:5"},
		{"\"ä\" = 'x' # ß\n\"ö\" = {\"ü\" = 1}", "ö.ü", "2:8 2:14"},
	}
	for _, test := range tests {
		n := &Scan(test.src).Root
		for _, step := range strings.Split(strings.ReplaceAll(test.path, "[", ".["), ".") {
			var i int
			if _, err := fmt.Sscanf(step, "[%d]", &i); err == nil {
				n = n.Elem(i)
			} else {
				n = n.Child(step)
			}
		}
		lines := NewLines(test.src)
		line, col := lines.Position(n.Key)
		valueLine, valueCol := lines.Position(n.Value)
		if got := fmt.Sprintf("%d:%d %d:%d", line, col, valueLine, valueCol); got != test.want {
			t.Errorf("%s of\n%s\nis at %s, want %s", test.path, test.src, got, test.want)
		}
	}
}

func TestLines_countCharactersFromOne(t *testing.T) {
	t.Parallel()
	l := NewLines("aé\n\nb")
	// 2 is inside é.
	for offset, want := range []string{"1:1", "1:2", "1:2", "1:3", "2:1", "3:1", "3:2", "3:2"} {
		line, col := l.Position(offset)
		got := fmt.Sprintf("%d:%d", line, col)
		if got != want {
			t.Errorf("offset %d is at %s, want %s", offset, got, want)
		}
	}
	if line, col := l.Position(-5); line != 1 || col != 1 {
		t.Errorf("offset -5 is at %d:%d", line, col)
	}
	if line, col := NewLines("").Position(3); line != 1 || col != 1 {
		t.Errorf("offset 3 of nothing is at %d:%d", line, col)
	}
}
