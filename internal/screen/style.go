package screen

import (
	"strings"
	"unicode"

	"tund/internal/control"
)

// Style is what the output may use.
type Style struct {
	Color bool // escape sequences for colours may be used
	UTF8  bool // the locale can show more than ASCII
	Width int  // columns of the terminal; 0: not a terminal, so nothing is cut or left out
}

// Paint is one of a few colours, as a parameter of ECMA-48's SGR. Words always carry the meaning as
// well.
type Paint string

// The colours, as the user's terminal displays these names.
const (
	Plain  Paint = ""
	Bold   Paint = "1"
	Dim    Paint = "2"
	Red    Paint = "31"
	Green  Paint = "32"
	Yellow Paint = "33"
)

// Paint colours text if the output may be coloured.
func (s Style) Paint(p Paint, text string) string {
	if !s.Color || p == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

// state returns the glyph, the word and the colour of a peer's state.
func (s Style) state(state control.PeerState) (string, Paint) {
	switch state {
	case control.StateUp:
		return s.glyph("●", "*") + " up", Green
	case control.StateConnecting:
		return s.glyph("◌", "~") + " connecting", Yellow
	case control.StateIdle:
		return s.glyph("○", ".") + " idle", Dim
	case control.StateDown:
		return s.glyph("✗", "x") + " down", Red
	}
	return "? " + s.Clean(string(state)), Yellow // a newer daemon may have more states
}

// glyph chooses between a character and its ASCII stand-in.
func (s Style) glyph(fancy, ascii string) string {
	if s.UTF8 {
		return fancy
	}
	return ascii
}

// ellipsis marks the place where text was cut off.
func (s Style) ellipsis() string { return s.glyph("…", "..") }

// Clean makes text from elsewhere (peer names, errors) safe for a terminal: it contains no control
// characters, thus no escape sequences, and nothing that the locale cannot show.
func (s Style) Clean(text string) string {
	ok := true
	for _, r := range text {
		if r < ' ' || r >= 0x7f {
			ok = false
			break
		}
	}
	if ok {
		return text
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ', r == 0x7f, !unicode.IsPrint(r), r > 0x7f && !s.UTF8:
			return '?'
		}
		return r
	}, text)
}

// columns returns how many columns text takes on a terminal.
func columns(text string) int {
	n := 0
	for _, r := range text {
		switch {
		case r < 0x300:
			n++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// wide reports whether terminals give r two columns: CJK, Hangul, full-width forms and emoji. It
// summarizes Unicode's EastAsianWidth.txt, accurately enough to keep a table of names aligned.
func wide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f, 0x2e80 <= r && r <= 0xa4cf, 0xac00 <= r && r <= 0xd7a3, 0xf900 <= r && r <= 0xfaff,
		0xfe30 <= r && r <= 0xfe6f, 0xff00 <= r && r <= 0xff60, 0xffe0 <= r && r <= 0xffe6,
		0x1f300 <= r && r <= 0x1faff, 0x20000 <= r && r <= 0x3fffd:
		return true
	}
	return false
}

// Cut shortens text to width columns, and marks the cut in the last of them.
func (s Style) Cut(text string, width int) string {
	if columns(text) <= width {
		return text
	}
	mark := s.ellipsis()
	room := width - columns(mark)
	if room < 0 {
		return strings.Repeat(".", max(width, 0))
	}
	var b strings.Builder
	for _, r := range text {
		w := columns(string(r))
		if w > room {
			break
		}
		room -= w
		b.WriteRune(r)
	}
	return b.String() + mark
}

// Wrap breaks text at spaces so that no line is wider than the terminal, and indents all lines but
// the first. A single word that is too wide stays whole: a key or a path must remain copyable.
func (s Style) Wrap(text string, first, later int) string {
	if s.Width == 0 {
		return text
	}
	var b strings.Builder
	at := first
	for i, word := range strings.Fields(text) {
		w := columns(word)
		switch {
		case i == 0:
		case at+1+w > s.Width && at > later:
			b.WriteString("\n" + strings.Repeat(" ", later))
			at = later
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += w
	}
	return b.String()
}
