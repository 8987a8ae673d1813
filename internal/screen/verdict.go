package screen

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/internal/control"
)

// problem is one reason for attention.
type problem struct {
	subject string // "instance" or "instance/peer"
	text    string
	grave   bool // something does not work, as opposed to: look at this
}

// problems collects what is wrong with an instance: the warnings of its daemon, and the problems
// visible in its state.
func problems(i *control.Instance, now time.Time) []problem {
	var list []problem
	if i.ConfigError != "" {
		list = append(list, problem{i.Name, "the last reload was refused, the older configuration is in force: " + i.ConfigError, true})
	}
	for _, d := range i.Devices {
		if !d.Up {
			list = append(list, problem{i.Name, "device " + d.Name + " is down (ip link set " + d.Name + " up)", true})
		}
	}
	said := make(map[[2]string]bool) // reasons of peers to which a warning would add nothing
	for n := range i.Peers {
		p := &i.Peers[n]
		said[[2]string{p.Name, p.LastError}] = true
		switch {
		case p.State == control.StateDown:
			list = append(list, problem{i.Name + "/" + p.Name, whyDown(p, now), true})
		case p.LastError != "":
			list = append(list, problem{i.Name + "/" + p.Name, string(p.State) + tries(p) + ": " + p.LastError, false})
		}
	}
	if i.UnderLoad {
		list = append(list, problem{i.Name, "under load: initiations are answered with cookies first", false})
	}
	for _, w := range i.Warnings {
		if w.Remedy == "" && said[[2]string{w.Subject, w.Message}] {
			continue
		}
		subject := i.Name
		if w.Subject != "" && w.Subject != i.Name && !strings.HasPrefix(w.Message, w.Subject) {
			subject += "/" + w.Subject
		}
		list = append(list, problem{subject, describe(&w, now), false})
	}
	slices.SortStableFunc(list, func(a, b problem) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// describe writes a warning: what it is, what to do about it, and for how long it has been there.
func describe(w *control.Warning, now time.Time) string {
	text := w.Message
	if w.Remedy != "" {
		text += "; " + w.Remedy
	}
	if !w.Since.IsZero() {
		text += " (for " + age(now.Sub(w.Since.Time)) + ")"
	}
	return text
}

func rank(p problem) int {
	if p.grave {
		return 0
	}
	return 1
}

// whyDown describes since when, after how many attempts and why a peer is down.
func whyDown(p *control.Peer, now time.Time) string {
	text := "down"
	if !p.StateSince.IsZero() {
		text += " for " + age(now.Sub(p.StateSince.Time))
	}
	text += tries(p)
	switch {
	case p.LastError != "":
		text += ": " + p.LastError
	case p.LastHandshake.IsZero():
		text += ": never had a session"
	default:
		text += ": last session " + since(p.LastHandshake.Time, now)
	}
	return text
}

// tries describes how often a handshake was tried in vain.
func tries(p *control.Peer) string {
	if p.Handshake.Tries <= 1 {
		return ""
	}
	return " after " + strconv.Itoa(p.Handshake.Tries) + " tries"
}

// tally counts peers by state, in words: "1 down, 2 up".
func tally(instances []control.Instance) string {
	counts := make(map[control.PeerState]int)
	total := 0
	for n := range instances {
		for _, p := range instances[n].Peers {
			counts[p.State]++
			total++
		}
	}
	var parts []string
	for _, state := range []control.PeerState{control.StateDown, control.StateConnecting, control.StateUp, control.StateIdle} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	if total == 0 {
		return "no peers"
	}
	return Plural(total, "peer") + ": " + strings.Join(parts, ", ")
}

// byUrgency orders peers: those with problems first, then those in use, then the idle ones, each
// group in the order of the configuration file.
func byUrgency(peers []control.Peer) []*control.Peer {
	order := map[control.PeerState]int{control.StateDown: 1, control.StateConnecting: 2, control.StateUp: 3, control.StateIdle: 4}
	list := make([]*control.Peer, len(peers))
	for n := range peers {
		list[n] = &peers[n]
	}
	slices.SortStableFunc(list, func(a, b *control.Peer) int { return cmp.Compare(order[a.State], order[b.State]) })
	return list
}

// urgent reports whether a peer is shown even if the list is cut.
func urgent(p *control.Peer) bool { return p.State != control.StateUp && p.State != control.StateIdle }
