package display

import (
	"bytes"
	"strings"

	tea "charm.land/bubbletea/v2"

	"tund/internal/live"
	"tund/internal/screen"
)

// View implements tea.Model.
func (m *topModel) View() tea.View {
	view := tea.NewView(m.draw())
	view.AltScreen = true
	return view
}

// draw makes the screen: what is shown, and the keys below it.
func (m *topModel) draw() string {
	style := m.Style
	style.Width = max(m.width, 20)
	list := m.peers()
	page := screen.NewPage(style, m.Now(), false)
	n := -1
	if m.picked != "" && len(list) > 0 {
		n = m.index(list)
	}
	if m.detail && n >= 0 {
		page.Peer(list[n].Instance, list[n].Peer)
	} else {
		m.table(page, list, n)
	}
	lines := strings.Split(strings.TrimRight(page.String(), "\n"), "\n")
	for len(lines) < m.height-1 { // the keys are in the last line
		lines = append(lines, "")
	}
	lines = lines[:max(m.height-1, 1)]
	return strings.Join(append(lines, m.foot(style)), "\n")
}

// table draws as many peers as there is room for, among them the one that is picked.
func (m *topModel) table(page *screen.Page, list []live.Peer, picked int) {
	t := screen.Top{Instances: m.meter.Instances, Selected: -1, Key: m.key, Reverse: m.reverse, Filter: m.filter}
	// Everything but the peers: what it takes depends on the width.
	empty := screen.NewPage(page.Style, m.Now(), false)
	empty.Top(&t)
	room := max(m.height-bytes.Count(empty.Bytes(), []byte("\n"))-3, 1)
	if picked >= 0 {
		m.first = min(max(m.first, picked-room+1), picked)
	}
	m.first = max(min(m.first, len(list)-room), 0)
	end := min(m.first+room, len(list))
	t.Peers, t.Above, t.Below = list[m.first:end], m.first, len(list)-end
	if picked >= 0 {
		t.Selected = picked - m.first
	}
	page.Top(&t)
}

// foot is the last line: what failed, what is typed, or which keys there are.
func (m *topModel) foot(style screen.Style) string {
	text, paint := "q quit  arrows pick  enter detail  s sort  r reverse  / filter  space pause", screen.Dim
	switch {
	case m.typing:
		text, paint = "filter: "+style.Clean(m.filter)+"_", screen.Plain
	case m.fault != nil:
		text, paint = style.Clean(strings.ReplaceAll(m.Explain(m.fault), "\n", "; ")), screen.Red
	case m.paused:
		text, paint = "paused - space continues", screen.Yellow
	case m.filter != "":
		text = "filter: " + style.Clean(m.filter) + " (esc ends it)  " + text
	}
	return style.Paint(paint, style.Cut(text, style.Width))
}
