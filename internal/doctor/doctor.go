// Package doctor explains what is wrong with an instance: for each check whether all is well, and
// if not the cause, the evidence and the remedy.
//
// Examine depends on its arguments only: what the instance says of itself (the status of the
// control API, which includes what the daemon found on its host), and what whoever asks has seen of
// the host and of the paths. What was not seen is a finding of its own and never a fault. Collect
// looks: at the file, the host and the routes, and at the paths, for which it has the instance send
// echo requests. Nothing else is sent, and nothing is changed.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tund/internal/control"
)

// Schema names the document of `tunctl doctor --json`.
const Schema = "tund.doctor/v1"

// Severity says how much a finding matters.
type Severity string

// The severities, from the least to the greatest.
const (
	OK      Severity = "ok"      // the check found nothing
	Unseen  Severity = "unseen"  // something could not be looked at
	Note    Severity = "note"    // worth knowing; nothing needs to be done
	Warning Severity = "warning" // something works less well than it could, or not for everybody
	Problem Severity = "problem" // something that is configured does not work
)

// rank orders severities.
func rank(s Severity) int {
	return slices.Index([]Severity{OK, Unseen, Note, Warning, Problem}, s)
}

// Worse reports whether s matters more than other.
func (s Severity) Worse(other Severity) bool { return rank(s) > rank(other) }

// Finding is the result of a check about one thing.
type Finding struct {
	Check    string   `json:"check"` // its name: one of Checks
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // the peer, device or file it is about; "" for the instance
	Cause    string   `json:"cause"`   // what is wrong, or that nothing is
	// Evidence is what was seen, and Remedy what to do; "" if Cause says it or there is none.
	Evidence string `json:"evidence"`
	Remedy   string `json:"remedy"`
}

// Report is what was found about one instance.
type Report struct {
	Name  string   `json:"name"`
	Worst Severity `json:"worst"`
	// Findings has at least one for each check, the worst first.
	Findings []Finding `json:"findings"`
}

// Document is what `tunctl doctor --json` prints.
type Document struct {
	Schema    string   `json:"schema"` // Schema
	Instances []Report `json:"instances"`
}

// Evidence is what there is to examine.
type Evidence struct {
	Now      time.Time
	Instance *control.Instance
	Peer     string // name of the only peer of interest; "": all
	// Routes compares the wanted network configuration with the kernel's; nil: see RoutesUnseen.
	Routes       *control.RouteInstance
	RoutesUnseen string
	// Host is what was seen of the host; nil: see HostUnseen.
	Host       *Host
	HostUnseen string
	// Probes are the echo requests that were sent; nil: see ProbesUnseen.
	Probes       []Probe
	ProbesUnseen string
	// File is what was seen of the configuration file; nil: see FileUnseen.
	File       *File
	FileUnseen string
	// ToolVersion is that of the program that asks; "": the daemon itself.
	ToolVersion string
}

// check is one of the checks.
type check struct {
	name string
	find func(*Evidence) []Finding
}

// checks are all of them, in the order in which they are shown when nothing is wrong.
func checks() []check {
	return []check{
		{"configuration", (*Evidence).configuration},
		{"versions", (*Evidence).versions},
		{"devices", (*Evidence).devices},
		{"network", (*Evidence).network},
		{"sessions", (*Evidence).sessions},
		{"names", (*Evidence).names},
		{"clock", (*Evidence).clock},
		{"firewall", (*Evidence).firewall},
		{"forwarding", (*Evidence).forwarding},
		{"paths", (*Evidence).paths},
		{"offloads", (*Evidence).offloads},
		{"ethernet", (*Evidence).ethernet},
		{"load", (*Evidence).load},
		{"other", (*Evidence).others},
	}
}

// Checks lists the names of all checks.
func Checks() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// Examine runs every check.
func Examine(e *Evidence) Report {
	r := Report{Name: e.Instance.Name, Worst: OK}
	for _, c := range checks() {
		found := c.find(e)
		found = slices.DeleteFunc(found, func(f Finding) bool { return e.irrelevant(&f) })
		if len(found) == 0 {
			found = append(found, Finding{Severity: OK, Cause: e.fine(c.name)})
		}
		for _, f := range found {
			f.Check = c.name
			r.Findings = append(r.Findings, f)
			if f.Severity.Worse(r.Worst) {
				r.Worst = f.Severity
			}
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return r
}

// irrelevant reports whether a finding is about another peer than the one of interest.
func (e *Evidence) irrelevant(f *Finding) bool {
	if e.Peer == "" || f.Subject == e.Peer {
		return false
	}
	return slices.ContainsFunc(e.Instance.Peers, func(p control.Peer) bool { return p.Name == f.Subject })
}

// fine says what a check that found nothing has seen.
func (e *Evidence) fine(check string) string {
	i := e.Instance
	switch check {
	case "configuration":
		if i.Config == "" {
			return "the interface has no configuration file"
		}
		return i.Config + " is in force"
	case "versions":
		return "tund " + i.Version
	case "devices":
		return "all devices are up"
	case "network":
		if e.Routes == nil {
			return "the instance reports no problem"
		}
		return fmt.Sprintf("%d objects in the kernel are as wanted", len(e.Routes.Objects))
	case "sessions":
		return e.tally()
	case "names":
		return "all endpoints have addresses"
	case "paths":
		return e.probed()
	case "clock":
		return "nothing points to a wrong clock"
	case "firewall":
		return "no rule is known to keep peers away"
	case "forwarding":
		return "what is to be forwarded is forwarded"
	case "offloads":
		return "superpackets are in use on devices and sockets"
	case "ethernet":
		if i.FDBLimit == 0 {
			return "there is no [tap]"
		}
		return fmt.Sprintf("%d of at most %d MAC addresses are known", len(i.FDB), i.FDBLimit)
	case "load":
		return "not under load"
	}
	return "nothing else is reported"
}

// tally counts the peers by state.
func (e *Evidence) tally() string {
	count := make(map[control.PeerState]int)
	for n := range e.Instance.Peers {
		if p := &e.Instance.Peers[n]; e.Peer == "" || p.Name == e.Peer {
			count[p.State]++
		}
	}
	text := ""
	for _, state := range []control.PeerState{control.StateUp, control.StateConnecting, control.StateIdle, control.StateDown} {
		if count[state] > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%d %s", count[state], state)
		}
	}
	if text == "" {
		return "no peers"
	}
	return "peers: " + text
}

// warnings returns the instance's own warnings of some kinds as findings.
func (e *Evidence) warnings(severity Severity, kinds ...string) []Finding {
	var list []Finding
	for _, w := range e.Instance.Warnings {
		if slices.Contains(kinds, w.Kind) {
			f := Finding{Severity: severity, Subject: w.Subject, Cause: w.Message, Evidence: e.since(w.Since), Remedy: w.Remedy}
			if strings.HasPrefix(f.Cause, f.Subject) { // it names the place in the file
				f.Subject = ""
			}
			list = append(list, f)
		}
	}
	return list
}

// since says for how long something has been so.
func (e *Evidence) since(t control.Time) string {
	if t.IsZero() {
		return ""
	}
	return "since " + moment(t)
}

// moment writes a time with its date: what doctor explains may have lasted for days.
func moment(t control.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

func unseen(what, why string) []Finding {
	if why == "" {
		return nil
	}
	return []Finding{{Severity: Unseen, Cause: what + ": " + why}}
}
