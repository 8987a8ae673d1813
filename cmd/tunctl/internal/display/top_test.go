package display

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

// model is the display over a fixed instance with many peers.
func model(t *testing.T, width, height int) *topModel {
	t.Helper()
	office := screentest.Office()
	for n := range 50 {
		office.Peers = append(office.Peers, control.Peer{Name: fmt.Sprintf("site-%02d", n), PublicKey: screentest.Key(fmt.Sprint(n)), State: control.StateUp})
	}
	m := &topModel{key: "state", width: width, height: height, Screen: &Screen{
		Now: screentest.Noon, Interval: time.Second, Explain: error.Error,
		Ask: func(context.Context) (control.Status, []error) {
			return control.Status{Instances: []control.Instance{office}}, nil
		},
	}}
	m.Style.UTF8 = true
	m.look(context.Background())
	return m
}

// press sends keys, each by its name or text.
func press(m *topModel, keys ...string) (quits bool) {
	special := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown, "end": tea.KeyEnd, "home": tea.KeyHome,
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "space": tea.KeySpace, "backspace": tea.KeyBackspace}
	for _, key := range keys {
		msg := tea.KeyPressMsg{Text: key, Code: []rune(key)[0]}
		if code, ok := special[key]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		if _, cmd := m.Update(msg); cmd != nil {
			_, quits = cmd().(tea.QuitMsg)
		}
	}
	return quits
}

func TestTop_keys(t *testing.T) {
	t.Parallel()
	m := model(t, 80, 20)
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'z', Mod: tea.ModCtrl}); cmd == nil {
		t.Error("Ctrl-Z does nothing")
	} else if _, suspends := cmd().(tea.SuspendMsg); !suspends {
		t.Error("Ctrl-Z does not suspend")
	}
	shows := func(want ...string) {
		t.Helper()
		screen := m.draw()
		for _, text := range want {
			if hidden, ok := strings.CutPrefix(text, "not "); ok {
				if strings.Contains(screen, hidden) {
					t.Errorf("%q is on\n%s", hidden, screen)
				}
			} else if !strings.Contains(screen, text) {
				t.Errorf("no %q on\n%s", text, screen)
			}
		}
		if lines := strings.Split(screen, "\n"); len(lines) != m.height {
			t.Errorf("%d lines on a screen of %d", len(lines), m.height)
		} else {
			for _, line := range lines {
				if n := len([]rune(line)); n > m.width {
					t.Errorf("%d columns in %q", n, line)
				}
			}
		}
	}
	shows("branch-oslo", "not ▶", "below", "q quit", "✗ office 2 problems")
	press(m, "down", "down")
	shows("▶")
	press(m, "end")
	shows("▶  laptop-ana", "above", "not below", "not branch-oslo")
	press(m, "home", "enter")
	shows("branch-oslo", "public key", "not site-01")
	press(m, "esc", "s")
	if m.key != "rx" || m.detail {
		t.Errorf("key %s, detail %v", m.key, m.detail)
	}
	press(m, "S", "S", "r")
	if m.key != "name" || !m.reverse {
		t.Errorf("key %s, reverse %v", m.key, m.reverse)
	}
	press(m, "/", "s", "i", "t", "e", "-", "0", "7", "q")
	shows("filter: site-07q_", "not site-07 ")
	press(m, "backspace", "enter")
	shows("site-07", "not site-08", "filter: site-07 (esc ends it)")
	press(m, "esc", "space")
	shows("paused", "site-00")
	// What comes in while it is paused is not shown.
	m.Update(topAnswer{screentest.Noon(), []control.Instance{{Name: "other"}}, nil})
	shows("office")
	press(m, "space")
	m.Update(topAnswer{screentest.Noon(), nil, fmt.Errorf("cannot reach office\nat all")})
	shows("cannot reach office; at all", "office")
	for _, size := range [][2]int{{120, 30}, {200, 50}, {40, 10}, {20, 3}} {
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		m.Style.UTF8 = size[0] != 120
		if screen := m.draw(); !m.Style.UTF8 && strings.ContainsFunc(screen, func(r rune) bool { return r > 0x7e }) {
			t.Errorf("not ASCII:\n%s", screen)
		}
		if n := strings.Count(m.draw(), "\n") + 1; n > max(m.height, 2) {
			t.Errorf("%v: %d lines", size, n)
		}
	}
	if !press(m, "q") || !m.View().AltScreen {
		t.Error("q does not end it")
	}
}
