package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the whole run; dist/bench.json holds it.
type report struct {
	Schema     string      `json:"schema"` // tund.bench/v1
	Time       time.Time   `json:"time"`
	Version    string      `json:"version"` // of the checkout
	Machine    machine     `json:"machine"`
	Options    options     `json:"options"`
	Complete   bool        `json:"complete"` // false: interrupted
	Noisy      []linkModel `json:"noisy,omitempty"`
	Contenders []about     `json:"contenders"`
	Rounds     []guard     `json:"rounds"`
	Results    []result    `json:"results"`
	Summary    []summary   `json:"summary"`
}

// summary is one metric of one contender in one case, over the rounds that count.
type summary struct {
	Link      linkModel `json:"link"`
	Case      string    `json:"case"`
	Contender string    `json:"contender"`
	Metric    string    `json:"metric"`
	Unit      string    `json:"unit"`
	Values    spread    `json:"values"`
	Ratio     *interval `json:"ratio,omitempty"` // to the baseline, round by round
	Failed    int       `json:"failed,omitempty"`
}

// summarize computes every summary from results and the rounds that count.
func summarize(cases []benchCase, contenders []about, guards []guard, results []result, seed uint64) []summary {
	dropped := map[string]bool{}
	for _, g := range guards {
		dropped[roundKey(g.Link, g.Round)] = g.Dropped != ""
	}
	type series struct {
		byRound map[int]metrics
		failed  int
	}
	all := map[string]*series{}
	var links []linkModel
	for _, r := range results {
		if !slices.Contains(links, r.Link) {
			links = append(links, r.Link)
		}
		key := seriesKey(r.Link, r.Case, r.Contender)
		if all[key] == nil {
			all[key] = &series{byRound: map[int]metrics{}}
		}
		switch {
		case r.Error != "":
			all[key].failed++
		case !dropped[roundKey(r.Link, r.Round)]:
			all[key].byRound[r.Round] = r.Metrics
		}
	}
	var out []summary
	for _, link := range links {
		for _, c := range cases {
			base := all[seriesKey(link, c.name, baseline)]
			for _, who := range contenders {
				s := all[seriesKey(link, c.name, who.Name)]
				if s == nil {
					continue
				}
				for _, m := range c.metrics {
					line := summary{Link: link, Case: c.name, Contender: who.Name, Metric: m.name, Unit: m.unit, Failed: s.failed}
					line.Values = spreadOf(column(s.byRound, m.name))
					if m.ratio && base != nil && who.Name != baseline {
						if ratios := perRound(s.byRound, base.byRound, m.name); len(ratios) > 0 {
							i := bootstrap(ratios, rand.New(rand.NewPCG(seed, 1)))
							line.Ratio = &i
						}
					}
					out = append(out, line)
				}
			}
		}
	}
	return out
}

func roundKey(link linkModel, round int) string { return string(link) + "/" + strconv.Itoa(round) }

func seriesKey(link linkModel, name, contender string) string {
	return string(link) + "/" + name + "/" + contender
}

// column takes one metric out of the rounds, in any order.
func column(rounds map[int]metrics, name string) []float64 {
	var out []float64
	for _, m := range rounds {
		if v, ok := m[name]; ok {
			out = append(out, v)
		}
	}
	return out
}

// perRound divides round by round; a round that one of the two lacks is left out.
func perRound(top, bottom map[int]metrics, name string) []float64 {
	var out []float64
	for round, m := range top {
		a, okA := m[name]
		b, okB := bottom[round][name]
		if okA && okB && b != 0 {
			out = append(out, a/b)
		}
	}
	slices.Sort(out) // the bootstrap draws by position: the same order gives the same bounds
	return out
}

// print writes the report for people.
func (r *report) print(w io.Writer, cases []benchCase) {
	m := r.Machine
	fmt.Fprintf(w, "\ntund bench · %s · %s · %d cores, %.0f GiB · Linux %s · %s · %s\n", r.Time.Format("2006-01-02 15:04 MST"),
		m.CPU, m.Cores, m.Memory, m.Kernel, m.Go, m.Iperf)
	fmt.Fprintf(w, "%d rounds of %v a measurement, cubic, both ends on these cores, ratios round by round to %s\n\n",
		r.Options.Rounds, r.Options.Length, baseline)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "contender\tversion\tcipher\tMTU")
	for _, c := range r.Contenders {
		mtu := "its own"
		if c.MTU != 0 {
			mtu = strconv.Itoa(c.MTU)
		}
		if c.Skipped != "" {
			mtu = "left out: " + c.Skipped
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Name, c.Version, c.Cipher, mtu)
	}
	table.Flush()
	for _, link := range r.Options.Links {
		r.printGuards(w, link)
		for i := range cases {
			r.printCase(w, link, &cases[i])
		}
	}
	if !r.Complete {
		fmt.Fprintln(w, "\nInterrupted: not every round ran.")
	}
}

func (r *report) printGuards(w io.Writer, link linkModel) {
	var controls []float64
	var lost []string
	for _, g := range r.Rounds {
		if g.Link != link {
			continue
		}
		controls = append(controls, g.Control)
		if g.Dropped != "" {
			lost = append(lost, fmt.Sprintf("%d (%s)", g.Round+1, g.Dropped))
		}
	}
	c := spreadOf(controls)
	fmt.Fprintf(w, "\n== link %s: control (bare veth) %.1f Gbit/s [%.1f to %.1f]", link, c.Median, c.Min, c.Max)
	if len(lost) > 0 {
		fmt.Fprintf(w, "; rounds left out: %s", strings.Join(lost, ", "))
	}
	if slices.Contains(r.Noisy, link) {
		fmt.Fprint(w, "; THE MACHINE WAS BUSY in most rounds, all are counted: do not quote these figures")
	}
	fmt.Fprintln(w)
}

func (r *report) printCase(w io.Writer, link linkModel, c *benchCase) {
	rows := map[string][]summary{}
	var names []string
	for _, s := range r.Summary {
		if s.Link != link || s.Case != c.name {
			continue
		}
		if rows[s.Contender] == nil {
			names = append(names, s.Contender)
		}
		rows[s.Contender] = append(rows[s.Contender], s)
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s: %s\n  on %s, %d cores\n", c.name, c.about, r.Machine.CPU, r.Machine.Cores)
	ciphers := map[string]string{}
	for _, a := range r.Contenders {
		ciphers[a.Name] = a.Cipher
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "  contender\tcipher")
	for _, m := range c.metrics {
		fmt.Fprintf(table, "\t%s", m.unit)
		if m.ratio {
			fmt.Fprint(table, "\t×baseline")
		}
	}
	fmt.Fprintln(table)
	for _, name := range names {
		fmt.Fprintf(table, "  %s\t%s", name, ciphers[name])
		for i, s := range rows[name] {
			m := c.metrics[i]
			fmt.Fprintf(table, "\t%s", s.Values.text(m))
			if m.ratio {
				fmt.Fprintf(table, "\t%s", s.Ratio.text())
			}
		}
		if failed := rows[name][0].Failed; failed > 0 {
			fmt.Fprintf(table, "\t%d failed", failed)
		}
		fmt.Fprintln(table)
	}
	table.Flush()
}

func (s spread) text(m metric) string {
	switch s.N {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.*f", m.digits, s.Median)
	}
	return fmt.Sprintf("%.*f [%.*f to %.*f]", m.digits, s.Median, m.digits, s.Min, m.digits, s.Max)
}

func (i *interval) text() string {
	switch {
	case i == nil:
		return ""
	case i.N == 1:
		return fmt.Sprintf("%.2f", i.Median)
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", i.Median, i.Low, i.High)
}

// save writes the report as JSON to each path that is not empty.
func (r *report) save(paths ...string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// cpuModel finds the processor in /proc/cpuinfo: its name, and its family and model, without which
// figures of one machine say little about another.
func cpuModel(cpuinfo string) string {
	fields := map[string]string{}
	for line := range strings.Lines(cpuinfo) {
		name, value, found := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); found && fields[name] == "" {
			fields[name] = strings.TrimSpace(value)
		}
	}
	model := fields["model name"]
	if model == "" {
		return "unknown processor"
	}
	if fields["cpu family"] != "" && fields["model"] != "" {
		model += fmt.Sprintf(" (family %s, model %s)", fields["cpu family"], fields["model"])
	}
	return model
}

// memoryGiB finds the total memory in /proc/meminfo; 0 when it is not there.
func memoryGiB(meminfo string) float64 {
	for line := range strings.Lines(meminfo) {
		if rest, found := strings.CutPrefix(line, "MemTotal:"); found {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0
			}
			return kib / (1 << 20)
		}
	}
	return 0
}
