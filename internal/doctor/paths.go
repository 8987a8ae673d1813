package doctor

import (
	"fmt"
	"strings"

	"tund/internal/control"
)

// Probe is the result of echo requests to a peer inside its session: small ones, and ones as large
// as the packets that hosts may send.
type Probe struct {
	Peer                 string
	Size                 int // bytes of a large one
	Small, Large         int // sent
	SmallBack, LargeBack int // answered
	RTTS                 float64
	Reason               string // why one had no answer
	Unsupported          bool   // the peer answers no such requests
}

// lossWorth is the share of lost requests that is worth a word. A single one may be chance.
const lossWorth = 0.4

// paths explains what is wrong with the way to peers that are up.
func (e *Evidence) paths() []Finding {
	list := unseen("the way to the peers", e.ProbesUnseen)
	for _, p := range e.Probes {
		switch {
		case p.Unsupported || p.Small == 0:
		case p.SmallBack == 0:
			list = append(list, Finding{
				Severity: Problem, Subject: p.Peer, Cause: "the peer has a session and answers no echo request",
				Evidence: fmt.Sprintf("%d sent, 0 answered: %s", p.Small, p.Reason),
				Remedy:   "see whether datagrams arrive there: tcpdump udp port PORT at the peer",
			})
		case p.LargeBack == 0 && p.Large > 0:
			list = append(list, Finding{
				Severity: Problem, Subject: p.Peer, Cause: "large packets to this peer or from it vanish, small ones pass: the path takes less than its MTU says",
				Evidence: fmt.Sprintf("of %d with %d bytes none came back, of %d small ones %d: %s", p.Large, p.Size, p.Small, p.SmallBack, p.Reason),
				Remedy:   e.smallerMTU(),
			})
		case float64(p.SmallBack+p.LargeBack) < (1-lossWorth)*float64(p.Small+p.Large):
			list = append(list, Finding{
				Severity: Warning, Subject: p.Peer, Cause: "the path loses many datagrams",
				Evidence: fmt.Sprintf("%d of %d echo requests had no answer: %s", p.Small+p.Large-p.SmallBack-p.LargeBack, p.Small+p.Large, p.Reason),
				Remedy:   "tunctl ping " + p.Peer + " --count 100 --interval 100ms measures it",
			})
		}
	}
	return list
}

// smallerMTU is the remedy for a path that takes less than it says.
func (e *Evidence) smallerMTU() string {
	text := "let ICMP \"fragmentation needed\" and \"packet too big\" pass on the way, or set a smaller MTU"
	for _, d := range e.Instance.Devices {
		if d.Kind == "tun" {
			text += fmt.Sprintf(" (now %d): mtu = 1280 in [tun]", d.MTU)
		}
	}
	return text
}

// probed says what the echo requests have shown when nothing is wrong, and which peers were reached
// without having been called first.
func (e *Evidence) probed() string {
	var parts []string
	answered := 0
	for _, p := range e.Probes {
		if p.SmallBack > 0 {
			answered++
		}
	}
	if answered > 0 {
		parts = append(parts, fmt.Sprintf("%d of the peers that are up answer echo requests, small and large ones", answered))
	}
	for n := range e.Instance.Peers {
		p := &e.Instance.Peers[n]
		if p.State == control.StateUp && p.Session != nil && !p.Session.Initiator {
			parts = append(parts, fmt.Sprintf("UDP port %d is reachable from outside: %s has begun its session", e.Instance.ListenPort, p.Name))
			break
		}
	}
	if parts == nil {
		return "nothing is known to be wrong"
	}
	return strings.Join(parts, "; ")
}
