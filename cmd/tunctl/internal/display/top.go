package display

import (
	"context"
	"errors"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"tund/internal/control"
	"tund/internal/live"
)

// Top shows the rates of peers, those whose name contains filter, in the order of key, which is one
// of live.Keys: on the whole terminal with keys to press, or one table or line of JSON after the
// other. It returns when the user or ctx ends it, and an error if there is nothing to show.
func (s *Screen) Top(ctx context.Context, filter, key string) error {
	m := &topModel{Screen: s, key: key, filter: filter, width: s.Style.Width, height: s.Height}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !s.full() {
		return m.plain(ctx)
	}
	if m.look(ctx); m.fault != nil && len(m.meter.Instances) == 0 {
		return m.fault
	}
	program := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(s.In), tea.WithOutput(s.Out),
		tea.WithColorProfile(colorprofile.TrueColor)) // Style has the colours already
	_, err := program.Run()
	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// topModel is the state of the display.
type topModel struct {
	*Screen
	meter live.Meter
	fault error // of the last look

	key     string
	reverse bool
	filter  string
	typing  bool   // the filter is being typed
	picked  string // public key and instance of the peer that is picked; "": none
	first   int    // index of the first peer on the screen
	detail  bool   // all about the peer that is picked
	paused  bool
	shown   int
	width   int
	height  int
}

// look asks all instances.
func (m *topModel) look(ctx context.Context) {
	document, failures := m.Ask(ctx)
	m.take(topAnswer{m.Now(), document.Instances, errors.Join(failures...)})
}

// topAnswer is what instances said.
type topAnswer struct {
	at        time.Time
	instances []control.Instance
	err       error
}

func (m *topModel) take(answer topAnswer) {
	m.fault = answer.err
	if len(answer.instances) > 0 {
		m.meter.Look(answer.at, answer.instances)
	}
}

// peers are those to show, in order.
func (m *topModel) peers() []live.Peer {
	wanted := strings.ToLower(m.filter)
	list := slices.DeleteFunc(slices.Clone(m.meter.Peers), func(p live.Peer) bool {
		return !strings.Contains(strings.ToLower(p.Name), wanted) && !strings.HasPrefix(p.PublicKey, m.filter)
	})
	live.Sort(list, m.key, m.reverse)
	return list
}

// tick says that it is time for another look.
type tick struct{}

func (m *topModel) wait() tea.Cmd {
	return tea.Tick(m.Interval, func(time.Time) tea.Msg { return tick{} })
}

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.wait() }

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case topAnswer:
		if !m.paused {
			m.take(msg)
		}
		if m.shown++; m.shown == m.Count {
			return m, tea.Quit
		}
		return m, m.wait()
	case tick:
		return m, m.ask
	}
	return m, nil
}

// ask looks without delaying the keys.
func (m *topModel) ask() tea.Msg {
	document, failures := m.Ask(context.Background())
	return topAnswer{m.Now(), document.Instances, errors.Join(failures...)}
}

// press handles a key.
func (m *topModel) press(k tea.KeyPressMsg) tea.Cmd {
	if k.String() == "ctrl+z" { // the terminal does not turn it into a signal here
		return tea.Suspend
	}
	if m.typing {
		m.edit(k)
		return nil
	}
	page := max(m.height-6, 1)
	switch k.String() {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		if !m.detail {
			m.filter = ""
		}
		m.detail = false
	case "enter":
		m.detail = !m.detail && m.picked != ""
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-page)
	case "pgdown":
		m.move(page)
	case "home", "g":
		m.move(-len(m.meter.Peers))
	case "end", "G":
		m.move(len(m.meter.Peers))
	case "s":
		m.order(1)
	case "S":
		m.order(len(live.Keys) - 1)
	case "r":
		m.reverse = !m.reverse
	case "space":
		m.paused = !m.paused
	case "/":
		m.typing, m.filter = true, ""
	}
	return nil
}

// edit handles a key while the filter is typed.
func (m *topModel) edit(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.typing = false
	case "esc", "ctrl+c":
		m.typing, m.filter = false, ""
	case "backspace":
		runes := []rune(m.filter)
		m.filter = string(runes[:max(len(runes)-1, 0)])
	default:
		m.filter += k.Text
	}
}

func (m *topModel) order(by int) {
	m.key = live.Keys[(slices.Index(live.Keys, m.key)+by)%len(live.Keys)]
}

// move picks a peer that many places from the one that is picked.
func (m *topModel) move(by int) {
	list := m.peers()
	if len(list) == 0 {
		return
	}
	n := 0
	if m.picked != "" {
		n = min(max(m.index(list)+by, 0), len(list)-1)
	} else if by > 1 {
		n = min(by, len(list)-1)
	}
	m.picked = list[n].Instance + " " + list[n].PublicKey
}

// index is that of the peer that is picked, or 0.
func (m *topModel) index(list []live.Peer) int {
	return max(slices.IndexFunc(list, func(p live.Peer) bool { return p.Instance+" "+p.PublicKey == m.picked }), 0)
}
