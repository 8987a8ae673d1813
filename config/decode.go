package config

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"tund/config/scalar"
	"tund/config/tomlscan"
)

// decode turns the source into values and their places. What is not TOML is reported and set aside,
// and so are keys given twice, so that the rest of the file is still checked; ok is false when
// there is no rest.
func (l *loader) decode() (values map[string]any, places *tomlscan.Node, ok bool) {
	if at, msg := l.otherFormat(); msg != "" {
		l.errorAt(at, "%s", msg)
		return nil, nil, false
	}
	src := []byte(l.src)
	last := -1
	for range maxSyntaxErrors {
		found := tomlscan.Scan(string(src))
		if found.TooDeep >= 0 {
			l.errorAt(found.TooDeep, "nested too deeply")
			return nil, nil, false
		}
		l.cutDuplicates(src, found)
		values, err := decodeTOML(string(src))
		if err == nil {
			return values, &found.Root, true
		}
		at, msg := l.syntaxError(err)
		st, isAssignment := statementAt(string(src), at)
		if !isAssignment || at == last {
			l.errorAt(at, "%s", l.explainHeader(msg, st, isAssignment))
			return nil, nil, false
		}
		last = at
		if where, better := l.explainSyntax(string(src), st); better != "" {
			at, msg = where, better
		}
		l.errorAt(at, "%s", msg)
		l.setAside(src, st)
	}
	l.errorAt(last, "too many lines that are not TOML: the file is not read beyond this one")
	return nil, nil, false
}

// cutDuplicates reports the keys and sections that are given twice, with both places, and takes the
// later one out of src.
func (l *loader) cutDuplicates(src []byte, found *tomlscan.Result) {
	for _, d := range found.Duplicates {
		line, col := l.lines.Position(d.First)
		switch {
		case d.Table && d.Name == "peer":
			l.errorAt(d.Start, "write [[peer]], with two brackets, before each peer: [peer] can stand only once")
		case d.Table:
			l.errorAt(d.Start, "section %s given twice: first at %d:%d", scalar.ShownKey(d.Name), line, col)
		default:
			l.errorAt(d.Start, "%s given twice: first at %d:%d", scalar.ShownKey(d.Name), line, col)
		}
		for i := d.Start; i < d.End; i++ {
			if src[i] != '\n' && src[i] != '\r' {
				src[i] = ' '
			}
		}
	}
}

// errDecoder says that the TOML library panicked.
var errDecoder = errors.New("the TOML decoder gave up on this file")

// decodeTOML calls the library. A panic there, which it uses for what it holds impossible, becomes
// an error.
func decodeTOML(src string) (values map[string]any, err error) {
	defer func() {
		if recover() != nil {
			values, err = nil, errDecoder
		}
	}()
	_, err = toml.Decode(src, &values)
	return values, err
}

// quotedText matches what the library quotes from the source, and oneCharacter a single character
// in such quotes.
var (
	quotedText   = regexp.MustCompile(`"(\\.|[^"\\])*"|'[^']*'`)
	oneCharacter = regexp.MustCompile(`^(\\(.|x..|u....)|0x[0-9a-f]{2,4})$`)
)

// syntaxError returns the place and the wording of an error of the library. Of the source, which
// may be a secret in the wrong place, it shows no more than single characters.
func (l *loader) syntaxError(err error) (at int, msg string) {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return 0, err.Error()
	}
	hidden := false
	msg = quotedText.ReplaceAllStringFunc(parse.Message, func(quoted string) string {
		text := quoted[1 : len(quoted)-1]
		switch {
		case strings.HasPrefix(parse.Message, "Key '"):
			return scalar.ShownKey(text)
		case utf8.RuneCountInString(text) == 1, strings.Trim(text, `"'`) == "", oneCharacter.MatchString(text):
			return quoted
		}
		hidden = true
		return "what is here"
	})
	if hidden && strings.HasPrefix(msg, "expected value") {
		msg = "expected a value: a string needs quotes"
	}
	if msg == "" {
		msg = "not TOML"
	}
	// Messages of ours begin in lower case.
	for _, word := range []string{"Key ", "Invalid ", "Escaped "} {
		if strings.HasPrefix(msg, word) {
			msg = strings.ToLower(msg[:1]) + msg[1:]
		}
	}
	return parse.Position.Start, msg
}
