package config

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/config/tomlscan"
)

// maxSyntaxErrors bounds how often a malformed statement is set aside and the decoder run again:
// each run costs as much as the first, and a file with more such errors is not TOML at all.
const maxSyntaxErrors = 20

// statement is an assignment that the decoder refused.
type statement struct {
	start, end int    // from the first byte of the key to the end of the last line
	key        string // "" when there is no "key ="
	value      int    // offset of the value
	complete   bool   // the scanner found the end of the value, so quotes and brackets are closed
}

// beginsStatement matches the first line of a statement or a header, other than an element of a
// list.
var beginsStatement = regexp.MustCompile(`(?m)^[ \t]*(?:[A-Za-z0-9_."'-]+[ \t]*=|\[{1,2}[ \t]*[A-Za-z_])`)

// assignmentStart matches the key of an assignment and what separates it from its value.
var assignmentStart = regexp.MustCompile(`^([A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*=[ \t]*`)

// statementAt returns the assignment that the decoder refused at offset pos; ok is false when it is
// a header.
func statementAt(src string, pos int) (st statement, ok bool) {
	pos = max(0, min(pos, len(src)))
	st.start, st.end, st.complete = tomlscan.StatementAt(src, pos)
	if strings.HasPrefix(src[st.start:], "[") {
		return st, false
	}
	if !st.complete {
		st.end = lineEnd(src, st.start)
		next := beginsStatement.FindStringIndex(src[st.end:])
		open := strings.TrimSpace(afterKey(src[st.start:st.end]))
		switch {
		case !strings.HasPrefix(open, "[") && !strings.HasPrefix(open, "{") &&
			!strings.HasPrefix(open, `"""`) && !strings.HasPrefix(open, "'''"): // one line
		case next == nil:
			st.end = len(src)
		default:
			st.end += max(0, next[0]-1)
		}
	}
	st.end = lineEnd(src, st.end)
	if m := assignmentStart.FindStringSubmatchIndex(src[st.start:st.end]); m != nil {
		st.key = strings.Trim(src[st.start+m[2]:st.start+m[3]], `"'`)
		st.value = st.start + m[1]
	}
	return st, true
}

// lineEnd returns the offset of the end of the line that offset at is on, without its line break.
func lineEnd(src string, at int) int {
	if n := strings.IndexByte(src[at:], '\n'); n >= 0 {
		at += n
	} else {
		at = len(src)
	}
	if at > 0 && at < len(src) && src[at-1] == '\r' {
		at--
	}
	return at
}

// afterKey returns what follows "key =" in the text of a statement, or all of it.
func afterKey(text string) string { return text[len(assignmentStart.FindString(text)):] }

// setAside takes a refused statement out of src, so that the rest can be read. Its key stays, with
// a value that counts as reported: nobody is told that the key is missing, or that its value is of
// the wrong type.
func (l *loader) setAside(src []byte, st statement) {
	from := st.start
	if st.key != "" && st.value < st.end {
		src[st.value] = '0'
		l.reported[st.value] = true
		from = st.value + 1
	}
	for i := from; i < st.end; i++ {
		if src[i] != '\n' && src[i] != '\r' {
			src[i] = ' '
		}
	}
}

// reportedValue stands for a value that has been reported as malformed.
type reportedValue struct{}

// Characters that word processors, web pages and chat programs put in place of ASCII ones.
const (
	typographic = "“”„‟‘’‚‛«»＂`´"
	invisible   = "\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff"
)

var (
	colonForEquals = regexp.MustCompile(`^[A-Za-z0-9_-]+[ \t]*:`)
	numberAndUnit  = regexp.MustCompile(`^[+-]?[0-9][0-9_.]*[ \t]*[A-Za-z]`)
	leadingZero    = regexp.MustCompile(`^[+-]?0[0-9_]+$`)
	wholeString    = regexp.MustCompile(`^("(\\.|[^"\\\n])*"|'[^'\n]*')[ \t]*`)
)

// explainSyntax says what is wrong with a statement and where, in the terms of this file rather
// than those of TOML's grammar; msg is "" when it does not know better than the decoder.
func (l *loader) explainSyntax(src string, st statement) (at int, msg string) {
	text := src[st.start:st.end]
	if hash := strings.IndexByte(text, '#'); hash >= 0 && !strings.ContainsAny(text[:hash], `"'`) {
		text = text[:hash]
	}
	if i := strings.IndexAny(text, typographic); i >= 0 && !insideQuotes(text[:i]) {
		return st.start + i, `use straight quotes, "like this"`
	}
	if i := strings.IndexAny(text, invisible); i >= 0 && !insideQuotes(text[:i]) {
		return st.start + i, "an invisible character stands here: replace it with a plain space"
	}
	if st.key == "" {
		return st.start, noAssignment(text)
	}
	key := scalar.ShownKey(st.key)
	if len(st.key) <= scalar.MaxShownKey && !scalar.MayBeSecret(st.key) {
		key = st.key
	}
	msg = l.explainValue(st, strings.TrimSpace(afterKey(text)))
	if msg == "" {
		return st.value, ""
	}
	return st.value, key + ": " + msg
}

// insideQuotes reports whether a position is inside a string, given what stands before it in a
// statement.
func insideQuotes(before string) bool {
	return strings.Count(before, `"`)%2 == 1 || strings.Count(before, "'")%2 == 1
}

// noAssignment says what is wrong with a line that is neither an assignment nor a header.
func noAssignment(text string) string {
	for _, mark := range []string{";", "//", "--", "/*", "%"} {
		if strings.HasPrefix(text, mark) {
			return "a comment begins with #"
		}
	}
	if colonForEquals.MatchString(text) {
		return `want key = value, with "=" instead of ":"`
	}
	if first, _ := utf8.DecodeRuneInString(text); strings.Contains(text, "=") || first >= utf8.RuneSelf {
		return ""
	}
	return "want key = value, a [section] or a comment that begins with #"
}

// explainValue says what is wrong with the text of a value; "" when the decoder knows better.
func (l *loader) explainValue(st statement, value string) string {
	key, kind := l.known.Find(st.key)
	if len(key) > scalar.MaxShownKey || scalar.LooksLikeKey(key) {
		key = "key"
	}
	first := ""
	if m := wholeString.FindString(value); m != "" {
		first = strings.TrimSpace(value[len(m):])
	}
	switch {
	case value == "":
		return "the value is missing"
	case strings.ContainsRune(value, 0), !utf8.ValidString(value):
		return ""
	case strings.HasPrefix(value, `"""`), strings.HasPrefix(value, "'''"), strings.HasPrefix(value, "{"):
		return ""
	case strings.HasPrefix(first, ","):
		return "several values need brackets around them: " + spelling.Example(key, kind, "")
	case first != "" && !strings.HasPrefix(first, "#"):
		return "nothing may follow the value but a comment, which begins with #"
	case value[0] == '"' || value[0] == '\'':
		if !st.complete {
			return "the closing quote is missing"
		}
		return ""
	case value[0] == '[' && !st.complete && strings.Count(value, "[") > strings.Count(value, "]"):
		return "the closing bracket is missing"
	case value[0] == '[' && !strings.ContainsAny(value, `"'`) && (kind == 0 || kind == spelling.List):
		return "the values of a list need quotes: " + spelling.Example(key, spelling.List, "")
	case value[0] == '[':
		return ""
	}
	return unquoted(key, kind, value)
}

// unquoted says how a value without quotes is to be written.
func unquoted(key string, kind spelling.Kind, value string) string {
	safe := ""
	if kind != spelling.Secret && kind != 0 && len(value) <= scalar.MaxShownText && !scalar.MayBeSecret(value) {
		safe = value
	}
	if key == "endpoint" && unbracketed(value) || strings.ContainsAny(value, "\"'\\,;\r\n\t#") || !utf8.ValidString(value) {
		safe = ""
	}
	number := kind == spelling.Number || kind == spelling.Seconds
	switch {
	case number && numberAndUnit.MatchString(value):
		return spelling.WithoutUnit(key, kind, value)
	case (number || kind == 0) && leadingZero.MatchString(value):
		return "a number cannot begin with a zero"
	case (number || kind == 0) && value[0] >= '0' && value[0] <= '9':
		return ""
	case number:
		return "want a number"
	case kind == spelling.Boolean:
		return "want true or false, in lower case"
	case kind == spelling.List:
		return "needs quotes and brackets: " + spelling.Example(key, kind, safe)
	}
	return "a string needs quotes: " + spelling.Example(key, kind, safe)
}

// explainHeader says how a header is written, if it is one that the decoder refuses; otherwise it
// returns msg.
func (l *loader) explainHeader(msg string, st statement, isAssignment bool) string {
	line := l.src[st.start:lineEnd(l.src, st.start)]
	if isAssignment || strings.HasPrefix(msg, "key ") {
		return msg
	}
	if hash := strings.IndexByte(line, '#'); hash >= 0 {
		line = line[:hash]
	}
	name := strings.Trim(line, "[] \t")
	for _, section := range l.known.Sections[""] {
		if spelling.Fold(name) == section {
			return "a section begins with " + spelling.Bracketed(section) + " on a line of its own"
		}
	}
	return "a section begins with its name in brackets on a line of its own, such as [tun] or [[peer]]"
}
