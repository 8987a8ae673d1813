package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"

	"tund/internal/control"
	"tund/internal/live"
	"tund/internal/screen"
)

// topSchema names the lines of `tunctl top --json`.
const topSchema = "tund.top/v1"

func (a *app) topCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "top [PEER]",
		Short: "Show live rates of peers, with keys to sort and to pick one",
		Long: `Show the rates of peers again and again: traffic, round trip, age of the handshake, and drops, with a graph of the last looks.
Keys: arrows or j and k pick a peer, Enter shows all about it and back, s and S change the order and r reverses it, / filters
by name, Space pauses, q ends. Output that is not a terminal gets one table after the other, the first when there are rates.`,
		Example: `  tunctl top
  tunctl top --sort drops
  tunctl top --count 1 | head -20      the busiest peers now`,
		SuggestFor:        []string{"rates", "bandwidth", "live", "iftop", "htop", "traffic"},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			return a.top(cmd.Context(), strings.Join(args, ""), key)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&key, "sort", live.Keys[0], "order: "+strings.Join(live.Keys, ", "))
	f.DurationVar(&a.interval, "interval", 2*time.Second, "time between two looks")
	f.IntVar(&a.count, "count", 0, "end after so many tables (0: never)")
	f.BoolVar(&a.json, "json", false, "one JSON object a line, schema "+topSchema)
	return cmd
}

// top shows rates, on the whole terminal if there is one.
func (a *app) top(ctx context.Context, filter, key string) error {
	page, err := a.newPage()
	switch {
	case err != nil:
		return err
	case !slices.Contains(live.Keys, key):
		return usage("--sort %q is not one of %s", key, strings.Join(live.Keys, ", "))
	case a.interval < minInterval:
		return usage("--interval %v is less than %v", a.interval, minInterval)
	case a.count < 0:
		return usage("--count %d is less than 0", a.count)
	}
	if _, err := a.clients(); err != nil {
		return err
	}
	m := &topModel{app: a, style: page.Style, key: key, filter: filter, width: a.env.width, height: a.env.height}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if a.env.width == 0 || a.json || a.env.getenv("TERM") == "dumb" {
		return m.plain(ctx)
	}
	if m.look(ctx); m.err != nil && len(m.meter.Instances) == 0 {
		return m.err
	}
	program := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(a.env.stdin), tea.WithOutput(a.env.stdout),
		tea.WithColorProfile(colorprofile.TrueColor)) // colours were decided above
	if _, err = program.Run(); errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// topModel is the state of the display.
type topModel struct {
	app   *app
	style screen.Style
	meter live.Meter
	err   error // of the last look

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
	document, failures, err := m.app.askStatus(ctx, "")
	m.take(topAnswer{m.app.env.now(), document.Instances, errors.Join(append(failures, err)...)})
}

// topAnswer is what instances said.
type topAnswer struct {
	at        time.Time
	instances []control.Instance
	err       error
}

func (m *topModel) take(answer topAnswer) {
	m.err = answer.err
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

// plain writes one table after the other, or lines of JSON. The first look only begins to count.
func (m *topModel) plain(ctx context.Context) error {
	a := m.app
	m.look(ctx)
	if m.err != nil && len(m.meter.Instances) == 0 {
		return m.err
	}
	again := time.NewTicker(a.interval)
	defer again.Stop()
	for n := 1; a.count == 0 || n <= a.count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		m.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if m.err != nil {
			fmt.Fprintln(a.env.stderr, "tunctl: "+a.explain(m.err).text)
		}
		if err := m.print(); err != nil {
			return err
		}
	}
	return nil
}

// topLine is a line of `tunctl top --json`. Rates are per second.
type topLine struct {
	Schema string    `json:"schema"` // topSchema
	Time   time.Time `json:"time"`
	Peers  []topPeer `json:"peers"`
}

// topPeer is a peer in it.
type topPeer struct {
	Instance string            `json:"instance"`
	Name     string            `json:"name"`
	State    control.PeerState `json:"state"`
	RxBits   float64           `json:"rx_bits"`
	TxBits   float64           `json:"tx_bits"`
	Drops    float64           `json:"drops"`
	RTTS     *float64          `json:"rtt_s"`
	// HandshakeS is the age of the newest session in seconds, null if there was none.
	HandshakeS *float64 `json:"handshake_s"`
}

func (m *topModel) print() error {
	a := m.app
	now := a.env.now()
	if !a.json {
		page := screen.NewPage(m.style, now, true)
		page.Top(&screen.Top{Instances: m.meter.Instances, Peers: m.peers(), Selected: -1, Key: m.key, Reverse: m.reverse})
		_, err := fmt.Fprintf(a.env.stdout, "%s\n%s\n", now.Format(time.RFC3339), page.Bytes())
		return err
	}
	line := topLine{Schema: topSchema, Time: now.UTC(), Peers: []topPeer{}}
	for _, p := range m.peers() {
		row := topPeer{
			Instance: p.Instance, Name: p.Name, State: p.State, RTTS: p.RTTS, RxBits: max(p.Rx, 0), TxBits: max(p.Tx, 0), Drops: max(p.Drops, 0),
		}
		if !p.LastHandshake.IsZero() {
			age := now.Sub(p.LastHandshake.Time).Seconds()
			row.HandshakeS = &age
		}
		line.Peers = append(line.Peers, row)
	}
	return json.NewEncoder(a.env.stdout).Encode(line)
}

// tick says that it is time for another look.
type tick struct{}

func (m *topModel) wait() tea.Cmd {
	return tea.Tick(m.app.interval, func(time.Time) tea.Msg { return tick{} })
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
		if m.shown++; m.shown == m.app.count {
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
	document, failures, err := m.app.askStatus(context.Background(), "")
	return topAnswer{m.app.env.now(), document.Instances, errors.Join(append(failures, err)...)}
}

// press handles a key.
func (m *topModel) press(k tea.KeyPressMsg) tea.Cmd {
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

// View implements tea.Model.
func (m *topModel) View() tea.View {
	view := tea.NewView(m.draw())
	view.AltScreen = true
	return view
}

// draw makes the screen: what is shown, and the keys below it.
func (m *topModel) draw() string {
	style := m.style
	style.Width = max(m.width, 20)
	list := m.peers()
	page := screen.NewPage(style, m.app.env.now(), false)
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
	t := screen.Top{Instances: m.meter.Instances, Selected: -1, Key: m.key, Reverse: m.reverse}
	// Everything but the peers: what it takes depends on the width.
	empty := screen.NewPage(page.Style, m.app.env.now(), false)
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
	case m.err != nil:
		text, paint = style.Clean(strings.ReplaceAll(m.app.explain(m.err).text, "\n", "; ")), screen.Red
	case m.paused:
		text, paint = "paused - space continues", screen.Yellow
	case m.filter != "":
		text = "filter: " + style.Clean(m.filter) + " (esc ends it)  " + text
	}
	return style.Paint(paint, style.Cut(text, style.Width))
}
