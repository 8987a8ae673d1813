package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/internal/control"
)

// What a terminal shows unless asked for all: enough to fill a screen, not to scroll it away. Output that goes to
// a file or a program is never cut.
const (
	calmPeers     = 20 // peers without a problem, per instance
	shownProblems = 12 // reasons at the top; the table below has every troubled peer anyway
)

// screen writes the human form of a status.
type screen struct {
	bytes.Buffer
	style
	now time.Time
	all bool // cut nothing
}

// status writes the verdict and its reasons, then each instance.
func (s *screen) status(instances []control.Instance) {
	var list []problem
	for n := range instances {
		list = append(list, problems(&instances[n], s.now)...)
	}
	slices.SortStableFunc(list, func(a, b problem) int { return cmp.Compare(rank(a), rank(b)) })
	s.verdict(instances, list)
	for n := range instances {
		s.WriteByte('\n')
		s.instance(&instances[n])
	}
}

// verdict writes the first lines: is it well, and if not, why.
func (s *screen) verdict(instances []control.Instance, list []problem) {
	mark, colour, word := s.glyph("✓", "ok:"), green, "healthy"
	if len(list) > 0 {
		mark, colour, word = "!", yellow, plural(len(list), "warning")
		if list[0].grave {
			mark, colour, word = s.glyph("✗", "x"), red, plural(len(list), "problem")
		}
	}
	s.WriteString(s.paint(colour, mark+" "+word))
	scope := tally(instances)
	if len(instances) > 1 {
		scope = plural(len(instances), "instance") + ", " + scope
	}
	s.line(columns(mark)+1+len(word), 2, " - "+scope)
	shown := list
	if s.width > 0 && !s.all && len(list) > shownProblems {
		shown = list[:shownProblems]
	}
	for _, p := range shown {
		mark, colour := "!", yellow
		if p.grave {
			mark, colour = s.glyph("✗", "x"), red
		}
		subject := s.clean(p.subject)
		s.WriteString("  " + s.paint(colour, mark) + " " + s.paint(bold, subject) + ": ")
		at := 6 + columns(subject)
		s.line(at, min(at, 8), s.clean(p.text))
	}
	if len(shown) < len(list) {
		fmt.Fprintf(s, "  %s %d more (-a shows all)\n", s.ellipsis(), len(list)-len(shown))
	}
}

// line ends the current line, which has come to column at, with text, wrapped if need be.
func (s *screen) line(at, later int, text string) {
	if strings.HasPrefix(text, " ") {
		s.WriteByte(' ')
		at++
	}
	s.WriteString(s.wrap(strings.TrimSpace(text), at, later))
	s.WriteByte('\n')
}

// instance writes one daemon: what it is, its devices, its peers and its counters.
func (s *screen) instance(i *control.Instance) {
	name := s.clean(i.Name)
	s.WriteString(s.paint(bold, name))
	about := "  up " + age(seconds(i.UptimeS)) + ", tund " + i.Version
	if i.Host != "" {
		about += " on " + i.Host
	}
	about += ", pid " + strconv.Itoa(i.PID) + ", UDP port " + strconv.Itoa(i.ListenPort)
	s.WriteByte(' ')
	s.line(columns(name)+1, 2, s.clean(about))
	if i.Config != "" {
		s.WriteString("  ")
		s.line(2, 4, s.clean("config "+i.Config+", loaded "+since(i.ConfigLoaded.Time, s.now)))
	}
	s.WriteString("  ")
	s.line(2, 4, "public key "+s.clean(i.PublicKey))
	if len(i.Devices) > 0 {
		s.WriteByte('\n')
		s.devices(i)
	}
	if len(i.Peers) > 0 {
		s.WriteByte('\n')
		s.peers(i)
	}
	s.WriteByte('\n')
	s.counters(i)
}

// devices writes one row per device.
func (s *screen) devices(i *control.Instance) {
	t := table{columns: []column{
		{title: "DEVICE"}, {title: "KIND", drop: 3}, {title: "STATE"}, {title: "ADDRESS", min: 12},
		{title: "MTU", right: true, drop: 2}, {title: "RX", right: true}, {title: "TX", right: true},
		{title: "DROPS", right: true, drop: 4},
	}}
	for n := range i.Devices {
		d := &i.Devices[n]
		state := cell{text: s.glyph("●", "*") + " up", paint: green}
		if !d.Up {
			state = cell{text: s.glyph("✗", "x") + " down", paint: red}
		}
		addresses := d.Addresses
		if d.Bridge != "" {
			addresses = append([]string{"bridge " + d.Bridge}, addresses...)
		}
		if len(addresses) == 0 {
			addresses = []string{"-"}
		}
		t.add(cell{text: s.clean(d.Name), paint: bold}, cell{text: s.clean(d.Kind)}, state, s.items(addresses),
			cell{text: strconv.Itoa(d.MTU)}, cell{text: bytesIEC(d.RxBytes)}, cell{text: bytesIEC(d.TxBytes)},
			cell{text: strconv.FormatUint(sum(d.Drops), 10)})
	}
	t.write(&s.Buffer, s.style, 2)
}

// peers writes one row per peer, the troubled ones first and always.
func (s *screen) peers(i *control.Instance) {
	t := table{columns: []column{
		{title: "PEER", min: 8}, {title: "STATE"}, {title: "ENDPOINT", min: 17}, {title: "HANDSHAKE", right: true},
		{title: "RX", right: true, drop: 1}, {title: "TX", right: true, drop: 2},
		{title: "DROPS", right: true, drop: 3}, {title: "ALLOWED / MACS", min: 14, drop: 4},
	}}
	list := byUrgency(i.Peers)
	calm, hidden := 0, make(map[control.PeerState]int)
	for _, p := range list {
		if s.width > 0 && !s.all && !urgent(p) {
			if calm++; calm > calmPeers {
				hidden[p.State]++
				continue
			}
		}
		s.peerRow(&t, p)
	}
	t.write(&s.Buffer, s.style, 2)
	if calm > calmPeers {
		var parts []string
		for _, state := range []control.PeerState{control.StateUp, control.StateIdle} {
			if hidden[state] > 0 {
				parts = append(parts, strconv.Itoa(hidden[state])+" more "+string(state))
			}
		}
		fmt.Fprintf(s, "  %s %s (-a shows all)\n", s.ellipsis(), strings.Join(parts, ", "))
	}
}

func (s *screen) peerRow(t *table, p *control.Peer) {
	state, colour := s.state(p.State)
	if !p.StateSince.IsZero() && p.State != control.StateIdle {
		state += " " + age(s.now.Sub(p.StateSince.Time))
	}
	endpoint := p.Endpoint
	switch {
	case endpoint == "" && len(p.Endpoints) > 0:
		endpoint = "(" + p.Endpoints[0] + ")" // configured, not known as an address yet
	case endpoint == "":
		endpoint = "-"
	}
	rx, tx := "-", "-"
	if p.RxBytes != 0 || p.TxBytes != 0 {
		rx, tx = bytesIEC(p.RxBytes), bytesIEC(p.TxBytes)
	}
	reach := p.AllowedIPs
	if p.Ethernet {
		reach = append([]string{macs(p)}, reach...)
	}
	if len(reach) == 0 {
		reach = []string{"-"}
	}
	t.add(cell{text: s.clean(p.Name), paint: bold}, cell{text: state, paint: colour}, cell{text: s.clean(endpoint)},
		cell{text: since(p.LastHandshake.Time, s.now)}, cell{text: rx}, cell{text: tx},
		cell{text: strconv.FormatUint(sum(p.Drops), 10)}, s.items(reach))
}

// macs says how many stations are behind a peer, and how many may be.
func macs(p *control.Peer) string {
	if p.MaxMACs == 0 {
		return plural(p.MACs, "mac")
	}
	return fmt.Sprintf("%d/%d macs", p.MACs, p.MaxMACs)
}

// counters writes what tells an attack or a misconfiguration from a quiet day.
func (s *screen) counters(i *control.Instance) {
	h := i.Handshakes
	load := "no"
	if i.UnderLoad {
		load = "yes"
	}
	s.WriteString("  " + s.paint(dim, "handshakes") + "  ")
	s.line(14, 14, fmt.Sprintf("%d completed, %d failed, cookies sent %d, received %d, under load %s",
		h.Completed, h.Failed, h.CookiesTx, h.CookiesRx, load))
	s.WriteString("  " + s.paint(dim, "drops") + "       ")
	s.line(14, 14, s.clean(reasons(i.Drops)))
	s.WriteString("  " + s.paint(dim, "path") + "        ")
	path := "lanes " + strconv.Itoa(i.Lanes)
	if len(i.Underlay) > 0 {
		path += ", udp " + joined(i.Underlay)
	}
	for n := range i.Devices {
		d := &i.Devices[n]
		path += ", " + d.Name + " " + joined(d.Features)
	}
	s.line(14, 14, s.clean(path))
	if i.FDBLimit > 0 {
		s.WriteString("  " + s.paint(dim, "fdb") + "         ")
		s.line(14, 14, fdbSummary(i.FDB, i.FDBLimit))
	}
}

// items is a cell that shows as many of a list as fit.
func (s *screen) items(list []string) cell {
	clean := make([]string, len(list))
	for n, item := range list {
		clean[n] = s.clean(item)
	}
	return cell{items: clean}
}

// joined writes features as "gso+gro", or "plain" when there are none.
func joined(list []string) string {
	if len(list) == 0 {
		return "plain"
	}
	return strings.Join(list, "+")
}

// reasons writes drop counters, the greatest first.
func reasons(drops map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(drops), func(a, b string) int {
		return cmp.Or(cmp.Compare(drops[b], drops[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names {
		if drops[name] > 0 {
			parts = append(parts, name+" "+strconv.FormatUint(drops[name], 10))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func sum(drops map[string]uint64) uint64 {
	var n uint64
	for _, v := range drops {
		n += v
	}
	return n
}
