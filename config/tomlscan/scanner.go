package tomlscan

import (
	"slices"
	"strconv"
	"strings"
)

// Bounds of what the decoder is given: it recurses for each level of nesting and copies a dotted
// key for each of its parts. No file for tund needs more than two levels.
const (
	maxDepth    = 16
	maxKeyParts = 16
)

// scanner walks over src. Its methods named for a piece of TOML leave pos behind that piece and
// report false where the source is malformed or too deep.
type scanner struct {
	src  string
	pos  int
	out  Result
	cur  *Node      // the table that assignments go to
	open *Duplicate // a table given twice, until the next header ends it

	until        int // no statement that begins behind this offset is read
	statement    int // offset of the last statement that was begun
	statementEnd int // offset of its end; 0 where the scanner did not find it
}

// Scan finds the places of everything in src. Where src is malformed, it returns what it found
// before.
func Scan(src string) *Result {
	s := newScanner(src, len(src))
	s.document()
	s.closeDuplicate(s.pos)
	slices.SortFunc(s.out.Duplicates, func(a, b Duplicate) int { return a.Start - b.Start })
	s.out.End = s.pos
	return &s.out
}

// StatementAt returns the offset of the last statement that begins at or before pos, and that of
// its end. complete is false where the end was not found, because the statement is malformed: end
// is then start.
func StatementAt(src string, pos int) (start, end int, complete bool) {
	s := newScanner(src, pos)
	s.document()
	return s.statement, max(s.statementEnd, s.statement), s.statementEnd > s.statement
}

func newScanner(src string, until int) *scanner {
	s := &scanner{src: src, until: until}
	s.out.TooDeep = -1
	s.cur = &s.out.Root
	return s
}

func (s *scanner) document() {
	for {
		s.blank(true)
		if s.pos == len(s.src) || s.pos > s.until {
			return
		}
		s.statement, s.statementEnd = s.pos, 0
		ok := false
		if s.src[s.pos] == '[' {
			ok = s.header()
		} else {
			_, ok = s.assignment(s.cur, 0)
		}
		if !ok {
			return
		}
		s.statementEnd = s.pos
		s.blank(false)
		if s.pos < len(s.src) && s.src[s.pos] != '\n' {
			return
		}
	}
}

// blank skips spaces, and comments up to the end of their line; newlines too, when they mean
// nothing here.
func (s *scanner) blank(newlines bool) {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == ' ' || c == '\t', c == '\n' && newlines:
			s.pos++
		case c == '\r' && strings.HasPrefix(s.src[s.pos:], "\r\n"):
			s.pos++
		case c == '#':
			if n := strings.IndexByte(s.src[s.pos:], '\n'); n >= 0 {
				s.pos += n
			} else {
				s.pos = len(s.src)
			}
		default:
			return
		}
	}
}

// literal skips text if it is what follows.
func (s *scanner) literal(text string) bool {
	if !strings.HasPrefix(s.src[s.pos:], text) {
		return false
	}
	s.pos += len(text)
	return true
}

// header reads [a.b] or [[a.b]].
func (s *scanner) header() bool {
	start := s.pos
	s.closeDuplicate(start)
	open, end := "[", "]"
	if strings.HasPrefix(s.src[s.pos:], "[[") {
		open, end = "[[", "]]"
	}
	s.pos += len(open)
	path, ok := s.keyPath()
	if !ok || !s.literal(end) {
		return false
	}
	parent := &s.out.Root
	for _, name := range path[:len(path)-1] {
		parent = parent.open(name, start)
	}
	name := path[len(path)-1]
	c := parent.Children[name]
	switch {
	case open == "[[" && (c == nil || c.tables):
		if c == nil {
			c = &Node{Key: start, Value: start, tables: true, defined: true}
			parent.Put(name, c)
		}
		s.cur = &Node{Key: start, Value: start, defined: true}
		c.Elems = append(c.Elems, s.cur)
	case open == "[" && (c == nil || !c.defined):
		if c == nil {
			c = &Node{}
			parent.Put(name, c)
		}
		c.Key, c.Value, c.defined = start, start, true
		s.cur = c
	default:
		s.open = &Duplicate{Name: name, Table: true, First: c.Key, Start: start}
		s.cur = &Node{Key: start, Value: start}
	}
	return true
}

// closeDuplicate ends a table given twice: its assignments are a part of it.
func (s *scanner) closeDuplicate(end int) {
	if s.open != nil {
		s.open.End = end
		s.out.Duplicates = append(s.out.Duplicates, *s.open)
		s.open = nil
	}
}

// assignment reads key = value into table. It returns the duplicate it added, if it did.
func (s *scanner) assignment(table *Node, depth int) (again *Duplicate, ok bool) {
	start := s.pos
	path, ok := s.keyPath()
	if !ok || !s.literal("=") {
		return nil, false
	}
	s.blank(false)
	n := &Node{Key: start, Value: s.pos, defined: true}
	if !s.anyValue(n, depth) {
		return nil, false
	}
	for _, name := range path[:len(path)-1] {
		table = table.open(name, start)
	}
	name := path[len(path)-1]
	if first := table.Children[name]; first != nil {
		s.out.Duplicates = append(s.out.Duplicates,
			Duplicate{Name: name, First: first.Key, Start: start, End: s.pos})
		return &s.out.Duplicates[len(s.out.Duplicates)-1], true
	}
	table.Put(name, n)
	return nil, true
}

// keyPath reads a.b."c d", with the spaces around it.
func (s *scanner) keyPath() (path []string, ok bool) {
	for {
		s.blank(false)
		name, ok := s.keyPart()
		if !ok {
			return nil, false
		}
		if len(path) == maxKeyParts {
			s.out.TooDeep = s.pos
			return nil, false
		}
		path = append(path, name)
		s.blank(false)
		if !s.literal(".") {
			return path, true
		}
	}
}

func (s *scanner) keyPart() (name string, ok bool) {
	if s.pos == len(s.src) {
		return "", false
	}
	start := s.pos
	switch s.src[start] {
	case '"':
		if !s.quoted(`"`, true) {
			return "", false
		}
		return unescape(s.src[start+1 : s.pos-1]), true
	case '\'':
		if !s.quoted(`'`, false) {
			return "", false
		}
		return s.src[start+1 : s.pos-1], true
	}
	for s.pos < len(s.src) && isBare(s.src[s.pos]) {
		s.pos++
	}
	return s.src[start:s.pos], s.pos > start
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// quoted reads a string on one line between two marks.
func (s *scanner) quoted(mark string, escapes bool) bool {
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == mark[0]:
			s.pos++
			return true
		case c == '\n':
			return false
		case c == '\\' && escapes:
			s.pos++
		}
	}
	s.pos = len(s.src)
	return false
}

// multiline reads a string between two marks of three quotes, which may have up to two quotes
// before its end.
func (s *scanner) multiline(mark string, escapes bool) bool {
	for s.pos += len(mark); s.pos < len(s.src); s.pos++ {
		switch {
		case s.literal(mark):
			for i := 0; i < 2 && s.pos < len(s.src) && s.src[s.pos] == mark[0]; i++ {
				s.pos++
			}
			return true
		case s.src[s.pos] == '\\' && escapes:
			s.pos++
		}
	}
	s.pos = len(s.src)
	return false
}

// anyValue reads a value and notes the places of what is inside it at n.
func (s *scanner) anyValue(n *Node, depth int) bool {
	rest := s.src[s.pos:]
	switch {
	case rest == "":
		return false
	case depth == maxDepth:
		s.out.TooDeep = s.pos
		return false
	case strings.HasPrefix(rest, `"""`):
		return s.multiline(`"""`, true)
	case strings.HasPrefix(rest, `'''`):
		return s.multiline(`'''`, false)
	case rest[0] == '"':
		return s.quoted(`"`, true)
	case rest[0] == '\'':
		return s.quoted(`'`, false)
	case rest[0] == '[':
		return s.array(n, depth)
	case rest[0] == '{':
		return s.inlineTable(n, depth)
	}
	end := strings.IndexAny(rest, ",]}#\n")
	if end < 0 {
		end = len(rest)
	}
	end = len(strings.TrimRight(rest[:end], " \t\r"))
	s.pos += end
	return end > 0
}

func (s *scanner) array(n *Node, depth int) bool {
	for s.pos++; ; {
		s.blank(true)
		if s.literal("]") {
			return true
		}
		e := &Node{Key: s.pos, Value: s.pos, defined: true}
		if !s.anyValue(e, depth+1) {
			return false
		}
		n.Elems = append(n.Elems, e)
		s.blank(true)
		if !s.literal(",") {
			return s.literal("]")
		}
	}
}

func (s *scanner) inlineTable(n *Node, depth int) bool {
	for s.pos++; ; {
		s.blank(true)
		if s.literal("}") {
			return true
		}
		again, ok := s.assignment(n, depth+1)
		if !ok {
			return false
		}
		s.blank(true)
		if !s.literal(",") {
			return s.literal("}")
		}
		if again != nil {
			again.End = s.pos // with its comma, so that what is left is well-formed
		}
	}
}

// unescape resolves the escapes of a basic string. The decoder has the say on whether they are
// valid.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[i]]
		if digits > 0 && i+digits < len(text) {
			if r, err := strconv.ParseUint(text[i+1:i+1+digits], 16, 32); err == nil {
				b.WriteRune(rune(r))
			}
			i += digits
			continue
		}
		if p := strings.IndexByte(`btnfre"\`, text[i]); p >= 0 {
			b.WriteByte("\b\t\n\f\r\x1b\"\\"[p])
		}
	}
	return b.String()
}
