package config

import (
	"fmt"
	"slices"
	"strings"
)

// section is one table of the file. Its methods that are named for a type read the value of a key; they
// report what is not of that type or out of range, and return the default in its place.
type section struct {
	l      *loader
	name   string // tunnel, tun, tap or peer; "" for the file itself
	label  string // how messages begin: tunnel, or peer "berlin"
	values map[string]any
	at     *node
}

// allKeys returns the keys of each section, in the order in which they are read, and under "" the sections.
// It loads a file that has every section and no key, and records what is asked for: a key exists because
// something reads it, and is declared nowhere else. Every key is therefore to be read whether or not it is
// there, and whatever other keys say.
func allKeys() map[string][]string {
	l := newLoader("", host{getenv: func(string) string { return "" }}, "")
	l.asked = make(map[string][]string)
	empty := map[string]any{}
	l.file(map[string]any{
		"tunnel": empty, "tun": empty, "tap": empty, "peer": []map[string]any{empty},
	}, &node{})
	return l.asked
}

// value returns what the file says at key.
func (s *section) value(key string) (value any, ok bool) {
	if asked := s.l.asked; asked != nil && !slices.Contains(asked[s.name], key) {
		asked[s.name] = append(asked[s.name], key)
	}
	value, ok = s.values[key]
	return value, ok
}

// bracketed is how the file writes the name of a section.
func bracketed(name string) string {
	if name == "peer" {
		return "[[peer]]"
	}
	return "[" + name + "]"
}

// has reports whether the file says anything at key. It does not count as reading the key.
func (s *section) has(key string) bool { _, ok := s.values[key]; return ok }

// where returns the offset of the value of key, or of the section if it is not there.
func (s *section) where(key string) int { return s.at.child(key).value }

// errorAt reports a mistake in the value of key.
func (s *section) errorAt(at int, key, format string, args ...any) {
	s.l.errorAt(at, "%s: %s: %s", s.label, key, fmt.Sprintf(format, args...))
}

// warnAt reports a doubt about the value of key.
func (s *section) warnAt(at int, key, format string, args ...any) {
	s.l.warnAt(at, "%s: %s: %s", s.label, key, fmt.Sprintf(format, args...))
}

// unknownKeys reports the keys that the section should not have.
func (s *section) unknownKeys() {
	if s.l.known == nil {
		return
	}
	for key := range s.values {
		if slices.Contains(s.l.known[s.name], key) {
			continue
		}
		prefix := ""
		if s.label != "" {
			prefix = s.label + ": "
		}
		kind := "key"
		switch s.values[key].(type) {
		case map[string]any, []map[string]any:
			kind = "section"
		}
		s.l.errorAt(s.at.child(key).key, "%sunknown %s %s%s", prefix, kind, shownKey(key), s.l.known.suggest(s.name, key))
	}
}

// typeName names the type of a decoded value for a message.
func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func (s *section) wrongType(key, want string) {
	s.errorAt(s.where(key), key, "want %s, not %s", want, typeName(s.values[key]))
}

// table returns the section called name; ok is false when there is none.
func (s *section) table(name string) (sub *section, ok bool) {
	value, _ := s.value(name)
	switch v := value.(type) {
	case nil:
		return nil, false
	case map[string]any:
		sub = &section{l: s.l, name: name, label: name, values: v, at: s.at.child(name)}
		sub.unknownKeys()
		return sub, true
	default:
		s.l.errorAt(s.where(name), "%s: want one section %s, not %s", name, bracketed(name), typeName(v))
		return nil, false
	}
}

// tables returns the sections called name, of which there may be any number.
func (s *section) tables(name string) []*section {
	var all []any
	value, _ := s.value(name)
	switch v := value.(type) {
	case nil:
		return nil
	case []map[string]any:
		for _, t := range v {
			all = append(all, t)
		}
	case []any:
		all = v
	default:
		s.l.errorAt(s.where(name), "%s: want %s, with two brackets", name, bracketed(name))
		return nil
	}
	var subs []*section
	for i, v := range all {
		at := s.at.child(name).elem(i)
		t, ok := v.(map[string]any)
		if !ok {
			s.l.errorAt(at.value, "%s: want a table, not %s", name, typeName(v))
			continue
		}
		subs = append(subs, &section{l: s.l, name: name, values: t, at: at})
	}
	return subs
}

// integer returns the value of key, or otherwise the default.
func (s *section) integer(key string, otherwise, low, high int64) int64 {
	value, given := s.value(key)
	if !given {
		return otherwise
	}
	n, ok := value.(int64)
	switch {
	case !ok:
		s.wrongType(key, "an integer")
	case n < low || n > high:
		s.errorAt(s.where(key), key, "%d is out of range (%d to %d)", n, low, high)
	default:
		return n
	}
	return otherwise
}

func (s *section) boolean(key string, otherwise bool) bool {
	value, given := s.value(key)
	if !given {
		return otherwise
	}
	b, ok := value.(bool)
	if !ok {
		s.wrongType(key, "true or false")
		return otherwise
	}
	return b
}

// choice returns the index in words of the value of key; the first word is the default.
func (s *section) choice(key string, words ...string) int {
	value, given := s.value(key)
	if !given {
		return 0
	}
	text, ok := value.(string)
	if i := slices.Index(words, text); ok && i >= 0 {
		return i
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	want := strings.Join(quoted[:len(words)-1], ", ") + " or " + quoted[len(words)-1]
	if ok {
		s.errorAt(s.where(key), key, "want %s, not %s", want, shown(text))
	} else {
		s.wrongType(key, want)
	}
	return 0
}

// text returns the value of key; ok is false when it is not there or not a string.
func (s *section) text(key string) (text string, ok bool) {
	value, given := s.value(key)
	if !given {
		return "", false
	}
	text, ok = value.(string)
	if !ok {
		s.wrongType(key, "a string")
	}
	return text, ok
}

// item is an element of a list with its place.
type item struct {
	value any
	at    int
}

// list returns the elements of the list at key.
func (s *section) list(key, want string) []item {
	value, given := s.value(key)
	if !given {
		return nil
	}
	values, ok := value.([]any)
	if !ok { // a list of tables has a type of its own, and nothing here wants it
		s.wrongType(key, want)
		return nil
	}
	items := make([]item, len(values))
	for i, v := range values {
		items[i] = item{value: v, at: s.at.child(key).elem(i).value}
	}
	return items
}

// words returns the elements of a list of strings.
func (s *section) words(key string) (words []string, at []int) {
	for _, it := range s.list(key, "a list of strings") {
		text, ok := it.value.(string)
		if !ok {
			s.errorAt(it.at, key, "want a string, not %s", typeName(it.value))
			continue
		}
		words, at = append(words, text), append(at, it.at)
	}
	return words, at
}
