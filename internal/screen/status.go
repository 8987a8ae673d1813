package screen

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tund/internal/control"
	"tund/internal/drop"
)

// How much is shown on a terminal by default: enough to fill a screen, but not so much that the
// beginning scrolls away.
const (
	calmPeers = 20 // peers without a problem, per instance
	// Problems in the list at the top; the table below it shows every peer with a problem.
	shownProblems = 12
)

// Status writes whether all is well, or what is not, and then a description of each instance.
func (s *Page) Status(instances []control.Instance) {
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

// verdict writes the first lines: whether all is well, and if not, why.
func (s *Page) verdict(instances []control.Instance, list []problem) {
	mark, colour, word := s.glyph("✓", "ok:"), Green, "healthy"
	if len(list) > 0 {
		mark, colour, word = "!", Yellow, Plural(len(list), "warning")
		if list[0].grave {
			mark, colour, word = s.glyph("✗", "x"), Red, Plural(len(list), "problem")
		}
	}
	s.WriteString(s.Paint(colour, mark+" "+word))
	scope := tally(instances)
	if len(instances) > 1 {
		scope = Plural(len(instances), "instance") + ", " + scope
	}
	s.line(columns(mark)+1+len(word), 2, " - "+scope)
	shown := list
	if s.Width > 0 && !s.all && len(list) > shownProblems {
		shown = list[:shownProblems]
	}
	for _, p := range shown {
		mark, colour := "!", Yellow
		if p.grave {
			mark, colour = s.glyph("✗", "x"), Red
		}
		subject := s.Clean(p.subject)
		s.WriteString("  " + s.Paint(colour, mark) + " " + s.Paint(Bold, subject) + ": ")
		at := 6 + columns(subject)
		s.line(at, min(at, 8), s.Clean(p.text))
	}
	if len(shown) < len(list) {
		fmt.Fprintf(s, "  %s %d more (-a shows all)\n", s.ellipsis(), len(list)-len(shown))
	}
	for n := range instances {
		s.notes(&instances[n])
	}
}

// notes writes what is as it should be and may still surprise.
func (s *Page) notes(i *control.Instance) {
	for n := range i.Notes {
		subject := s.Clean(i.Name + "/" + i.Notes[n].Subject)
		s.WriteString("  - " + s.Paint(Bold, subject) + ": ")
		at := 6 + columns(subject)
		s.line(at, min(at, 8), s.Clean(describe(&i.Notes[n], s.now)))
	}
}

// instance describes one daemon: its process, its devices, its peers and its counters.
func (s *Page) instance(i *control.Instance) {
	name := s.Clean(i.Name)
	s.WriteString(s.Paint(Bold, name))
	about := "  up " + age(seconds(i.UptimeS)) + ", tund " + i.Version
	if i.Host != "" {
		about += " on " + i.Host
	}
	about += ", pid " + strconv.Itoa(i.PID) + ", UDP port " + strconv.Itoa(i.ListenPort)
	s.WriteByte(' ')
	s.line(columns(name)+1, 2, s.Clean(about))
	if i.Config != "" {
		s.WriteString("  ")
		s.line(2, 4, s.Clean("config "+i.Config+", loaded "+since(i.ConfigLoaded.Time, s.now)))
	}
	s.WriteString("  ")
	s.line(2, 4, "public key "+s.Clean(i.PublicKey))
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
func (s *Page) devices(i *control.Instance) {
	t := table{columns: []column{
		{title: "DEVICE"}, {title: "KIND", drop: 3}, {title: "STATE"}, {title: "ADDRESS", min: 12},
		{title: "MTU", right: true, drop: 2}, {title: "RX", right: true}, {title: "TX", right: true},
		{title: "DROPS", right: true, drop: 4},
	}}
	for n := range i.Devices {
		d := &i.Devices[n]
		state := cell{text: s.glyph("●", "*") + " up", paint: Green}
		if !d.Up {
			state = cell{text: s.glyph("✗", "x") + " down", paint: Red}
		}
		addresses := d.Addresses
		if d.Bridge != "" {
			addresses = append([]string{"bridge " + d.Bridge}, addresses...)
		}
		if len(addresses) == 0 {
			addresses = []string{"-"}
		}
		t.add(cell{text: s.Clean(d.Name), paint: Bold}, cell{text: s.Clean(d.Kind)}, state, s.items(addresses),
			cell{text: strconv.Itoa(d.MTU)}, cell{text: bytesIEC(d.RxBytes)}, cell{text: bytesIEC(d.TxBytes)},
			cell{text: strconv.FormatUint(drop.Losses(d.Drops), 10)})
	}
	t.write(&s.Buffer, s.Style, 2)
}

// Peers writes the peers of each instance, as many as Status would show.
func (s *Page) Peers(instances []control.Instance) {
	for n := range instances {
		i := &instances[n]
		if len(instances) > 1 {
			fmt.Fprintf(s, "%s\n", s.Paint(Bold, s.Clean(i.Name)))
		}
		if len(i.Peers) == 0 {
			s.WriteString("  no peers\n")
			continue
		}
		s.peers(i)
	}
}

// peers writes one row per peer, those with a problem first and always.
func (s *Page) peers(i *control.Instance) {
	t := table{columns: []column{
		{title: "PEER", min: 8}, {title: "STATE"}, {title: "ENDPOINT", min: 17}, {title: "HANDSHAKE", right: true},
		{title: "CIPHER", spare: true}, {title: "RX", right: true, drop: 1}, {title: "TX", right: true, drop: 2},
		{title: "DROPS", right: true, drop: 3}, {title: "ALLOWED / MACS", min: 14, drop: 4},
	}}
	list := byUrgency(i.Peers)
	// Who a peer belongs to is worth a column where not all are the file's.
	mixed := slices.ContainsFunc(i.Peers, func(p control.Peer) bool { return p.Source != "" && p.Source != "file" })
	if mixed {
		t.columns = slices.Insert(t.columns, 2, column{title: "SOURCE", drop: 5})
	}
	calm, hidden := 0, make(map[control.PeerState]int)
	for _, p := range list {
		if s.Width > 0 && !s.all && !urgent(p) {
			if calm++; calm > calmPeers {
				hidden[p.State]++
				continue
			}
		}
		row := s.peerRow(p)
		if mixed {
			row = slices.Insert(row, 2, cell{text: s.Clean(p.Source)})
		}
		t.add(row...)
	}
	t.write(&s.Buffer, s.Style, 2)
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

// peerRow returns the cells of a peer, but for its source.
func (s *Page) peerRow(p *control.Peer) []cell {
	state, colour := s.state(p.State)
	if !p.StateSince.IsZero() && p.State != control.StateIdle {
		state += " " + age(s.now.Sub(p.StateSince.Time))
	}
	endpoint := p.Endpoint
	switch {
	case endpoint == "" && len(p.Endpoints) > 0:
		endpoint = "(" + p.Endpoints[0] + ")" // as configured; its address is not known yet
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
	if !p.Active {
		reach = append([]string{"standby"}, reach...)
	}
	return []cell{
		{text: s.Clean(p.Name), paint: Bold}, {text: state, paint: colour}, {text: s.Clean(endpoint)},
		{text: since(p.LastHandshake.Time, s.now)}, {text: s.Clean(cipher(p))}, {text: rx}, {text: tx},
		{text: strconv.FormatUint(drop.Losses(p.Drops), 10)}, s.items(reach),
	}
}

// cipher names in short what seals packets for a peer; status has the full names below the table.
func cipher(p *control.Peer) string {
	if p.Suite == "" {
		return "-"
	}
	name := strings.TrimSuffix(strings.TrimSuffix(p.Suite, "-poly1305"), "-gcm")
	if p.PostQuantum {
		name += "+pq"
	}
	return name
}

// ciphers counts the sessions of an instance by cipher, the most frequent first; "" if there are
// none.
func ciphers(peers []control.Peer) string {
	count := make(map[string]int)
	for n := range peers {
		if p := &peers[n]; p.Suite != "" && p.PostQuantum {
			count[p.Suite+" with post-quantum keys"]++
		} else if p.Suite != "" {
			count[p.Suite]++
		}
	}
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	for n, name := range names {
		names[n] = strconv.Itoa(count[name]) + " " + name
	}
	return strings.Join(names, ", ")
}

// macs formats how many stations are behind a peer, and how many are allowed.
func macs(p *control.Peer) string {
	if p.MaxMACs == 0 {
		return Plural(p.MACs, "mac")
	}
	return fmt.Sprintf("%d/%d macs", p.MACs, p.MaxMACs)
}

// counters writes the numbers by which an attack or a misconfiguration can be told from normal
// operation.
func (s *Page) counters(i *control.Instance) {
	h := i.Handshakes
	load := "no"
	if i.UnderLoad {
		load = "yes"
	}
	s.WriteString("  " + s.Paint(Dim, "handshakes") + "  ")
	s.line(14, 14, fmt.Sprintf("%d completed, %d failed, cookies sent %d, received %d, under load %s",
		h.Completed, h.Failed, h.CookiesTx, h.CookiesRx, load))
	if text := ciphers(i.Peers); text != "" {
		s.WriteString("  " + s.Paint(Dim, "sessions") + "    ")
		s.line(14, 14, s.Clean(text))
	}
	s.WriteString("  " + s.Paint(Dim, "drops") + "       ")
	s.line(14, 14, s.Clean(reasons(i.Drops)))
	s.WriteString("  " + s.Paint(Dim, "path") + "        ")
	path := "lanes " + strconv.Itoa(i.Lanes)
	if len(i.Underlay) > 0 {
		path += ", udp " + joined(i.Underlay)
	}
	for n := range i.Devices {
		d := &i.Devices[n]
		path += ", " + d.Name + " " + joined(d.Features)
	}
	s.line(14, 14, s.Clean(path))
	if i.FDBLimit > 0 {
		s.WriteString("  " + s.Paint(Dim, "fdb") + "         ")
		s.line(14, 14, fdbSummary(i.FDB, i.FDBLimit))
	}
	if n := i.Suppression; n != nil && n.Answered+n.Local+n.Flooded > 0 {
		s.WriteString("  " + s.Paint(Dim, "neighbours") + "  ")
		s.line(14, 14, fmt.Sprintf("requests of the LAN: %d answered here, %d for local hosts, %d sent to peers",
			n.Answered, n.Local, n.Flooded+n.Again))
	}
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
