package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/config/tomlscan"
	"tund/crypto/keys"
)

// section is one table of the file. Its methods that are named for a type read the value of a key;
// they report what is not of that type or out of range, and return the default in its place.
type section struct {
	l      *loader
	name   string // tunnel, tun, tap, agent or peer; "" for the file itself
	label  string // how messages begin: tunnel, or peer "berlin"
	values map[string]any
	at     *tomlscan.Node

	// respelt has the keys that the file writes in another way, such as PublicKey for public_key,
	// and how it does. They are errors, and are read nevertheless, so that nobody is told that they
	// are missing.
	respelt map[string]string

	publicKey keys.PublicKey // of a peer, once it is known
	priority  int32          // of a peer, once it is known
}

// section returns the section called name with the values that the file gives it.
func (l *loader) section(name, label string, values map[string]any, at *tomlscan.Node) *section {
	s := &section{l: l, name: name, label: label, values: values, at: at}
	if l.known == nil {
		return s
	}
	known := l.known.Sections[name]
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if slices.Contains(known, key) {
			continue
		}
		meant := l.known.Respelt(name, key)
		if _, given := values[meant]; meant == "" || given {
			continue
		}
		if s.respelt == nil {
			s.respelt, s.values = make(map[string]string), maps.Clone(values)
		}
		s.respelt[meant], s.values[meant] = key, values[key]
		at.Put(meant, at.Child(key))
	}
	return s
}

// allKeys returns the keys of each section, in the order in which they are read, and under "" the
// sections. It loads a file that has every section and no key, and records what is asked for: a key
// exists because something reads it, and is declared nowhere else. Every key is therefore to be
// read whether or not it is there, and whatever other keys say.
func allKeys() *spelling.Set {
	l := newLoader("", host{getenv: func(string) string { return "" }}, "")
	l.asked = &spelling.Set{Sections: make(map[string][]string), Kinds: make(map[string]spelling.Kind)}
	empty := map[string]any{}
	l.file(map[string]any{
		"tunnel": empty, "tun": empty, "tap": empty, "agent": empty, "metrics": empty, "peer": []map[string]any{empty},
	}, &tomlscan.Node{})
	return l.asked
}

// value returns what the file says at key, which takes what want says.
func (s *section) value(key string, want spelling.Kind) (value any, ok bool) {
	if asked := s.l.asked; asked != nil && !slices.Contains(asked.Sections[s.name], key) {
		asked.Sections[s.name] = append(asked.Sections[s.name], key)
		asked.Kinds[key] = want
	}
	value, ok = s.values[key]
	if s.l.reported[s.at.Child(key).Value] {
		return reportedValue{}, ok
	}
	return value, ok
}

// has reports whether the file says anything at key. It does not count as reading the key.
func (s *section) has(key string) bool { _, ok := s.values[key]; return ok }

// where returns the offset of the value of key, or of the section if it is not there.
func (s *section) where(key string) int { return s.at.Child(key).Value }

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
		if slices.Contains(s.l.known.Sections[s.name], key) {
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
		s.l.errorAt(s.at.Child(key).Key, "%sunknown %s %s%s", prefix, kind, scalar.ShownKey(key), s.l.known.Suggest(s.name, key))
	}
}

// typeName names the type of a decoded value for a message.
func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "a number"
	case float64:
		return "a fraction"
	case bool:
		return "a boolean"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// wrongType reports that the value of key is not what is wanted, unless it has been reported as
// malformed.
func (s *section) wrongType(key, want string) {
	if s.l.reported[s.at.Child(key).Value] {
		return
	}
	s.errorAt(s.where(key), key, "want %s, not %s", want, typeName(s.values[key]))
}

// table returns the section called name; ok is false when there is none.
func (s *section) table(name string) (sub *section, ok bool) {
	value, _ := s.value(name, spelling.Section)
	switch v := value.(type) {
	case nil:
		return nil, false
	case map[string]any:
		sub = s.l.section(name, name, v, s.at.Child(name))
		sub.unknownKeys()
		return sub, true
	case reportedValue:
		return nil, false
	default:
		s.l.errorAt(s.where(name), "%s: want one section %s, not %s", name, spelling.Bracketed(name), typeName(v))
		return nil, false
	}
}

// tables returns the sections called name, of which there may be any number.
func (s *section) tables(name string) []*section {
	var all []any
	value, _ := s.value(name, spelling.Section)
	switch v := value.(type) {
	case nil:
		return nil
	case []map[string]any:
		for _, t := range v {
			all = append(all, t)
		}
	case []any:
		all = v
	case map[string]any:
		if _, respelt := s.respelt[name]; !respelt {
			s.l.errorAt(s.where(name), "write %s, with two brackets, before each peer", spelling.Bracketed(name))
		}
		return []*section{s.l.section(name, "", v, s.at.Child(name))}
	case reportedValue:
		return nil
	default:
		s.l.errorAt(s.where(name), "%s: want sections %s, not %s", name, spelling.Bracketed(name), typeName(v))
		return nil
	}
	var subs []*section
	for i, v := range all {
		at := s.at.Child(name).Elem(i)
		t, ok := v.(map[string]any)
		if !ok {
			s.l.errorAt(at.Value, "%s: want a table, not %s", name, typeName(v))
			continue
		}
		subs = append(subs, s.l.section(name, "", t, at))
	}
	return subs
}

// textKind says whether the text at key is a secret, or would be if the wrong key were pasted
// there.
func textKind(key string) spelling.Kind {
	if strings.HasSuffix(key, "_key") {
		return spelling.Secret
	}
	return spelling.Text
}

// integer returns the value of key, or otherwise the default.
func (s *section) integer(key string, otherwise, low, high int64) int64 {
	return s.number(key, spelling.Number, otherwise, low, high)
}

// seconds returns the value of key, a number of seconds, or otherwise the default.
func (s *section) seconds(key string, otherwise, low, high int64) time.Duration {
	return time.Duration(s.number(key, spelling.Seconds, otherwise, low, high)) * time.Second
}

func (s *section) number(key string, want spelling.Kind, otherwise, low, high int64) int64 {
	value, given := s.value(key, want)
	if !given {
		return otherwise
	}
	n, ok := value.(int64)
	wanted := "a whole number"
	if want == spelling.Seconds {
		wanted = "a number of seconds"
	}
	switch {
	case !ok:
		if text, isText := value.(string); isText && text != "" && text[0] >= '0' && text[0] <= '9' {
			s.errorAt(s.where(key), key, "%s", spelling.WithoutUnit(key, want, text))
		} else {
			s.wrongType(key, wanted)
		}
	case n < low || n > high:
		s.errorAt(s.where(key), key, "%d is out of range (%d to %d)", n, low, high)
	default:
		return n
	}
	return otherwise
}

func (s *section) boolean(key string, otherwise bool) bool {
	value, given := s.value(key, spelling.Boolean)
	if !given {
		return otherwise
	}
	b, ok := value.(bool)
	if !ok {
		s.wrongType(key, "true or false, without quotes")
		return otherwise
	}
	return b
}

// choice returns the index in words of the value of key; the first word is the default.
func (s *section) choice(key string, words ...string) int {
	value, given := s.value(key, spelling.Text)
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
		s.errorAt(s.where(key), key, "want %s, not %s", want, scalar.Shown(text))
	} else {
		s.wrongType(key, want)
	}
	return 0
}

// text returns the value of key; ok is false when it is not there or not a string. It is a copy:
// the decoder's strings are parts of the whole text, which would stay in memory for one of them.
func (s *section) text(key string) (text string, ok bool) {
	value, given := s.value(key, textKind(key))
	if !given {
		return "", false
	}
	text, ok = value.(string)
	if !ok {
		s.wrongType(key, "a string")
	}
	return strings.Clone(text), ok
}

// item is an element of a list with its place.
type item struct {
	value any
	at    int
}

// list returns the elements of the list at key.
func (s *section) list(key, want string) []item {
	value, given := s.value(key, spelling.List)
	if !given {
		return nil
	}
	values, ok := value.([]any)
	if text, isText := value.(string); isText && !scalar.MayBeSecret(text) && spelling.HasExample(key) {
		s.errorAt(s.where(key), key, "want a list: %s", spelling.Example(key, spelling.List, clean(text)))
		return nil
	}
	if !ok { // a list of tables has a type of its own, and nothing here wants it
		s.wrongType(key, want)
		return nil
	}
	items := make([]item, len(values))
	for i, v := range values {
		items[i] = item{value: v, at: s.at.Child(key).Elem(i).Value}
	}
	return items
}

// words returns the elements of a list of strings, which are copies as those of text are.
func (s *section) words(key string) (words []string, at []int) {
	for _, it := range s.list(key, "a list of strings") {
		text, ok := it.value.(string)
		if !ok {
			s.errorAt(it.at, key, "want a string, not %s", typeName(it.value))
			continue
		}
		words, at = append(words, strings.Clone(text)), append(at, it.at)
	}
	return words, at
}
