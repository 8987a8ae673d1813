// Package tomledit changes single keys and tables of a TOML document and leaves every other byte as
// it is: comments, order, spaces and line ends.
//
// It knows arrays of tables with headers ([[peer]]) and the keys right below them, which is what
// there is to change in a configuration by a program; it neither reads values nor checks that a
// document makes sense: whoever changed one reads it again (package config). Values are given as
// TOML.
//
// The package is pure: it takes and returns bytes and does not write to its arguments. All
// functions are safe for concurrent use. Errors do not quote the document.
//
// Sources: TOML 1.0; places come from the parser of pelletier/go-toml.
package tomledit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Errors of this package.
var (
	// ErrSyntax: the document is not TOML.
	ErrSyntax = errors.New("not TOML")
	// ErrNoTable: there is no table of that name and number with a header of its own.
	ErrNoTable = errors.New("no such [[table]]: a table that is written inline has to be changed by hand")
)

// span is a piece of a document, by offsets.
type span struct{ start, end int }

// key is one assignment.
type key struct {
	name  string // "" when dotted
	line  span   // whole lines, with the line end
	value span
}

// table is one header and what is below it, as far as the next.
type table struct {
	name   string // "" when dotted
	array  bool
	header span // its line
	keys   []key
	end    int // of its last line with a header or a key, with the line end
}

// Append adds a block, such as a [[peer]] with its keys, to the end of a document, with an empty
// line before it.
func Append(doc []byte, block string) []byte {
	eol := lineEnd(doc)
	out := slices.Clone(doc)
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, eol...)
	}
	if len(bytes.TrimSpace(out)) > 0 && !bytes.HasSuffix(out, []byte("\n\n")) && !bytes.HasSuffix(out, []byte("\n\r\n")) {
		out = append(out, eol...)
	}
	return append(out, bytes.ReplaceAll([]byte(block), []byte("\n"), eol)...)
}

// Set gives a key of the table of that name and number (from 0) a value, given as TOML. A key that
// is there keeps its place and its comment; a new one comes behind the others.
func Set(doc []byte, name string, number int, keyName, value string) ([]byte, error) {
	t, err := find(doc, name, number)
	if err != nil {
		return nil, err
	}
	eol := lineEnd(doc)
	text := bytes.ReplaceAll([]byte(value), []byte("\n"), eol)
	if k := t.find(keyName); k != nil {
		return splice(doc, k.value, text), nil
	}
	line := fmt.Appendf(nil, "%s%-*s = %s%s", t.indent(doc), t.width(doc), keyName, text, eol)
	if t.end > 0 && doc[t.end-1] != '\n' { // the last line of a document without an end of line
		line = append(slices.Clone(eol), line...)
	}
	return splice(doc, span{t.end, t.end}, line), nil
}

// Delete takes a key out of a table, with its line. A key that is not there is no error.
func Delete(doc []byte, name string, number int, keyName string) ([]byte, error) {
	t, err := find(doc, name, number)
	if err != nil {
		return nil, err
	}
	if k := t.find(keyName); k != nil {
		return splice(doc, k.line, nil), nil
	}
	return slices.Clone(doc), nil
}

// Remove takes a whole table out of a document: its header, its keys, the comments between them,
// those right above the header, and the empty line that set it apart.
func Remove(doc []byte, name string, number int) ([]byte, error) {
	t, err := find(doc, name, number)
	if err != nil {
		return nil, err
	}
	cut := span{commentsAbove(doc, t.header.start), t.end}
	before, after := doc[:cut.start], doc[cut.end:]
	if blank := leadingBlank(after); blank > 0 && (len(before) == 0 || endsBlank(before)) {
		cut.end += blank
	} else if len(bytes.TrimSpace(after)) == 0 {
		cut.start = len(bytes.TrimRight(before, "\r\n"))
		if cut.start < len(before) { // keep the end of the last line
			cut.start += bytes.IndexByte(before[cut.start:], '\n') + 1
		}
		cut.end = len(doc)
	}
	return splice(doc, cut, nil), nil
}

// splice puts text in the place of a piece of doc.
func splice(doc []byte, at span, text []byte) []byte {
	return slices.Concat(doc[:at.start], text, doc[at.end:])
}

// lineEnd is how the lines of doc end.
func lineEnd(doc []byte) []byte {
	if i := bytes.IndexByte(doc, '\n'); i > 0 && doc[i-1] == '\r' {
		return []byte("\r\n")
	}
	return []byte("\n")
}

// commentsAbove returns where the comment lines begin that stand right above the line at start.
func commentsAbove(doc []byte, start int) int {
	for start > 0 {
		above := bytes.LastIndexByte(doc[:start-1], '\n') + 1
		if !bytes.HasPrefix(bytes.TrimSpace(doc[above:start]), []byte("#")) {
			return start
		}
		start = above
	}
	return start
}

// leadingBlank returns the length of the empty lines that text begins with.
func leadingBlank(text []byte) int {
	n := 0
	for {
		end := bytes.IndexByte(text[n:], '\n')
		if end < 0 || len(bytes.TrimSpace(text[n:n+end])) > 0 {
			return n
		}
		n += end + 1
	}
}

// endsBlank reports whether text ends with an empty line.
func endsBlank(text []byte) bool {
	text = bytes.TrimSuffix(text, []byte("\n"))
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	return len(bytes.TrimSpace(last)) == 0
}

// find returns the table of that name and number.
func find(doc []byte, name string, number int) (*table, error) {
	tables, err := scan(doc)
	if err != nil {
		return nil, err
	}
	for i := range tables {
		if t := &tables[i]; t.array && t.name == name {
			if number == 0 {
				return t, nil
			}
			number--
		}
	}
	return nil, ErrNoTable
}

// scan finds the tables of a document.
func scan(doc []byte) ([]table, error) {
	bom := len(doc) - len(bytes.TrimPrefix(doc, []byte("\ufeff")))
	var p unstable.Parser
	p.Reset(doc[bom:])
	var tables []table
	for p.NextExpression() {
		e := p.Expression()
		first, last, name := names(e)
		first, last = first+bom, last+bom
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			line := wholeLines(doc, span{first, last})
			tables = append(tables, table{name: name, array: e.Kind == unstable.ArrayTable, header: line, end: line.end})
		case unstable.KeyValue:
			if len(tables) == 0 {
				continue // of the document itself
			}
			end := bom + int(e.Raw.Offset+e.Raw.Length)
			start := last + bytes.IndexByte(doc[last:], '=') + 1
			start += len(doc[start:]) - len(bytes.TrimLeft(doc[start:], " \t"))
			k := key{name: name, line: wholeLines(doc, span{first, end}), value: span{start, end}}
			t := &tables[len(tables)-1]
			t.keys, t.end = append(t.keys, k), k.line.end
		}
	}
	if p.Error() != nil {
		return nil, ErrSyntax // its own words may quote the document
	}
	return tables, nil
}

// names returns where the name of an expression begins and ends, and the name itself if it has one
// part.
func names(e *unstable.Node) (first, last int, name string) {
	parts := 0
	for it := e.Key(); it.Next(); parts++ {
		n := it.Node()
		if parts == 0 {
			first, name = int(n.Raw.Offset), string(n.Data)
		}
		last = int(n.Raw.Offset + n.Raw.Length)
	}
	if parts > 1 {
		name = ""
	}
	return first, last, name
}

// wholeLines extends a piece to the lines it is in.
func wholeLines(doc []byte, s span) span {
	s.start = bytes.LastIndexByte(doc[:s.start], '\n') + 1
	if n := bytes.IndexByte(doc[s.end:], '\n'); n >= 0 {
		s.end += n + 1
	} else {
		s.end = len(doc)
	}
	return s
}

func (t *table) find(name string) *key {
	for i := range t.keys {
		if t.keys[i].name == name {
			return &t.keys[i]
		}
	}
	return nil
}

// indent is what the lines of t begin with.
func (t *table) indent(doc []byte) []byte {
	if len(t.keys) == 0 {
		return nil
	}
	line := doc[t.keys[0].line.start:t.keys[0].line.end]
	return line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
}

// width is how far the equals signs of t are from the beginnings of the keys, where they are all
// below each other.
func (t *table) width(doc []byte) int {
	width := 0
	for i, k := range t.keys {
		line := bytes.TrimLeft(doc[k.line.start:k.value.start], " \t")
		w := bytes.IndexByte(line, '=') - 1
		if i > 0 && w != width {
			return 0
		}
		width = w
	}
	return max(width, 0)
}
