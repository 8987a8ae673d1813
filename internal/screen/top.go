package screen

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tund/internal/control"
	"tund/internal/live"
)

// Top is what `tunctl top` shows.
type Top struct {
	Instances []live.Instance
	Peers     []live.Peer // those that fit on the screen, in order
	Selected  int         // among Peers; -1: none
	Key       string      // by which they are sorted
	Reverse   bool
	Above     int // peers above and below those shown
	Below     int
	Filter    string // by name, which Peers have passed; "": none
}

// graphWidth is how many rates a graph shows.
const graphWidth = 20

// Top writes a summary of each instance, and a table of peers with their rates.
func (s *Page) Top(t *Top) {
	for n := range t.Instances {
		s.topInstance(&t.Instances[n])
	}
	s.WriteByte('\n')
	several := len(t.Instances) > 1
	title := func(name, key string) string {
		if key != t.Key {
			return name
		}
		return name + s.glyph(map[bool]string{false: "▾", true: "▴"}[t.Reverse], map[bool]string{false: "*", true: "^"}[t.Reverse])
	}
	table := table{columns: []column{
		{title: ""}, {title: "INSTANCE", min: 4, drop: 1}, {title: title("PEER", "name"), min: 10}, {title: title("STATE", "state")},
		{title: title("RX", "rx"), right: true}, {title: title("TX", "tx"), right: true}, {title: title("RTT", "rtt"), right: true, drop: 3},
		{title: title("HANDSHAKE", "handshake"), right: true, drop: 4}, {title: title("DROPS/s", "drops"), right: true, drop: 2},
		{title: title("TRAFFIC", "traffic"), drop: 5},
	}}
	if !several {
		table.columns = slices.Delete(table.columns, 1, 2)
	}
	for n := range t.Peers {
		table.add(s.topRow(&t.Peers[n], n == t.Selected, several)...)
	}
	if t.Above > 0 {
		fmt.Fprintf(s, "  %s %d above\n", s.ellipsis(), t.Above)
	}
	table.write(&s.Buffer, s.Style, 0)
	if t.Below > 0 {
		fmt.Fprintf(s, "  %s %d below\n", s.ellipsis(), t.Below)
	}
	if len(t.Peers) == 0 {
		text := "no peers"
		if t.Filter != "" {
			text = fmt.Sprintf("no peer has %q in its name", s.Clean(t.Filter))
		}
		s.WriteString("  ")
		s.line(2, 4, text)
	}
}

// topInstance writes one line about an instance, and one about what it drops now.
func (s *Page) topInstance(i *live.Instance) {
	list := problems(i.Instance, s.now)
	mark, colour, word := s.glyph("✓", "ok:"), Green, "healthy"
	if len(list) > 0 {
		mark, colour, word = "!", Yellow, Plural(len(list), "warning")
		if slices.ContainsFunc(list, func(p problem) bool { return p.grave }) {
			mark, colour, word = s.glyph("✗", "x"), Red, Plural(len(list), "problem")
		}
	}
	name := s.Clean(i.Name)
	s.WriteString(s.Paint(colour, mark) + " " + s.Paint(Bold, name) + " ")
	s.line(columns(mark)+columns(name)+2, 2, fmt.Sprintf("%s - rx %s, tx %s - %s", word, bitrate(i.Rx), bitrate(i.Tx),
		tally([]control.Instance{*i.Instance})))
	reasons := slices.SortedFunc(maps.Keys(i.Drops), func(a, b string) int {
		return cmp.Or(cmp.Compare(i.Drops[b], i.Drops[a]), cmp.Compare(a, b))
	})
	if len(reasons) > 0 {
		parts := make([]string, len(reasons))
		for n, reason := range reasons {
			parts[n] = s.Clean(reason) + " " + perSecond(i.Drops[reason])
		}
		s.WriteString("  ")
		s.line(2, 4, "dropped per second: "+strings.Join(parts, ", "))
	}
}

func (s *Page) topRow(p *live.Peer, selected, instance bool) []cell {
	marker, paint := " ", Plain
	if selected {
		marker, paint = s.glyph("▶", ">"), Bold
	}
	state, colour := s.state(p.State)
	handshake := "never"
	if !p.LastHandshake.IsZero() {
		handshake = age(s.now.Sub(p.LastHandshake.Time))
	}
	rtt := "-"
	if p.RTTS != nil {
		rtt = roundTrip(*p.RTTS)
	}
	row := []cell{{text: marker, paint: paint}}
	if instance {
		row = append(row, cell{text: s.Clean(p.Instance)})
	}
	return append(row, cell{text: s.Clean(p.Name), paint: paint}, cell{text: state, paint: colour},
		cell{text: bitrate(p.Rx)}, cell{text: bitrate(p.Tx)}, cell{text: rtt}, cell{text: handshake}, cell{text: perSecond(p.Drops)},
		cell{text: s.graph(p.Graph)})
}

// graph draws the newest rates as bars, each in proportion to the greatest of them.
func (s Style) graph(rates []float64) string {
	rates = rates[max(len(rates)-graphWidth, 0):]
	bars := []rune(s.glyph(" ▁▂▃▄▅▆▇█", " .:-=+*#%"))
	peak := 0.0
	for _, r := range rates {
		peak = max(peak, r)
	}
	var b strings.Builder
	for _, r := range rates {
		n := 0
		if peak > 0 && r > 0 {
			n = min(1+int(r/peak*float64(len(bars)-1)), len(bars)-1)
		}
		b.WriteRune(bars[n])
	}
	return b.String()
}

// bitrate formats bits per second in decimal units with three significant digits; a negative rate
// is not known yet.
func bitrate(r float64) string {
	if r < 0 {
		return "-"
	}
	units := [...]string{"b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"}
	unit := 0
	for r >= 999.5 && unit < len(units)-1 {
		r /= 1000
		unit++
	}
	decimals := 0
	switch {
	case unit == 0:
	case r < 9.995:
		decimals = 2
	case r < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(r, 'f', decimals, 64) + " " + units[unit]
}

// perSecond formats a number per second.
func perSecond(r float64) string {
	switch {
	case r < 0:
		return "-"
	case r > 0 && r < 9.95:
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return strconv.FormatFloat(r, 'f', 0, 64)
}

// roundTrip formats seconds in milliseconds with three significant digits.
func roundTrip(seconds float64) string {
	ms := seconds * 1000
	decimals := 0
	switch {
	case ms < 0.9995:
		decimals = 3
	case ms < 9.995:
		decimals = 2
	case ms < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(ms, 'f', decimals, 64) + " ms"
}
